"""Worker batches in: each is one transaction, and only then is there a receipt (DESIGN §5).

Replaying a batch any number of times changes nothing: what is at or under the mark is skipped. What the events come to
is decided in `hub.rules.reading`; here it is loaded and saved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hub.rules.batches import fresh
from hub.rules.offers import hides_tasks
from hub.rules.reading import Reading, read, tasks_of
from hub.store import cases
from hub.store.reports import add_rejections, add_reports, advance, mark_of
from hub.store.tasks import on_offer_to

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from broker.messages import Batch
    from hub.rules.reading import Source
    from hub.store.cases import Change


@dataclass(frozen=True, slots=True)
class Committed:
    """What a batch changed: true once its transaction is committed.

    Attributes:
        through: The mark of the stream now. Below the batch's first event when earlier ones are missing.
        reading: What was new in it; None if nothing was.

    """

    through: int
    changes: list[Change] = field(default_factory=list)
    reading: Reading | None = None


def apply_batch(connection: Connection, source: Source, batch: Batch, now: int) -> Committed:
    """Apply what is new in `batch`, in order, and move the mark of its stream."""
    mark = mark_of(connection, source.worker, batch.stream)
    events = fresh(batch, mark.through)
    if not events:
        return Committed(mark.through)
    asked = tasks_of(events)
    if hides_tasks(events):
        asked.update(on_offer_to(connection, source.worker))
    known = cases.load(connection, asked)
    boot = source.boot_after(batch.stream, mark.through, mark.boot)
    reading = read(events, source, known, boot, now)
    changes = cases.save(connection, known, reading.cases)
    add_rejections(connection, reading.rejections)
    add_reports(connection, source.worker, batch.stream, reading.reports)
    advance(connection, source.worker, batch.stream, batch.last, boot=reading.boot)
    return Committed(batch.last, changes, reading)
