"""Reads what a request shows of itself: a token (RFC 6750), or a worker's name and password (RFC 7617)."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

MAX_HEADER = 1024
"""Bytes of an `Authorization` header that are looked at: all that we give out are far shorter."""


class Bearer(NamedTuple):
    """A token as it was shown."""

    text: str


class Basic(NamedTuple):
    """A user name and a password."""

    username: str
    password: str


class Unreadable(NamedTuple):
    """Something that is neither; `reason` says what was expected."""

    reason: str


Credentials = Bearer | Basic | Unreadable

_EXPECTED = Unreadable("the Authorization header is not understood: expected 'Bearer hft_…', or 'Basic …' of a worker")


def read_credentials(header: bytes | None) -> Credentials | None:
    """Return what an `Authorization` header shows, None where there is none."""
    if header is None:
        return None
    if len(header) > MAX_HEADER:
        return Unreadable(f"the Authorization header is {len(header)} bytes long: expected at most {MAX_HEADER}")
    scheme, _, value = header.strip().partition(b" ")
    match scheme.lower():
        case b"bearer":
            return Bearer(value.strip().decode("latin-1"))
        case b"basic":
            return _basic(value.strip())
        case _:
            return _EXPECTED


def _basic(value: bytes) -> Basic | Unreadable:
    try:
        name, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return _EXPECTED
    return Basic(name, password) if colon else _EXPECTED
