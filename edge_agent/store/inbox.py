"""Tasks that were taken and have not ended, the memory of those that did, and answers that wait to be published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from broker.messages import ReplyTo, TaskSpec, Via, encode
from edge_agent.rules.attempts import Held, Known, Ref

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pydantic import JsonValue

    from broker.messages import Reply
    from edge_agent.store.database import Transaction

_HELD = "SELECT task, attempt, digest, spec, via, reply, accepted_at, running, handle FROM inbox ORDER BY task, attempt"
_HOLD = """
    INSERT INTO inbox (task, attempt, digest, spec, via, reply, accepted_at, running)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_REMEMBER = """
    INSERT INTO ended (task, attempt, digest, at) VALUES (?, ?, ?, ?)
    ON CONFLICT (task) DO UPDATE SET attempt = excluded.attempt, digest = excluded.digest, at = excluded.at
    WHERE excluded.attempt >= attempt
"""
_KNOWN = "SELECT task, attempt, digest FROM {table} WHERE task IN ({marks})"
_SPEC_FIELDS = set(TaskSpec.model_fields)
_MOST_NAMES = 500
"""Names in one query: SQLite takes 999 on old boards."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply that waits to be published."""

    id: int
    to: ReplyTo
    body: bytes


def hold(transaction: Transaction, attempts: Iterable[Held]) -> None:
    """Keep attempts until they end."""
    transaction.executemany(_HOLD, map(_row, attempts))


def mark_running(transaction: Transaction, refs: Iterable[Ref]) -> None:
    """Note that attempts were begun: after a crash they are not begun again."""
    transaction.executemany("UPDATE inbox SET running = 1 WHERE task = ? AND attempt = ?", refs)


def keep(transaction: Transaction, ref: Ref, handle: JsonValue) -> None:
    """Keep what finds the work of an attempt again, which has begun by that."""
    sql = "UPDATE inbox SET running = 1, handle = ? WHERE task = ? AND attempt = ?"
    transaction.execute(sql, (to_json(handle).decode(), *ref))


def end(transaction: Transaction, attempts: Sequence[Held], at: int) -> None:
    """Let attempts go, and remember their ids."""
    release(transaction, [one.ref for one in attempts])
    transaction.executemany(_REMEMBER, [(*one.ref, one.digest, at) for one in attempts])


def release(transaction: Transaction, refs: Iterable[Ref]) -> None:
    """Let attempts go without a memory: another worker may hold them, or this one again."""
    transaction.executemany("DELETE FROM inbox WHERE task = ? AND attempt = ?", refs)


def held(transaction: Transaction) -> list[Held]:
    """Return every attempt that is held; of one task the lower attempt first.

    One that cannot be read has a `problem`: it must not keep the agent from its other work.
    """
    return [_read(row) for row in transaction.execute(_HELD)]


def known(transaction: Transaction, tasks: Collection[str]) -> dict[str, Known]:
    """Return what is remembered of each of `tasks`: the highest attempt, held or ended."""
    found: dict[str, Known] = {}
    names = list(tasks)
    for start in range(0, len(names), _MOST_NAMES):
        some = names[start : start + _MOST_NAMES]
        for table in ("ended", "inbox"):
            query = _KNOWN.format(table=table, marks=",".join("?" * len(some)))
            for task, attempt, digest in transaction.execute(query, some):
                if task not in found or attempt > found[task].attempt:
                    found[task] = Known(attempt, digest)
    return found


def forget(transaction: Transaction, before: int) -> int:
    """Forget the ids of tasks that ended before a time in milliseconds; return how many."""
    return transaction.execute("DELETE FROM ended WHERE at < ?", (before,)).rowcount


def answer(transaction: Transaction, to: ReplyTo, reply: Reply) -> Answer:
    """Keep an answer until it is published."""
    body = encode(reply)
    sql = "INSERT INTO replies (topic, correlation, body) VALUES (?, ?, ?)"
    return Answer(transaction.execute(sql, (to.topic, to.correlation, body)).lastrowid or 0, to, body)


def answers(transaction: Transaction) -> list[Answer]:
    """Return every answer that waits, in order."""
    rows = transaction.execute("SELECT id, topic, correlation, body FROM replies ORDER BY id")
    return [
        Answer(number, ReplyTo(topic=topic, correlation=correlation), body) for number, topic, correlation, body in rows
    ]


def answered(transaction: Transaction, numbers: Iterable[int]) -> None:
    """Let answers go: they were published."""
    transaction.executemany("DELETE FROM replies WHERE id = ?", [(number,) for number in numbers])


def _read(row: tuple[Any, ...]) -> Held:
    task, attempt, digest, spec, via, reply, accepted_at, running, handle = row
    ref = Ref(task, attempt)
    try:
        return Held(
            ref=ref,
            digest=digest,
            spec=TaskSpec.model_validate_json(spec),
            via=Via(via) if via else None,
            reply=ReplyTo.model_validate_json(reply) if reply else None,
            accepted_at=accepted_at,
            running=bool(running),
            handle=from_json(handle) if handle else None,
        )
    except ValueError as error:  # pydantic's is one
        problem = f"what was kept of it could not be read: {error}"
        return Held(ref, TaskSpec(kind="unreadable"), digest, accepted_at, running=bool(running), problem=problem)


def _row(one: Held) -> tuple[str, int, str, str, str | None, str | None, int, bool]:
    spec = one.spec.model_dump_json(by_alias=True, include=_SPEC_FIELDS, exclude_defaults=True)
    reply = one.reply.model_dump_json(exclude_none=True) if one.reply else None
    return (*one.ref, one.digest, spec, one.via, reply, one.accepted_at, one.running)
