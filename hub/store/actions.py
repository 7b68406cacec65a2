"""Does to tasks what people asked for, and keeps who said what: a piece of work for the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import insert, select

from hub.errors import NotFound
from hub.rules.actions import act
from hub.store import cases
from hub.store.schema import actions

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hub.rules.actions import Action
    from hub.rules.task import Drop
    from hub.store.cases import Change


class Deed(NamedTuple):
    """What somebody did to a task, and what they said to it."""

    at_ms: int
    verb: str
    said: dict[str, Any]


class Done(NamedTuple):
    """What an action changed: true once its transaction is committed."""

    changes: list[Change]
    drops: tuple[Drop, ...]


def do(connection: Connection, task_id: str, action: Action, now: int) -> Done:
    """Do one thing to one task. Raises `NotFound`, or `NotPossible` where its state does not allow that."""
    before = cases.load(connection, [task_id])
    if task_id not in before:
        raise NotFound("id", task_id)
    case, drops = act(before[task_id], action, now)
    changes = cases.save(connection, before, {task_id: case})
    said = {name: value for name, value in action.said().items() if value is not None}
    connection.execute(insert(actions).values(task=task_id, at_ms=now, action=action.verb, body=to_json(said).decode()))
    return Done(changes, drops)


def deeds_of(connection: Connection, task_id: str) -> list[Deed]:
    """Return what people did to a task, in order."""
    query = select(actions.c.at_ms, actions.c.action, actions.c.body).where(actions.c.task == task_id)
    return [
        Deed(row.at_ms, row.action, from_json(row.body)) for row in connection.execute(query.order_by(actions.c.seq))
    ]
