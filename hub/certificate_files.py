"""Reads certificates and keys from files, and says which file is to blame for what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from broker.errors import InvalidInput
from broker.problems import Problem, shown
from hub.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

SIGNING_KEYS = (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a PEM file, in its order, at least one. Raises `InvalidInput`."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise _wrong(path, f"a file that can be read ({error.strerror})") from None
    except ValueError:
        raise _wrong(path, "one or more certificates in PEM: -----BEGIN CERTIFICATE-----") from None


def read_authority(certificate: Path, key: Path) -> Authority:
    """Return who signs with `key`: the first certificate of the file; what follows leads to its root.

    Raises:
        InvalidInput: If a file cannot be used, the two do not belong together, or the certificate may not sign others.

    """
    first, *above = read_certificates(certificate)
    signer = _read_key(key)
    if signer.public_key() != first.public_key():
        raise _wrong(key, f"the key of the certificate in {certificate}")
    if not _may_sign(first):
        raise _wrong(certificate, "a certificate authority's certificate; this one may not sign others")
    return Authority(first, signer, tuple(above))


def is_key_of(key: Path, certificate: x509.Certificate) -> bool:
    """Tell whether a file holds the key of a certificate."""
    try:
        return _read_key(key).public_key() == certificate.public_key()
    except InvalidInput:
        return False


def _read_key(path: Path) -> CertificateIssuerPrivateKeyTypes:
    expected = "a private key in PEM, EC or RSA or Ed25519, without a passphrase"
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise _wrong(path, f"a file that can be read ({error.strerror})") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _wrong(path, expected) from None
    if not isinstance(key, SIGNING_KEYS):
        raise _wrong(path, expected)
    return key


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _wrong(path: Path, expected: str) -> InvalidInput:
    return InvalidInput([Problem("file", shown(str(path)), expected)])
