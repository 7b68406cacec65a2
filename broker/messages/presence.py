"""Who is there: births, farewells and heartbeats, and how a worker finds the broker."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    TypeAdapter,
)

from broker.messages.base import (
    MAX_EVENT_NUMBER,
    Key,
    Kind,
    Message,
    Milliseconds,
    Scalar,
)
from broker.messages.tasks import TaskRef


class JournalPosition(Message):
    """What waits in a journal: sequence numbers `oldest` to `newest`; `oldest` is `newest + 1` where none does.

    Everything up to `settled` has had a receipt: a hub that has committed less has lost something.
    """

    stream: str
    oldest: int = Field(ge=1)
    newest: int = Field(ge=0, le=MAX_EVENT_NUMBER)
    settled: int = Field(default=0, ge=0, le=MAX_EVENT_NUMBER)


class Birth(Message):
    """A worker is online: what it can do, and its hello.

    Attributes:
        session: New for every connection.
        slots: How many tasks run at one time,
        concurrency: and of these kinds no more than so many.
        boot: New for every process: whose clock `at` is by.
        intake: New each time that the intake is opened. All that an earlier one took is in `held`, or in the journal.
        transport: How it is connected. By `http` it gets no tasks from its site's topic.
        schedules: The revision of what the hub has pushed to be fired here, and is on the disk.

    """

    state: Literal["online"] = "online"
    session: str
    boot: str
    at: Milliseconds
    version: str
    capabilities: dict[Key, Scalar] = {}
    slots: int = Field(ge=1)
    concurrency: dict[Kind, Annotated[int, Field(ge=1)]] = {}
    kinds: tuple[Kind, ...]
    heartbeat_interval_seconds: float = Field(gt=0)
    session_expiry_seconds: int = Field(ge=0)
    journal: JournalPosition
    held: tuple[TaskRef, ...] = ()
    intake: str = ""
    transport: Literal["mqtt", "http"] = "mqtt"
    schedules: str = ""


class Farewell(Message):
    """A worker is gone: `stopped` when it said so itself, `offline` when the broker says so for it (its will)."""

    state: Literal["offline", "stopped"]
    session: str


WorkerStatus = Annotated[Birth | Farewell, Field(discriminator="state")]
STATUS: TypeAdapter[Birth | Farewell] = TypeAdapter(WorkerStatus)


class JournalDepth(Message):
    """What waits in a journal."""

    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    oldest_at: Milliseconds | None = None


class ClockSample(Message):
    """A clock exchange, complete: hello sent and sync heard by the clock of `boot`, the two between by the hub's."""

    boot: str
    sent_at: Milliseconds
    received_at: Milliseconds
    answered_at: Milliseconds
    heard_at: Milliseconds


class HeartbeatMessage(Message):
    """A worker's load, and the leases that it keeps alive.

    Attributes:
        held: Every attempt whose end is not in the journal, running or queued; None where they are too many to name.
        position: How the journal stood when `held` was true.
        clock: The last exchange of the connection.
        storage: `full` while the disk takes nothing: the worker takes no tasks then.

    """

    session: str
    at: Milliseconds
    running: tuple[TaskRef, ...] = ()
    queued: int = Field(ge=0)
    journal: JournalDepth
    written_bytes_today: int = Field(ge=0)
    cpu_percent: float = Field(ge=0)
    memory_bytes: int = Field(ge=0)
    disk_free_bytes: int = Field(ge=0)
    held: tuple[TaskRef, ...] | None = None
    position: JournalPosition | None = None
    clock: ClockSample | None = None
    storage: Literal["ok", "full"] = "ok"


class HubStatusMessage(Message):
    """Whether a hub is there to take events; `session` is new for every connection."""

    state: Literal["online", "offline"]
    session: str
    version: str = ""


class Bootstrap(Message):
    """What `GET /api/bootstrap` tells a worker that knows only the hub's URL."""

    broker_url: str
    root: str
