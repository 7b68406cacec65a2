"""How the agent fares, for who looks from outside: a small file, which `edge-agent status` reads, and systemd's line.

The file is renewed each 10 s and at each change of state. It belongs on a tmpfs, since an idle agent writes to no disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from broker.log import get_logger
from edge_agent import status_file
from edge_agent.status_file import RENEW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOOK_SECONDS = 1.0
"""How late a change may be told."""

log = get_logger(__name__)


class State(StrEnum):
    """What the agent does, in a word.

    `online`: tasks come, and a hub takes what is reported. `alone`: the broker is there, and no hub. `connecting`:
    neither is. `enrolling`: the hub has not yet given it an account. `stopping`: it ends.
    """

    ENROLLING = "enrolling"
    CONNECTING = "connecting"
    ALONE = "alone"
    ONLINE = "online"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How it fares at a time.

    Attributes:
        transport: `mqtt` or `http`; None until there is a way.
        hub: Where the hub is.
        reason: Why it is not online, if that is known.
        remedy: What to do about it.

    """

    worker: str
    site: str
    state: State
    transport: str | None
    hub: str
    running: int
    queued: int
    journal_rows: int
    reason: str | None = None
    remedy: str | None = None

    def line(self) -> str:
        """Say it in a line, as `systemctl status` shows it.

        >>> Status(worker="w1", site="site-a", state=State.ONLINE, transport="mqtt", hub="http://hub:8000",
        ...        running=1, queued=0, journal_rows=7).line()
        'online by mqtt: w1 at site-a, 1 running, 0 queued, 7 events wait for the hub'
        """
        how = f" by {self.transport}" if self.state is State.ONLINE and self.transport else ""
        work = f"{self.running} running, {self.queued} queued, {self.journal_rows} events wait for the hub"
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.state.value}{how}: {self.worker} at {self.site}, {work}{why}"


async def keep_telling(
    look: Callable[[], Status], file: Path | None, tell: Callable[[str], None] | None = None
) -> None:
    """Write `file`, and `tell` the line, until cancelled; then remove the file. Where there is neither, do nothing.

    Args:
        look: Returns how it fares now.
        file: Where to.
        tell: Takes the line: systemd's.

    """
    if file is None and tell is None:
        return
    told: State | None = None
    due, failed = 0.0, False
    now = asyncio.get_running_loop().time
    try:
        while True:
            status = look()
            if status.state is not told or now() >= due:
                told, due = status.state, now() + RENEW_SECONDS
                if tell:
                    tell(status.line())
                failed = file is not None and not _write_or_tell(file, status, already_told=failed)
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        _remove(file)


def _remove(file: Path | None) -> None:
    if file:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def _write_or_tell(file: Path, status: Status, *, already_told: bool) -> bool:
    try:
        status_file.write(file, dataclasses.asdict(status))
    except OSError as error:
        if not already_told:
            log.warning("status_not_written", path=str(file), reason=error.strerror)
        return False
    return True
