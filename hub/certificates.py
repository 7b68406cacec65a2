"""A private certificate authority, and what it signs: server certificates for the broker, client certificates.

EC P-256 throughout: small, fast on an Arm board, and understood by everything that speaks TLS 1.2. Lifetimes are ours
to choose, since no browser's rules bind a private authority: workers keep its certificate for as long as they stand.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from broker.errors import InvalidInput
from broker.problems import Problem, shown
from hub.certificate_parts import authority_key, begin, general_name, hash_for, key_pem, name_of, usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import (
        CertificateIssuerPrivateKeyTypes,
    )

AUTHORITY_DAYS = 20 * 365
"""To replace it means a visit to every worker."""

CERTIFICATE_DAYS = 730
RENEW_DAYS = 30
"""How long before its end a certificate is renewed."""

MAX_COMMON_NAME = 64
"""RFC 5280, appendix A.1: ub-common-name."""

_CLIENT = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{MAX_COMMON_NAME - 1}}}\Z")


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs: a certificate and its key, and what leads from that to the root, if it is no root itself."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes
    above: tuple[x509.Certificate, ...] = ()

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What a server sends after its own certificate: all but the root, which who connects must have anyhow."""
        return tuple(one for one in (self.certificate, *self.above) if one.issuer != one.subject)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, both PEM."""

    certificate: bytes
    key: bytes


def make_authority(name: str, now: dt.datetime) -> Pair:
    """Return a new certificate authority, that signs certificates of hosts and clients and no further authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = name_of(name)
    certificate = (
        begin(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(pem_of(certificate), key_pem(key))


def issue_server(authority: Authority, hosts: Sequence[str], now: dt.datetime) -> Pair:
    """Return a certificate for a server that is reached by `hosts`: names and addresses, at least one.

    Raises:
        InvalidInput: If one of them is neither.

    """
    names = x509.SubjectAlternativeName([general_name(host) for host in hosts])
    return _issue(authority, hosts[0], ExtendedKeyUsageOID.SERVER_AUTH, now, names)


def issue_client(authority: Authority, username: str, now: dt.datetime) -> Pair:
    """Return a certificate for a client; its common name is `username`. Raises `InvalidInput` if it cannot be."""
    if not _CLIENT.match(username):
        expected = f"1 to {MAX_COMMON_NAME} letters, digits, '.', '_' and '-', with no '.' or '-' first"
        raise InvalidInput([Problem("NAME", shown(username), expected)])
    return _issue(authority, username, ExtendedKeyUsageOID.CLIENT_AUTH, now)


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names and addresses that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress)))


def expires_soon(certificate: x509.Certificate, now: dt.datetime) -> bool:
    """Tell whether a certificate is to be renewed."""
    return certificate.not_valid_after_utc <= now + dt.timedelta(days=RENEW_DAYS)


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether `issuer` has signed `certificate`."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # noqa: BLE001  it has a type of its own for each way in which it is not
        return False
    return True


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's DER, in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def pem_of(*certificates: x509.Certificate) -> bytes:
    """Return certificates as PEM, one after the other."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def _issue(
    authority: Authority, name: str, purpose: x509.ObjectIdentifier, now: dt.datetime, *more: x509.ExtensionType
) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = name_of(name[:MAX_COMMON_NAME])
    builder = (
        begin(subject, authority.certificate.subject, key.public_key(), now, CERTIFICATE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(authority_key(authority.certificate), critical=False)
    )
    for extension in more:
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(authority.key, hash_for(authority.key))
    return Pair(pem_of(certificate, *authority.chain), key_pem(key))
