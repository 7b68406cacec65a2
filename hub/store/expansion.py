"""Expands parents: a piece of work for the ledger. A parent begins in the transaction that makes its children."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from hub.rules import children
from hub.store import cases
from hub.store.schema import tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from hub.rules.children import Member
    from hub.store.cases import Change


def expand(
    connection: Connection, plans: Mapping[str, Sequence[Member]], now: int
) -> tuple[list[Change], dict[str, int]]:
    """Expand each of these parents that still waits for it.

    Args:
        connection: That of the ledger.
        plans: For each parent, who is given a child.
        now: Milliseconds.

    Returns:
        What changed, and how many children each parent that was expanded has.

    """
    changes: list[Change] = []
    made: dict[str, int] = {}
    before = cases.load(connection, plans)
    for parent, case in before.items():
        if children.is_unexpanded(case.task):
            ids = _free_ids(connection, parent, plans[parent])
            changes += cases.save(connection, {parent: case}, children.expanded(case, ids, now))
            made[parent] = len(ids)
    return changes, made


def _free_ids(connection: Connection, parent: str, members: Sequence[Member]) -> dict[Member, str]:
    """Return an id for each child, none of which is another task's."""
    ids: dict[Member, str] = {}
    waiting, choice = list(members), 0
    while waiting:
        wanted = {one: children.child_id(parent, one.worker, choice) for one in waiting}
        gone = _taken(connection, wanted.values()) | set(ids.values())
        ids |= {one: name for one, name in wanted.items() if name not in gone}
        waiting = [one for one in waiting if one not in ids]
        choice += 1
    return ids


def _taken(connection: Connection, ids: Iterable[str]) -> set[str]:
    return set(connection.execute(select(tasks.c.id).where(tasks.c.id.in_(list(ids)))).scalars())
