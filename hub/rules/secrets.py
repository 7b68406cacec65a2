"""The hub's secrets: one-time and API tokens, of which only a hash is kept, and passwords, which follow from a key.

A token is made of parts of fixed lengths, since its secret may have an underscore in it:

    hft_x3k7m2pq_<secret of 43 characters>                    a token of the API
    hfe_x3k7m2pq_<secret of 43 characters>_<32 hex digits>    one of enrolment, that names the CA to be trusted

Randomness comes in as an argument: `hub.keys` draws it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from enum import StrEnum
from typing import NamedTuple

ID_BYTES = 5
SECRET_BYTES = 32
TOKEN_BYTES = ID_BYTES + SECRET_BYTES
"""How much randomness a token takes."""

KEY_BYTES = 32
"""How long the hub's key is, from which passwords follow."""

FINGERPRINT_DIGITS = 32
"""Enough of a SHA-256: nobody makes another certificate with these 128 bits. An authority is public and lasts for
years: 64 would be within the reach of who rents a few thousand graphics cards for a few days."""

_TOKEN = re.compile(r"(hft|hfe)_([a-z0-9]{8})_([A-Za-z0-9_-]{43})(?:_([0-9a-f]{32}))?")


class Prefix(StrEnum):
    """What a token is for; people see it first."""

    API = "hft"
    ENROLMENT = "hfe"


class Token(NamedTuple):
    """A token in its parts. `str()` of it is what people are given, once.

    Attributes:
        prefix: What it is for.
        id: By which it is found, listed and spoken of; no secret.
        secret: The rest; kept nowhere.
        ca: How the hub's certificate authority is known (`fingerprint_of`), where there is one.

    """

    prefix: Prefix
    id: str
    secret: str
    ca: str | None = None

    def __str__(self) -> str:
        return "_".join(part for part in (self.prefix, self.id, self.secret, self.ca) if part)

    @property
    def hash(self) -> str:
        """What is kept of it: SHA-256 in hex. A slow hash would guard a secret that people choose; this is 256 bits."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def is_of(self, kept_hash: str) -> bool:
        """Tell whether this is the token of which `kept_hash` was kept, in a time that does not depend on how near."""
        return hmac.compare_digest(self.hash.encode(), kept_hash.encode())


def make_token(prefix: Prefix, random: bytes, ca: str | None = None) -> Token:
    """Return the token that `TOKEN_BYTES` random bytes make."""
    name = base64.b32encode(random[:ID_BYTES]).decode().lower()
    return Token(prefix, name, _text(random[ID_BYTES:TOKEN_BYTES]), ca)


def read_token(text: str, prefix: Prefix) -> Token | None:
    """Return a token as somebody shows it, or None for what is none of this prefix."""
    found = _TOKEN.fullmatch(text)
    if not found or found[1] != prefix:
        return None
    return Token(prefix, found[2], found[3], found[4])


def fingerprint_of(certificate_der: bytes) -> str:
    """Return how a token names a certificate: the beginning of its SHA-256, in hex."""
    return hashlib.sha256(certificate_der).hexdigest()[:FINGERPRINT_DIGITS]


def password_of(key: bytes, name: str, generation: int) -> str:
    """Return the password of an account of the broker, 43 url-safe characters.

    It is not stored anywhere: who has the key can fill a broker again that has lost its disk, and give an answer
    twice that got lost. The next generation is another password.
    """
    return _text(hmac.digest(key, f"{name}\0{generation}".encode(), "sha256"))


def key_name(key: bytes) -> str:
    """Return how a key is known, without telling anything of it."""
    return hmac.digest(key, b"name of the key", "sha256").hex()[:8]


def hash_of(text: str) -> str:
    """Return the SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _text(secret: bytes) -> str:
    return base64.urlsafe_b64encode(secret).decode().rstrip("=")
