"""The production broker: config/mosquitto/production.conf as it stands, with what `edge-hub broker init` makes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from broker.account import Account as Login
from broker.errors import LinkDown
from broker.topics import Status, Topics
from hub.certificate_files import read_certificates
from hub.certificates import fingerprint
from hub.rules.access import Kind
from tests.support.brokers import production
from tests.support.programs import PATIENCE_SECONDS, House
from tests.support.secured import SECRET, SITE, account, edge_hub, link, made, of_hub, of_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker.link import Link

WORKER = account("w1", Kind.WORKER)
TOPICS = Topics()
WRONG = SECRET.upper()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory of `edge-hub broker init` in which w1 and w2 have accounts too."""
    return made(tmp_path / "broker", WORKER, account("w2", Kind.WORKER))


async def runs_a_task(house: House, hub: dict[str, str], worker: dict[str, str]) -> None:
    """See a task through a hub and an agent, and both of them end in order."""
    middle = await house.hub(**hub)
    agent = await house.agent("w1", SITE, **worker)
    await middle.post({"id": "first", "kind": "noop", "site": SITE, "params": {"n": 1}})
    assert (await middle.task("first"))["result"] == {"n": 1}
    assert await agent.stop() == 0
    assert await middle.program.stop() == 0


async def test_a_worker_enrols_and_runs_tasks_over_tls(tmp_path: Path, stack: AsyncExitStack) -> None:
    """The whole way, by the commands of a person: all that is made by hand is a directory and a token."""
    place = tmp_path / "broker"
    code, said = await edge_hub("broker", "init", str(place), "--owner", str(os.geteuid()))
    assert code == 0, said
    broker = stack.enter_context(production(place, tmp_path))
    house = House(tmp_path, broker, stack)
    settings = of_hub(place, BROKER_URL=f"mqtts://localhost:{broker.port}", MANAGE_ACCOUNTS="true")
    hub = await house.hub(**settings)
    database = {"HUB_DATABASE_URL": f"sqlite:///{tmp_path / 'hub.db'}"}
    code, token = await edge_hub("workers", "enrol", "--site", SITE, **database)
    assert code == 0, token
    enrolling = {"WORKER_CONTROL_PLANE_URL": str(hub.http.base_url), "WORKER_ENROL_TOKEN": token.split()[0]}
    agent = await house.agent("w1", SITE, WORKER_BROKER_URL="", **enrolling)
    await agent.logged("synced")
    await hub.post({"id": "first", "kind": "noop", "site": SITE, "params": {"n": 1}})
    assert (await hub.task("first"))["result"] == {"n": 1}
    assert await agent.stop() == 0


async def test_tasks_run_over_secure_websockets(tmp_path: Path, place: Path, stack: AsyncExitStack) -> None:
    broker = production(place, tmp_path, websocket=True)
    stack.enter_context(broker)
    house = House(tmp_path, broker, stack)
    by_websocket = of_worker("w1", place, BROKER_URL=f"wss://localhost:{broker.websocket_port}")
    await runs_a_task(house, of_hub(place, BROKER_URL=f"mqtts://localhost:{broker.port}"), by_websocket)


async def test_tasks_run_where_the_broker_asks_for_certificates(
    tmp_path: Path, place: Path, stack: AsyncExitStack
) -> None:
    for name in ("w1", "holdfast-hub"):
        code, said = await edge_hub("certificates", "client", name, "--from", str(place), "--out", str(place))
        assert code == 0, said
    broker = stack.enter_context(production(place, tmp_path, mutual=True))
    url = f"mqtts://localhost:{broker.port}"
    hub, worker = (
        {"BROKER_URL": url, "TLS_CERTIFICATE": f"{place / name}.crt", "TLS_KEY": f"{place / name}.key"}
        for name in ("holdfast-hub", "w1")
    )
    await runs_a_task(House(tmp_path, broker, stack), of_hub(place, **hub), of_worker("w1", place, **worker))

    without = link(place, url, "w1", client_id="w1")
    await is_refused(without)
    (tmp_path / "strangers").mkdir()
    strangers = made(tmp_path / "strangers" / "broker")
    await edge_hub("certificates", "client", "w1", "--from", str(strangers), "--out", str(strangers))
    await is_refused(link(place, url, "w1", client_id="w1", certificate=strangers / "w1"))
    right = link(place, url, "w1", client_id="w1", certificate=place / "w1")
    await is_refused(replace(right, account=replace(right.account, password=WRONG)))
    async with asyncio.timeout(PATIENCE_SECONDS), right.connect():
        pass


