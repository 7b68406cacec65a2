"""How often wrong credentials may be shown from one place, and after how long again: a bucket of tries for each.

Right credentials are never held up: they are looked at first. Pure bookkeeping: the time is an argument.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from typing import NamedTuple

TRIES = 10
"""In a row, before any is held up."""

SECONDS_PER_TRY = 6.0
"""After so long there is one more."""

MAX_PLACES = 4096
"""Places that are remembered; past that the one that has been quiet for longest is forgotten."""

_IPV6_NETWORK_BITS = 64
"""What one subscriber has of IPv6 (RFC 6177): all its addresses are one place."""


class _Bucket(NamedTuple):
    left: float
    at_seconds: float


class Failures:
    """Counts wrong credentials by where they came from."""

    def __init__(
        self, *, tries: int = TRIES, seconds_per_try: float = SECONDS_PER_TRY, places: int = MAX_PLACES
    ) -> None:
        self._tries = tries
        self._seconds_per_try = seconds_per_try
        self._most = places
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def count(self, address: str | None, now_seconds: float) -> int | None:
        """Count a failure; return None if it is answered, or after how many seconds the next one is.

        Args:
            address: Whence it came.
            now_seconds: By a clock that only goes forward.

        """
        place = place_of(address)
        left = self._left(place, now_seconds)
        if left < 1:
            self._keep(place, _Bucket(left, now_seconds))
            return math.ceil((1 - left) * self._seconds_per_try)
        self._keep(place, _Bucket(left - 1, now_seconds))
        return None

    def _left(self, place: str, now_seconds: float) -> float:
        known = self._buckets.get(place)
        if known is None:
            return self._tries
        return min(self._tries, known.left + (now_seconds - known.at_seconds) / self._seconds_per_try)

    def _keep(self, place: str, bucket: _Bucket) -> None:
        self._buckets[place] = bucket
        self._buckets.move_to_end(place)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)


def place_of(address: str | None) -> str:
    """Return what counts as one place: an address of IPv4, a /64 of IPv6."""
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, _IPV6_NETWORK_BITS), strict=False))
