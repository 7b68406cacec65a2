"""Time zones, as this host knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from broker.messages import LOCAL

if TYPE_CHECKING:
    from datetime import tzinfo


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its name; `local` is the host's. Raises `ValueError` if this host does not know it."""
    if name != LOCAL:
        try:
            return ZoneInfo(name)
        except (KeyError, OSError) as error:
            raise ValueError(f"a time zone that this host knows, not {name!r}") from error
    from tzlocal import get_localzone  # noqa: PLC0415  APScheduler brings it

    zone: tzinfo = get_localzone()
    return zone
