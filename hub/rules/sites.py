"""Whether the workers of a site are gone, or its link is: all of them at nearly the same time (DESIGN §6)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hub.rules.presence import PresenceState, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hub.rules.presence import Presence

WINDOW_MS = 20_000
"""How far apart they are lost when a cable is cut: the broker finds each one dead within a keepalive of another."""

_LOST = frozenset({Reason.CONNECTION_LOST, Reason.HEARTBEAT_MISSED, Reason.SITE_LINK_DOWN})


def shown_anew(site: Mapping[str, Presence]) -> dict[str, Presence]:
    """Return which of one site's workers must be shown anew, since they are lost together, or are so no more.

    Lost together are at least two, within `WINDOW_MS` of the last, while nobody of the site is there; who was gone
    before does not count. Since when they are away does not change.
    """
    lost = {name: one for name, one in site.items() if one.state is PresenceState.OFFLINE and one.reason in _LOST}
    together = _lost_together(site, lost)
    return {
        name: replace(one, reason=Reason.SITE_LINK_DOWN if name in together else Reason.CONNECTION_LOST)
        for name, one in lost.items()
        if (name in together) != (one.reason is Reason.SITE_LINK_DOWN)
    }


def _lost_together(site: Mapping[str, Presence], lost: Mapping[str, Presence]) -> set[str]:
    if any(one.state is not PresenceState.OFFLINE for one in site.values()):
        return set()
    last = max((one.since_ms for one in lost.values()), default=0)
    together = {name for name, one in lost.items() if last - one.since_ms <= WINDOW_MS}
    return together if len(together) > 1 else set()
