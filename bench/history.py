"""Journals as agents leave them that have worked for long with no hub to tell."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from broker.messages import Injected, Outcome, TaskAccepted, TaskFinished, TaskSpec, TaskStarted, Via, encode
from edge_agent.rules.eviction import class_of
from edge_agent.store.sqlite import connect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pydantic import JsonValue

    from broker.messages import Event

EVENTS_A_TASK = 3


def fill(journal: Path, events: Iterable[Event]) -> None:
    """Write a journal in which `events` wait."""
    with closing(connect(journal)) as database:
        database.execute("BEGIN")
        database.executemany(
            "INSERT INTO journal (at, body, class) VALUES (?, ?, ?)",
            ((event.at, encode(event), int(class_of(event))) for event in events),
        )
        database.execute("COMMIT")


def tasks_of_a_site(name: str, count: int, began: int) -> Iterator[Event]:
    """Yield what is told of `count` tasks that were injected at a site: `EVENTS_A_TASK` for each."""
    injected = Injected(spec=TaskSpec(kind="noop", params={"n": 1}), via=Via.SITE)
    for number in range(count):
        task, at = f"{name}-{number}", began + number
        yield TaskAccepted(at=at, task=task, attempt=1, injected=injected)
        yield TaskStarted(at=at, task=task, attempt=1)
        yield result(task, at)


def result(task: str, at: int) -> TaskFinished:
    """Return the end of a task that said a line."""
    said: JsonValue = {"exit_code": 0, "output": "x" * 60, "truncated": False}
    return TaskFinished(at=at, task=task, attempt=1, outcome=Outcome.SUCCEEDED, result=said)
