"""Keeps other web sites out: a browser sends what any page asks it to, from inside the network, and signed in.

Browsers say where a request comes from, and a page cannot forge that: `Sec-Fetch-Site` (W3C Fetch Metadata) to hosts
that they trust, and `Origin` with each write (RFC 6454). Programs that are no browsers send neither, and pass.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing here: what they answer, a browser keeps from other sites by itself."""

_OWN = frozenset({b"same-origin", b"none"})
"""From a page of ours, or typed by a person."""


class Told(NamedTuple):
    """What a request's headers say of where it comes from and what host it is meant for."""

    host: bytes | None = None
    origin: bytes | None = None
    fetch_site: bytes | None = None


def is_cross_site(method: str, told: Told) -> bool:
    """Tell whether a page of another site wants something changed."""
    if method in SAFE:
        return False
    if told.fetch_site is not None:
        return told.fetch_site not in _OWN
    return told.origin is not None and _netloc(told.origin) != (told.host or b"").lower()


def is_misnamed(told: Told) -> bool:
    """Tell whether a request is meant for a host by a name that a hub on loopback does not have.

    A site whose name was made to lead to 127.0.0.1 (DNS rebinding) is of the same origin to a browser; but its name
    shows. A hub that lets anybody in takes no other names than those of loopback, and plain addresses.
    """
    try:
        name = urlsplit(f"//{(told.host or b'').decode('latin-1')}").hostname or ""
        return not (name == "localhost" or name.endswith(".localhost") or bool(ipaddress.ip_address(name)))
    except ValueError:
        return True


def _netloc(origin: bytes) -> bytes:
    return origin.lower().partition(b"://")[2]
