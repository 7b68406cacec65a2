"""Why a connection could not be made: what cannot be brought about with a real one."""

from __future__ import annotations

import errno
import socket

import pytest

from broker.trouble import Peer, closed_at_once, of_connecting

PEER = Peer(host="hub.example", port=8000, secure=False, prefix="WORKER_")
SECURE = Peer(host="hub.example", port=443, secure=True, prefix="WORKER_")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "there is no host 'hub.example'"),
        (socket.gaierror(socket.EAI_AGAIN, "later"), "the name 'hub.example' cannot be looked up: later"),
        (TimeoutError(), "no answer in time from hub.example:8000"),
        (OSError(errno.EHOSTUNREACH, "No route"), "there is no way to hub.example:8000 (No route)"),
        (OSError(errno.EMFILE, "Too many open files"), "[Errno 24] Too many open files"),
        (ValueError(), "ValueError"),
    ],
)
def test_what_went_wrong_is_told_apart(error: Exception, reason: str) -> None:
    assert of_connecting(error, PEER).reason == reason


def test_a_reset_is_no_tls_only_where_tls_was_spoken() -> None:
    assert "TLS" in of_connecting(ConnectionResetError(104, "reset"), SECURE).reason
    assert "TLS" not in of_connecting(ConnectionResetError(104, "reset"), PEER).reason


def test_who_closes_at_once_may_want_a_certificate() -> None:
    assert (
        closed_at_once(SECURE).remedy == "it may want a client certificate: WORKER_TLS_CERTIFICATE and WORKER_TLS_KEY"
    )
