"""Does to tasks what people asked for, and keeps who said what: a piece of work for the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import insert, select

from hub.errors import NotFound
from hub.rules.actions import Verb, act
from hub.rules.children import is_parent
from hub.rules.parents import act as act_on_parent
from hub.store import cases
from hub.store.audit import write
from hub.store.parents import children_of
from hub.store.schema import actions

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hub.rules.actions import Action
    from hub.rules.callers import Caller
    from hub.rules.task import Case, Drop
    from hub.store.cases import Change


_AUDITED = {Verb.CANCEL: "task.cancelled", Verb.RETRY: "task.retried", Verb.RESOLVE: "task.resolved"}


class Deed(NamedTuple):
    """What somebody did to a task, and what they said to it."""

    at_ms: int
    verb: str
    said: dict[str, Any]


class Done(NamedTuple):
    """What an action changed: true once its transaction is committed."""

    changes: list[Change]
    drops: tuple[Drop, ...]


def do(connection: Connection, task_id: str, action: Action, now: int, by: Caller) -> Done:
    """Do one thing to one task, as `by` asked. Raises `NotFound`, and `NotPossible` where its state forbids that."""
    before = cases.load(connection, [task_id])
    if task_id not in before:
        raise NotFound("id", task_id)
    after, drops = _acted(connection, before, task_id, action, now)
    changes = cases.save(connection, before, after)
    said = to_json({name: value for name, value in action.said().items() if value is not None}).decode()
    deeds = [{"task": moved, "at_ms": now, "action": action.verb, "body": said} for moved in after]
    connection.execute(insert(actions), deeds)
    write(connection, by.did(_AUDITED[action.verb], task_id))
    return Done(changes, drops)


def _acted(
    connection: Connection, before: dict[str, Case], task_id: str, action: Action, now: int
) -> tuple[dict[str, Case], tuple[Drop, ...]]:
    """Return what an action makes of a task, and of its children; those are loaded into `before`."""
    case = before[task_id]
    if not is_parent(case.task):
        moved, drops = act(case, action, now)
        return {task_id: moved}, drops
    children = cases.load(connection, children_of(connection, task_id))
    before |= children
    return act_on_parent(case, children, action, now)


def deeds_of(connection: Connection, task_id: str) -> list[Deed]:
    """Return what people did to a task, in order."""
    query = select(actions.c.at_ms, actions.c.action, actions.c.body).where(actions.c.task == task_id)
    return [
        Deed(row.at_ms, row.action, from_json(row.body)) for row in connection.execute(query.order_by(actions.c.seq))
    ]
