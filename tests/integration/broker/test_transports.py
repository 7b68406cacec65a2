"""TLS and WebSocket, on a real mosquitto with a certificate that was made for the test."""

from __future__ import annotations

import asyncio
import gc
import subprocess
from typing import TYPE_CHECKING

import pytest

from broker.account import Account
from broker.errors import LinkDown
from broker.link import Link
from broker.local import PrivateBroker, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK_SECONDS = 0.5


class Listeners:
    """A broker that listens by TCP, TLS and WebSocket."""

    def __init__(self, folder: Path) -> None:
        self.ca = _certificate(folder, "ca")
        self.other_ca = _certificate(folder, "other")
        tls, websocket = free_port(), free_port()
        self.tls_url = f"mqtts://127.0.0.1:{tls}"
        self.websocket_url = f"ws://127.0.0.1:{websocket}/mqtt"
        self.broker = PrivateBroker(
            extra=(
                f"listener {tls} 127.0.0.1\ncertfile {folder}/ca.crt\nkeyfile {folder}/ca.key\n"
                f"listener {websocket} 127.0.0.1\nprotocol websockets\n"
            )
        )


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    made = Listeners(tmp_path_factory.mktemp("tls"))
    with made.broker:
        yield made


async def test_a_link_by_tls_trusts_the_authority_that_it_was_given(listeners: Listeners) -> None:
    await _exchange(Link(url=listeners.tls_url, client_id="tls", account=Account(tls_ca=listeners.ca)))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho 2 drops the socket unclosed
@pytest.mark.parametrize("authority", ["other", None])
async def test_a_broker_that_another_authority_vouches_for_is_refused(
    listeners: Listeners, authority: str | None
) -> None:
    account = Account(tls_ca=listeners.other_ca if authority else None)
    with pytest.raises(LinkDown, match="signed by nobody whom"):
        async with Link(url=listeners.tls_url, client_id="wary", account=account).connect():
            pass
    gc.collect()  # the socket goes here, and not in a later test


async def test_an_authority_that_cannot_be_read_is_named(listeners: Listeners) -> None:
    account = Account(tls_ca="/nowhere/ca.crt")
    with pytest.raises(LinkDown, match=r"TLS with /nowhere/ca\.crt: "):
        async with Link(url=listeners.tls_url, client_id="lost", account=account).connect():
            pass


async def test_a_link_by_websocket_is_as_quick_as_any(listeners: Listeners) -> None:
    began = asyncio.get_running_loop().time()
    await _exchange(Link(url=listeners.websocket_url, client_id="web"), times=25)
    elapsed = asyncio.get_running_loop().time() - began
    assert elapsed < QUICK_SECONDS, "25 exchanges at Nagle's 40 ms each would take a second"


async def _exchange(link: Link, times: int = 1) -> None:
    async with asyncio.timeout(10), link.connect() as connection:
        await connection.subscribe("echo")
        for number in range(times):
            payload = str(number).encode()
            await connection.publish("echo", payload)
            incoming = await anext(connection.messages())
            assert incoming.payload == payload
            incoming.ack()


def _certificate(folder: Path, name: str) -> str:
    """Make a certificate for 127.0.0.1 that vouches for itself; return its path."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=holdfast -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True, timeout=30)
    (folder / f"{name}.key").chmod(0o644)
    return str(folder / f"{name}.crt")
