"""The certificates of a broker's directory: an authority of our own or a given one, and the server's certificate."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.errors import InvalidInput
from broker.problems import Problem, shown
from hub.certificate_files import is_key_of, read_authority, read_certificates
from hub.certificates import expires_soon, hosts_of, is_issued_by, issue_server, make_authority
from hub.kept_files import PRIVATE, PUBLIC, write_file

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable
    from pathlib import Path

    from cryptography import x509

ALWAYS = ("localhost", "127.0.0.1", "::1")
"""Hosts that every server certificate is for: the hub beside the broker, and who looks for a fault there."""

AUTHORITY_NAME = "Holdfast private CA"


@dataclass(frozen=True, slots=True)
class BrokerCertificates:
    """What there is, and what is to be made of it.

    Attributes:
        directory: The hub's part; `ca.crt` and `ca.key` are there.
        broker: The broker's part.
        given: The files of an authority's certificate and key, where it is not to be one of our own.
        now: The time.

    """

    directory: Path
    broker: Path
    given: tuple[Path, Path] | None
    now: dt.datetime

    def make(self, hosts: tuple[str, ...]) -> list[str]:
        """Make what is missing, renew what ends soon; return a line for each. Raises `InvalidInput`."""
        said = self._make_authority()
        if not (self.broker / "ca.crt").exists():
            write_file(self.broker / "ca.crt", self._root_file.read_bytes(), PUBLIC)
        there = self._server()
        if there is None:
            wanted = _each((*(hosts or (socket.getfqdn(),)), *ALWAYS))
            return [*said, self._issue(wanted, f"for {', '.join(wanted)}")]
        if not is_issued_by(there, self._authority()):
            return said  # somebody's own: not ours to touch
        lacking = [host for host in hosts if host not in hosts_of(there)]
        if lacking:
            said.append(self._issue(_each((*hosts_of(there), *lacking)), f"made anew, for {', '.join(lacking)} too"))
        elif not is_key_of(self.broker / "server.key", there):
            said.append(self._issue(hosts_of(there), "made anew; its key was not there"))
        elif expires_soon(there, self.now):
            said.append(self._issue(hosts_of(there), f"renewed; the old one ends {there.not_valid_after_utc:%Y-%m-%d}"))
        return said

    @property
    def _root_file(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def _key_file(self) -> Path:
        return self.directory / "ca.key"

    def _authority(self) -> x509.Certificate:
        return read_certificates(self._root_file)[0]

    def _server(self) -> x509.Certificate | None:
        path = self.broker / "server.crt"
        return read_certificates(path)[0] if path.exists() else None

    def _make_authority(self) -> list[str]:
        if self.given:
            read_authority(*self.given)
        if self._root_file.exists():
            self._check_given()
            return []
        if self.given:
            write_file(self._root_file, self.given[0].read_bytes(), PUBLIC)
            return [f"{self._root_file}: the given authority's certificate; its key stays where it is"]
        made = make_authority(AUTHORITY_NAME, self.now)
        write_file(self._key_file, made.key, PRIVATE)  # before the certificate: alone that would be of no use
        write_file(self._root_file, made.certificate, PUBLIC)
        return [f"{self._root_file}, {self._key_file}: a private certificate authority"]

    def _check_given(self) -> None:
        """See that the authority that is to sign is the one whose certificate workers got from here."""
        if self.given and read_certificates(self.given[0])[0] != self._authority():
            expected = f"the authority of {self._root_file}; to change it, delete that file, ca.key and mosquitto/*.crt"
            raise InvalidInput([Problem("--ca", shown(str(self.given[0])), expected)])

    def _issue(self, hosts: tuple[str, ...], why: str) -> str:
        authority = read_authority(*(self.given or (self._root_file, self._key_file)))
        pair = issue_server(authority, hosts, self.now)
        write_file(self.broker / "server.key", pair.key, PRIVATE)
        write_file(self.broker / "server.crt", pair.certificate, PUBLIC)
        return f"{self.broker / 'server.crt'}, server.key: {why}"


def _each(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return hosts, each once, in their order."""
    return tuple(dict.fromkeys(hosts))
