"""How the journal goes to the hub: a window of batches in flight, and all of it again when a receipt stays away.

It is go-back-N (RFC 3366, §2.1.2): receipts are cumulative, so after a silence everything from the oldest batch
without a receipt is sent again, in order. The hub skips what it has. Nothing is sent before a sync has said where the
hub stands, and nothing while it is away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

WINDOW_BATCHES = 4
RECEIPT_TIMEOUT_SECONDS = 10.0
MAX_RECEIPT_TIMEOUT_SECONDS = 120.0
PROMPT_SECONDS = 2.0
"""A hub whose receipts come within this time commits promptly: gentle mode may rely on it."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A batch that was sent, and has no receipt yet."""

    first: int
    last: int
    sent_at: float


@dataclass(frozen=True, slots=True)
class Flow:
    """Where the sending of one stream stands.

    Attributes:
        open: Whether the hub has said where it stands, and is there.
        settled: Everything up to here has its receipt.
        cursor: The next event to send.
        flights: What is on its way, in order.
        silences: Receipts that stayed away in a row; each doubles the patience.
        credit: How many more batches the hub takes now; None is as many as there are.

    """

    open: bool = False
    settled: int = 0
    cursor: int = 1
    flights: tuple[Flight, ...] = ()
    silences: int = 0
    credit: int | None = None


def may_send(flow: Flow) -> bool:
    """Tell whether one more batch may go now."""
    return flow.open and len(flow.flights) < WINDOW_BATCHES and flow.credit != 0


def on_sync(flow: Flow, through: int, credit: int | None) -> Flow:
    """Begin where the hub stands. What was in flight is forgotten: it counts as sent only with a receipt."""
    return Flow(open=True, settled=max(flow.settled, through), cursor=through + 1, credit=credit)


def on_hub_away(flow: Flow) -> Flow:
    """Stop sending until the next sync."""
    return replace(flow, open=False, flights=(), silences=0)


def on_sent(flow: Flow, first: int, last: int, now: float) -> Flow:
    """Note a batch as sent."""
    credit = None if flow.credit is None else flow.credit - 1
    return replace(flow, cursor=last + 1, flights=(*flow.flights, Flight(first, last, now)), credit=credit)


def on_credit(flow: Flow, batches: int | None) -> Flow:
    """Let this many more batches go; None is as many as there are."""
    return replace(flow, credit=None if batches is None else (flow.credit or 0) + batches)


def on_receipt(flow: Flow, through: int, now: float) -> Flow:
    """Take a receipt. One that says nothing new changes nothing; one for a part of a batch leaves its rest.

    Nor does one that comes before the sync: the broker kept it, and the hub may have lost since what it speaks of.
    """
    if not flow.open or through <= flow.settled:
        return flow
    flights = tuple(
        replace(flight, first=max(flight.first, through + 1), sent_at=now)  # it was heard: patience begins anew
        for flight in flow.flights
        if flight.last > through
    )
    return replace(flow, settled=through, cursor=max(flow.cursor, through + 1), flights=flights, silences=0)


def deadline(flow: Flow) -> float | None:
    """Return when the next silence is too long."""
    return flow.flights[0].sent_at + patience_seconds(flow.silences) if flow.flights else None


def next_look(flow: Flow, now: float) -> float | None:
    """Return when a silence, if it lasts, changes something: the hub is prompt no more, or a batch is sent again."""
    due = deadline(flow)
    if due is None or not is_prompt(flow, now):
        return due
    return min(due, flow.flights[0].sent_at + PROMPT_SECONDS)


def is_prompt(flow: Flow, now: float) -> bool:
    """Tell whether the hub is there, and no receipt of it is late."""
    is_late = bool(flow.flights) and now - flow.flights[0].sent_at >= PROMPT_SECONDS
    return flow.open and not flow.silences and not is_late


def on_tick(flow: Flow, now: float) -> Flow:
    """Go back to what has a receipt, if the next one stayed away too long.

    Not to the first event that was sent: where those between the two were dropped, the batch must say so once more, or
    the hub waits for them.
    """
    due = deadline(flow)
    if due is None or now < due:
        return flow
    credit = None if flow.credit is None else flow.credit + len(flow.flights)
    return replace(flow, cursor=flow.settled + 1, flights=(), silences=flow.silences + 1, credit=credit)


def patience_seconds(silences: int) -> float:
    """Return how long a receipt may take after so many that stayed away."""
    return min(MAX_RECEIPT_TIMEOUT_SECONDS, RECEIPT_TIMEOUT_SECONDS * 2.0 ** min(silences, 10))
