"""The API by HTTPS: its certificate, and the next one."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest

from broker.errors import SettingsError
from hub.app import Hub
from hub.listening import listen
from tests.support.certificates import Authority, Pair

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.hub.conftest import World


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def named(pair: Pair, certificate: Path, key: Path) -> None:
    """Put a pair in the place of another."""
    certificate.write_bytes(pair.certificate.read_bytes())
    key.write_bytes(pair.key.read_bytes())


async def shown_at(port: int, authority: Authority) -> str:
    """Return the common name of the certificate that is shown."""
    context = ssl.create_default_context(cafile=authority.path)
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    certificate = writer.get_extra_info("peercert")
    writer.close()
    subject = dict(part[0] for part in certificate["subject"])
    return str(subject["commonName"])


async def test_the_api_is_there_by_https_alone_and_takes_up_a_new_certificate(
    world: World, authority: Authority, tmp_path: Path
) -> None:
    pair = authority.sign("first")
    second = authority.sign("second")
    settings = world.settings(http_tls_certificate=pair.certificate, http_tls_key=pair.key)
    listener = listen(settings)
    port = listener.getsockname()[1]
    hub = Hub(settings)
    serving = asyncio.create_task(hub.run(listener))
    try:
        trust = ssl.create_default_context(cafile=authority.path)
        async with httpx.AsyncClient(base_url=f"https://localhost:{port}", verify=trust) as http:
            answer = await http.get("/health")
            assert answer.status_code == 200
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
            assert await shown_at(port, authority) == "first"
            named(second, pair.certificate, pair.key)
            hub.renew_certificate()
            assert await shown_at(port, authority) == "second"
            pair.key.write_bytes(authority.sign("third").key.read_bytes())  # not the key to that certificate
            hub.renew_certificate()
            assert await shown_at(port, authority) == "second"
            pair.certificate.unlink()
            hub.renew_certificate()
            assert await shown_at(port, authority) == "second"
            assert (await http.get("/health")).status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            async with httpx.AsyncClient(
                verify=ssl.create_default_context(cafile=Authority(tmp_path, "other").path)
            ) as http:
                await http.get(f"https://localhost:{port}/health")
        with pytest.raises(httpx.HTTPError):
            async with httpx.AsyncClient() as http:
                await http.get(f"http://localhost:{port}/health")
    finally:
        hub.stop()
        await serving


@pytest.mark.parametrize("spoilt", ["certificate", "key"])
def test_a_certificate_that_is_none_is_named(world: World, authority: Authority, spoilt: str) -> None:
    pair = authority.sign("hub")
    getattr(pair, spoilt).write_text("no PEM")
    with pytest.raises(SettingsError) as caught:
        Hub(world.settings(http_tls_certificate=pair.certificate, http_tls_key=pair.key))
    assert "HUB_HTTP_TLS_CERTIFICATE" in str(caught.value)
    assert str(pair.key) in str(caught.value)


def test_a_key_alone_is_not_enough(world: World, authority: Authority) -> None:
    with pytest.raises(SettingsError, match=r"HUB_HTTP_TLS_KEY .* expected HUB_HTTP_TLS_CERTIFICATE"):
        Hub(world.settings(http_tls_key=authority.sign("hub").key))
