"""What can be told of an enrolment without the hub: whether a token is one, whom it trusts, who could listen."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from broker.errors import InvalidInput
from broker.problems import Problem

_TOKEN = re.compile(r"(hf[a-z])_([a-z0-9]{8})_[A-Za-z0-9_-]{43}(?:_([0-9a-f]{32}))?")
_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")
_ENROLMENT = "hfe"
_PEM_COLUMNS = 64
"""RFC 7468, section 2."""

_HOME = (".local", ".lan", ".home", ".internal", ".home.arpa", ".localdomain")
"""What names end in that are of no use beyond a network at home or in a cluster (RFC 6762, RFC 8375, ICANN)."""


class Token(NamedTuple):
    """A one-time token. `fingerprint` begins the SHA-256 of the authority that the hub has; None, if it has none."""

    text: str
    id: str
    fingerprint: str | None

    @property
    def digest(self) -> str:
        """By what it is known in files that are not to hold it."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_token(text: str, field: str) -> Token:
    """Return a token as somebody gave it. Raises `InvalidInput` that names `field`, and does not show the token."""
    given = text.strip()
    found = _TOKEN.fullmatch(given)
    if found and found[1] == _ENROLMENT:
        return Token(given, found[2], found[3])
    shown = f"a text of {len(given)} characters" if given else "empty"
    if found:
        shown = f"a token that begins with {found[1]}_, which is for something else"
    expected = "a one-time token, whole: hfe_…, as edge-hub workers enrol --site … prints it"
    raise InvalidInput([Problem(field, shown, expected)])


def vouched(pem: str, fingerprint: str) -> str | None:
    """Return the one certificate of `pem` whose SHA-256 begins with `fingerprint`.

    No other is returned with it: who sends the right one and adds his own would be trusted, too. And it is written anew
    from what the fingerprint is of, lest TLS read something else in the same text.
    """
    for block in _BLOCK.finditer(pem):
        try:
            der = base64.b64decode(block[1])
        except binascii.Error:
            continue
        if hashlib.sha256(der).hexdigest().startswith(fingerprint):
            return _pem(der)
    return None


def _pem(der: bytes) -> str:
    text = base64.b64encode(der).decode()
    lines = (text[start : start + _PEM_COLUMNS] for start in range(0, len(text), _PEM_COLUMNS))
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


def goes_in_clear(url: str) -> bool:
    """Tell whether a secret that is sent to `url` could be read on its way, beyond a network of one's own."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" or host == "localhost" or host.endswith(_HOME):
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." in host  # one word is a name of the local network, or of a compose file
    return not (address.is_private or address.is_loopback or address.is_link_local)