async def test_a_certificate_in_the_place_of_the_password_would_let_a_worker_take_any_client_id(
    tmp_path: Path, place: Path, stack: AsyncExitStack
) -> None:
    """Why production.conf leaves use_identity_as_username alone, on the mosquitto that is installed here."""
    await edge_hub("certificates", "client", "w1", "--from", str(place), "--out", str(place))
    bind_client_id(place, "w1", "w1")
    as_it_stands = production(place, tmp_path, mutual=True)
    thief = link(place, f"mqtts://localhost:{as_it_stands.port}", "w1", client_id="w2", certificate=place / "w1")
    with as_it_stands:
        await is_refused(thief)

    by_identity = production(place, tmp_path, mutual=True)
    by_identity.changes["\n#require_certificate true"] = "\nrequire_certificate true\nuse_identity_as_username true"
    stack.enter_context(by_identity)
    thief = replace(thief, url=f"mqtts://localhost:{by_identity.port}")
    nameless = replace(thief, account=replace(thief.account, username=None, password=None))
    async with asyncio.timeout(PATIENCE_SECONDS), nameless.connect():
        pass


async def test_nobody_comes_in_without_an_account_or_without_tls(
    tmp_path: Path, place: Path, stack: AsyncExitStack
) -> None:
    broker = stack.enter_context(production(place, tmp_path))
    url = f"mqtts://localhost:{broker.port}"
    right = link(place, url, "w1", client_id="x")
    for one in (Login(), replace(right.account, password=WRONG), replace(right.account, username="nobody")):
        await is_refused(replace(right, account=replace(one, tls_ca=right.account.tls_ca)))
    await is_refused(replace(right, url=url.replace("mqtts", "mqtt")))
    async with asyncio.timeout(PATIENCE_SECONDS), right.connect():
        pass


async def test_the_certificate_is_good_for_the_hosts_that_were_asked_for_and_by_its_authority_alone(
    tmp_path: Path, place: Path, stack: AsyncExitStack
) -> None:
    broker = stack.enter_context(production(place, tmp_path))
    ca = ssl.create_default_context(cafile=str(place / "ca.crt"))
    ca.verify_flags |= ssl.VERIFY_X509_STRICT  # Python 3.13 always is
    for host in ("localhost", "127.0.0.1", "::1"):
        await asyncio.to_thread(shake_hands, broker.port, ca, host)
    for context, host in ((ca, "another.example"), (ssl.create_default_context(), "localhost")):
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(shake_hands, broker.port, context, host)


async def test_a_renewed_certificate_is_shown_after_sighup_and_nobody_is_thrown_off(
    tmp_path: Path, place: Path, stack: AsyncExitStack
) -> None:
    broker = stack.enter_context(production(place, tmp_path))
    url = f"mqtts://localhost:{broker.port}"
    server = place / "mosquitto" / "server.crt"
    before = fingerprint(read_certificates(server)[0])
    assert await shown_by(broker.port) == before

    topic = TOPICS.build(Status(SITE, "w1"))
    async with asyncio.timeout(PATIENCE_SECONDS), link(place, url, "w1", client_id="w1").connect() as connection:
        await connection.subscribe(topic)
        code, said = await edge_hub("broker", "init", str(place), "--host", "another.example")
        assert (code, "another.example" in said) == (0, True)
        os.kill(broker.pid, signal.SIGHUP)
        while await shown_by(broker.port) == before:  # noqa: ASYNC110  when it has read it, it tells nobody
            await asyncio.sleep(0.05)
        await connection.publish(topic, b"still there")
        assert (await anext(connection.messages())).payload == b"still there"
    assert await shown_by(broker.port) == fingerprint(read_certificates(server)[0])


async def test_the_broker_forgets_its_accounts_and_init_brings_back_the_hubs(
    tmp_path: Path, place: Path, stack: AsyncExitStack
) -> None:
    (place / "mosquitto" / "dynamic-security.json").unlink()
    code, said = await edge_hub("broker", "init", str(place))
    assert (code, "the account holdfast-hub" in said) == (0, True)
    broker = stack.enter_context(production(place, tmp_path))
    url = f"mqtts://localhost:{broker.port}"
    await House(tmp_path, broker, stack).hub(**of_hub(place, BROKER_URL=url))
    await is_refused(link(place, url, "w1", client_id="w1"))


def bind_client_id(place: Path, username: str, client_id: str) -> None:
    """Let a client of the plugin connect with one client id only."""
    file = place / "mosquitto" / "dynamic-security.json"
    accounts = json.loads(file.read_text())
    for client in accounts["clients"]:
        if client["username"] == username:
            client["clientid"] = client_id
    file.write_text(json.dumps(accounts))


async def is_refused(one: Link) -> None:
    """See that a client cannot connect."""
    with pytest.raises(LinkDown):
        async with asyncio.timeout(PATIENCE_SECONDS), one.connect():
            pass


def shake_hands(port: int, context: ssl.SSLContext, host: str) -> None:
    """Open a TLS connection to this machine as if it were `host`."""
    with socket.create_connection(("127.0.0.1", port)) as raw, context.wrap_socket(raw, server_hostname=host):
        pass


async def shown_by(port: int) -> str:
    """Return the fingerprint of the certificate that a server shows."""
    pem = await asyncio.to_thread(ssl.get_server_certificate, ("localhost", port))
    return fingerprint(x509.load_pem_x509_certificate(pem.encode()))
