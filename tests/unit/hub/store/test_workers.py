"""What is kept of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.messages import Birth, HeartbeatMessage, JournalDepth, JournalPosition, TaskRef
from hub.rules.presence import Presence, PresenceState, Reason
from hub.store.workers import WorkerRow, load_workers, save_worker

if TYPE_CHECKING:
    from sqlalchemy import Connection

BIRTH = Birth(
    session="s1",
    boot="b1",
    at=1,
    version="0.1.0",
    capabilities={"docker": True, "memory_mb": 512, "arch": "arm64"},
    slots=2,
    kinds=("noop", "sleep"),
    heartbeat_interval_seconds=30,
    session_expiry_seconds=60,
    journal=JournalPosition(stream="st", oldest=1, newest=0),
)
HEARTBEAT = HeartbeatMessage(
    session="s1",
    at=2,
    running=(TaskRef(task="t1", attempt=1),),
    queued=1,
    journal=JournalDepth(rows=1, bytes=2, oldest_at=3),
    written_bytes_today=4,
    cpu_percent=0.5,
    memory_bytes=5,
    disk_free_bytes=6,
)


def test_a_worker_is_read_as_it_was_written(connection: Connection) -> None:
    gone = Presence(PresenceState.OFFLINE, Reason.STOPPED, 7, "s1", 8, 8)
    row = WorkerRow("w1", "site-a", gone, BIRTH, HEARTBEAT)
    save_worker(connection, row)
    assert load_workers(connection) == [row]


def test_a_worker_is_kept_once(connection: Connection) -> None:
    save_worker(connection, WorkerRow("w1", "site-a", Presence(), None, None))
    save_worker(connection, WorkerRow("w1", "site-b", Presence(session="s2"), BIRTH, None))
    (row,) = load_workers(connection)
    assert (row.site, row.presence.session, row.birth, row.heartbeat) == ("site-b", "s2", BIRTH, None)
