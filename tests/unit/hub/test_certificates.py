"""What the private authority signs, and what others' authorities must be."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from broker.errors import InvalidInput
from hub.certificate_files import read_authority, read_certificates
from hub.certificates import (
    CERTIFICATE_DAYS,
    RENEW_DAYS,
    Authority,
    expires_soon,
    hosts_of,
    is_issued_by,
    issue_client,
    issue_server,
    make_authority,
)

if TYPE_CHECKING:
    from pathlib import Path

    from hub.certificates import Pair

NOW = dt.datetime(2026, 11, 26, tzinfo=dt.UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return read(tmp_path, make_authority("Test CA", NOW))


def read(folder: Path, pair: Pair, name: str = "ca") -> Authority:
    certificate, key = written(folder, pair, name)
    return read_authority(certificate, key)


def written(folder: Path, pair: Pair, name: str) -> tuple[Path, Path]:
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(pair.certificate)
    paths[1].write_bytes(pair.key)
    return paths


def first(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificates(pair.certificate)[0]


def test_a_server_certificate_is_for_names_and_addresses(authority: Authority) -> None:
    hosts = ["broker.example", "*.lab.example", "10.1.2.3", "fd00::1"]
    certificate = first(issue_server(authority, hosts, NOW))
    assert set(hosts_of(certificate)) == set(hosts)
    assert is_issued_by(certificate, authority.certificate)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_clients_certificate_is_for_clients_only_and_has_its_name(authority: Authority) -> None:
    certificate = first(issue_client(authority, "w1", NOW))
    assert certificate.subject.rfc4514_string() == "CN=w1"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


@pytest.mark.parametrize("host", ["", "broker.example:8883", "mqtts://broker.example", "ü.example", "a b", "a\n", "-x"])
def test_what_is_no_host_is_refused(authority: Authority, host: str) -> None:
    with pytest.raises(InvalidInput, match="--host is "):
        issue_server(authority, [host], NOW)


@pytest.mark.parametrize("name", ["", "x" * 65, "a/b", "..", "a b", "a\n"])
def test_a_name_that_no_certificate_can_have_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(InvalidInput, match=r"NAME is .*1 to 64 letters"):
        issue_client(authority, name, NOW)


def test_it_is_to_be_renewed_thirty_days_before_its_end(authority: Authority) -> None:
    certificate = first(issue_client(authority, "w1", NOW))
    due = NOW + dt.timedelta(days=CERTIFICATE_DAYS - RENEW_DAYS)
    assert [expires_soon(certificate, due + dt.timedelta(seconds=late)) for late in (-1, 0)] == [False, True]


def test_a_clock_that_is_a_little_behind_finds_it_valid_already(authority: Authority) -> None:
    assert first(issue_client(authority, "w1", NOW)).not_valid_before_utc < NOW - dt.timedelta(hours=12)


def test_a_signature_of_another_authority_of_the_same_name_does_not_count(authority: Authority, tmp_path: Path) -> None:
    other = read(tmp_path, make_authority("Test CA", NOW), "other")
    assert not is_issued_by(first(issue_client(other, "w1", NOW)), authority.certificate)


def test_what_leads_to_the_root_is_sent_and_the_root_is_not(authority: Authority, tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    between = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "between")]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority.key, authority.certificate.signature_hash_algorithm)  # type: ignore[arg-type]
    )
    pem = between.public_bytes(serialization.Encoding.PEM)
    chain = tmp_path / "chain.crt"
    chain.write_bytes(pem + authority.certificate.public_bytes(serialization.Encoding.PEM))
    private = tmp_path / "between.key"
    raw = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, *raw))

    issued = issue_server(read_authority(chain, private), ["broker.example"], NOW)
    (tmp_path / "server.crt").write_bytes(issued.certificate)
    leaf, *rest = read_certificates(tmp_path / "server.crt")
    assert is_issued_by(leaf, between)
    assert rest == [between]


def test_an_authority_that_cannot_sign_is_refused_and_the_file_is_named(authority: Authority, tmp_path: Path) -> None:
    certificate, key = written(tmp_path, issue_client(authority, "w1", NOW), "leaf")
    with pytest.raises(InvalidInput, match=r"leaf\.crt.*may not sign others"):
        read_authority(certificate, key)
    with pytest.raises(InvalidInput, match=r"leaf\.key.*the key of the certificate in"):
        read_authority(tmp_path / "ca.crt", key)
    with pytest.raises(InvalidInput, match=r"leaf\.crt.*a private key in PEM"):
        read_authority(tmp_path / "ca.crt", certificate)
    with pytest.raises(InvalidInput, match=r"leaf\.key.*one or more certificates in PEM"):
        read_authority(key, key)
    with pytest.raises(InvalidInput, match=r"none\.crt.*a file that can be read"):
        read_authority(tmp_path / "none.crt", key)
