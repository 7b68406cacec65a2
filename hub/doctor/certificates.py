"""The doctor at the certificates: when each ends, and whether it holds already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.doctor import Finding, bad, ok, warn
from broker.errors import InvalidInput
from hub.certificate_files import read_certificates
from hub.certificates import expires_soon

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography import x509

    from hub.settings import HubSettings

_RENEW = "renew it: edge-hub broker init renews what it has made (docs/tls.md)"


def check_certificates(settings: HubSettings, now: dt.datetime) -> Iterator[Finding]:
    """Look at each certificate that the settings name."""
    named = {
        "HUB_TLS_CA": settings.tls_ca,
        "HUB_PUBLIC_CA": settings.public_ca,
        "HUB_TLS_CERTIFICATE": settings.tls_certificate,
        "HUB_HTTP_TLS_CERTIFICATE": settings.http_tls_certificate,
    }
    given = {name: path for name, path in named.items() if path is not None}
    if not given:
        yield ok("none is set")
    for name, path in given.items():
        yield _of_file(name, path, now)


def _of_file(name: str, path: Path, now: dt.datetime) -> Finding:
    try:
        certificates = read_certificates(path)
    except InvalidInput as error:
        return bad(f"{name}: {error}", "give a file in PEM that this user can read")
    worst = min(certificates, key=lambda one: one.not_valid_after_utc)
    return judge(f"{name} ({path})", worst, now)


def judge(name: str, certificate: x509.Certificate, now: dt.datetime) -> Finding:
    """Say how a certificate stands at `now`."""
    ends = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    if certificate.not_valid_after_utc <= now:
        return bad(f"{name} has ended on {ends}", _RENEW)
    if certificate.not_valid_before_utc > now:
        begins = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M}"
        return bad(f"{name} holds only from {begins} UTC", "set this machine's clock, if that is wrong")
    if expires_soon(certificate, now):
        return warn(f"{name} ends on {ends}", _RENEW)
    return ok(f"{name} holds until {ends}")
