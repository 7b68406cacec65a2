"""What a journal says first at each start: whose clock counts from here, and what the last run left to be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker import __version__
from broker.messages import Dropped, Event, Gap, IncidentRaised, WorkerStarted
from edge_agent.store import notes

if TYPE_CHECKING:
    from edge_agent.store.database import Transaction
    from edge_agent.store.journal import Journal

INCIDENT = "journal_corrupt"


def begin(transaction: Transaction, journal: Journal, *, boot: str, at: int) -> None:
    """Write the events that a boot begins with, within `transaction`."""
    left = notes.take(transaction)
    events: list[Event] = [WorkerStarted(at=at, boot=boot, version=__version__)]
    if notes.CUT_SHORT in left:
        events.append(cut_short(at, left[notes.CUT_SHORT]))
    if notes.SET_ASIDE in left:
        events += set_aside(at, left[notes.SET_ASIDE])
    journal.append(transaction, events)


def cut_short(at: int, hold_seconds: str) -> Gap:
    """Return what is told after a run in gentle mode that did not end in order."""
    reason = f"gentle mode: up to {hold_seconds} s of events may be missing after a crash"
    return Gap(at=at, dropped=Dropped.RECENT, last_at=at, reason=reason)


def set_aside(at: int, file: str) -> list[Event]:
    """Return what is told after a damaged file was set aside."""
    return [
        Gap(
            at=at,
            dropped=Dropped.EVERYTHING,
            last_at=at,
            reason=f"the journal was damaged: what it held and the hub did not have is in {file}",
        ),
        IncidentRaised(
            at=at,
            fingerprint=f"{INCIDENT}:{file}",
            incident=INCIDENT,
            severity="error",
            summary=f"The journal was damaged. It was set aside as {file}, and a new one was begun.",
            labels={"file": file},
        ),
    ]
