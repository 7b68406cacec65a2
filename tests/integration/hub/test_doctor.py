"""`edge-hub doctor` on real brokers, hubs and ports: what is well, and each trouble with its remedy."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from broker.doctor import examine, in_json
from broker.local import free_port
from hub.doctor.examination import Examination, examine_hub
from hub.rules.access import Account, Kind
from hub.store.accounts import save_account
from hub.store.engine import open_engine
from hub.store.lock import hold
from tests.support.brokers import production
from tests.support.http_server import serving
from tests.support.hubs import RunningHub, running_hub, settings_for
from tests.support.secure_broker import SecureBroker
from tests.support.secured import made

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hub.settings import HubSettings
    from tests.integration.hub.conftest import World

SECRET, WRONG = "of a client with no role", "of nobody"
AS_HUB = {"username": "holdfast-hub", "client_id": "holdfast-hub"}

Found = dict[str, list[tuple[str, str]]]


async def look(settings: HubSettings, *areas: str) -> Found:
    """Return what is amiss in these areas; each thing with a remedy."""
    wanted = [area for area in Examination(settings).areas() if area.name in areas or area.name == "database"]
    told = json.loads(in_json(await examine(wanted)))
    found: Found = {name: [] for name in areas}
    for one in told["findings"]:
        assert (one["remedy"] is None) == (one["level"] == "ok"), one
        if one["level"] != "ok" and one["area"] in areas:
            found[one["area"]].append((one["level"], one["what"]))
    return found


async def test_a_hub_that_is_well_is_said_to_be_and_does_not_notice(world: World) -> None:
    settings = world.settings(http_port=free_port())
    async with running_hub(settings) as hub, world.worker():
        with hold(world.directory / "hub.db", "edge-hub serve"):
            await hub.worker("w1", state="online")
            lost = _links_lost(hub)
            found = await look(settings, *(area.name for area in Examination(settings).areas()))
            assert [one for area in found.values() for one in area] == []
            assert lost == []
            assert (await hub.get("/health"))["status"] == "ok"
            assert (await hub.rejections()) == []


def _links_lost(hub: RunningHub) -> list[str]:
    """Note from now on whenever the hub's own connection goes."""
    lost: list[str] = []
    wire = hub.hub._wire  # noqa: SLF001

    class Watched(asyncio.Event):
        def clear(self) -> None:
            lost.append("lost")
            super().clear()

    wire.connected = Watched()
    wire.connected.set()
    return lost


# -- the broker ------------------------------------------------------------------------------------------------------


async def test_a_broker_that_does_not_run_is_told(tmp_path: Path) -> None:
    port = free_port()
    found = await look(settings_for(f"mqtt://localhost:{port}", tmp_path), "broker")
    assert found["broker"] == [("bad", f"connection refused: nothing listens at localhost:{port}")]


async def test_a_name_that_no_dns_knows_is_told(tmp_path: Path) -> None:
    found = await look(settings_for("mqtt://no-such-host.invalid", tmp_path), "broker")
    assert [level for level, _ in found["broker"]] == ["warn", "bad"]
    assert "no-such-host.invalid" in found["broker"][1][1]


async def test_a_wrong_authority_a_wrong_port_and_none_of_them_are_told(tmp_path: Path) -> None:
    place = made(tmp_path / "place")
    other = made(tmp_path / "other")
    with production(place, tmp_path) as broker:
        url = f"mqtts://localhost:{broker.port}"
        access: dict[str, Any] = {**AS_HUB, "password_file": place / "hub-password"}
        right = settings_for(url, tmp_path, tls_ca=place / "ca.crt", **access)
        assert (await look(right, "broker", "certificates")) == {"broker": [], "certificates": []}
        wrong = await look(settings_for(url, tmp_path, tls_ca=other / "ca.crt", **access), "broker")
        assert {level for level, _ in wrong["broker"]} == {"bad"}
        assert "is signed by nobody whom" in wrong["broker"][0][1]
        plain = await look(settings_for(url.replace("mqtts", "mqtt"), tmp_path, **access), "broker")
        assert "closed the connection and did not answer" in plain["broker"][0][1]


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    broker = SecureBroker(tmp_path_factory.mktemp("secure"))
    broker.add_client("no-hub", SECRET)
    with broker:
        yield broker


async def test_an_account_that_is_refused_and_one_without_rights_are_told(secure: SecureBroker, tmp_path: Path) -> None:
    nobody = await look(settings_for(secure.url, tmp_path), "broker")
    assert nobody["broker"] == [("bad", "the broker lets nobody in without an account")]
    wrong = await look(settings_for(secure.url, tmp_path, **AS_HUB, password=WRONG), "broker")
    (refused,) = wrong["broker"]
    assert refused[1].startswith("the broker refuses the account 'holdfast-hub'")
    (unfit,) = (await look(settings_for(secure.url, tmp_path, username="no-hub", password=SECRET), "broker"))["broker"]
    assert unfit[0] == "bad"
    assert unfit[1].startswith("the broker refuses to subscribe ")


async def test_a_plugin_that_is_not_there_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.dynsec.ANSWER_SECONDS", 0.5)
    (silent,) = (await look(world.settings(manage_accounts=True), "broker"))["broker"]
    assert silent[0] == "bad"
    assert silent[1].startswith("its plugin does not answer: nothing came on $CONTROL/dynamic-security/v1/response")


async def test_accounts_that_the_broker_does_not_have_are_told(secure: SecureBroker, tmp_path: Path) -> None:
    settings = settings_for(secure.url, tmp_path, **{**secure.hub_settings, **AS_HUB})
    engine = open_engine(settings.database_url)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        save_account(connection, Account("w1", Kind.WORKER, "site-a", 1, 1, 1))
    engine.dispose()
    (tmp_path / "hub.key").write_bytes(bytes(32))
    assert (await look(settings, "broker"))["broker"] == [
        ("bad", "accounts that the broker does not have: w1, w1/intake")
    ]
    served = settings.model_copy(update={"http_port": free_port()})
    async with running_hub(served), asyncio.timeout(30):
        while (await look(served, "broker"))["broker"]:  # until the hub has told the broker
            pass
    assert (await look(settings, "broker"))["broker"] == []


# -- the port --------------------------------------------------------------------------------------------------------


async def test_another_program_on_the_port_is_told(tmp_path: Path) -> None:
    body = b"hello"
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    async with serving({"/health": head + body}) as server:
        port = int(server.url.rpartition(":")[2])
        found = await look(settings_for("mqtt://localhost", tmp_path, http_port=port), "api")
    assert found["api"] == [("bad", f"another program than a hub listens at http://127.0.0.1:{port}/health")]


async def test_a_hub_that_has_the_database_and_does_not_listen_is_told(tmp_path: Path) -> None:
    settings = settings_for("mqtt://localhost", tmp_path, http_port=free_port())
    assert (await look(settings, "api"))["api"] == []
    with hold(tmp_path / "hub.db", "edge-hub serve"):
        ((level, what),) = (await look(settings, "api"))["api"]
    assert (level, what.startswith("a hub has the database, and nothing listens at ")) == ("bad", True)


async def test_a_hub_with_another_database_or_no_broker_is_told(tmp_path: Path) -> None:
    settings = settings_for(f"mqtt://localhost:{free_port()}", tmp_path, http_port=free_port())
    async with running_hub(settings, linked=False):
        found = [what for _, what in (await look(settings, "api"))["api"]]
    assert [what.partition(" at ")[0] for what in found] == ["the hub", "the hub"]
    assert found[0].endswith("has no link to the broker")
    assert found[1].endswith("works on another database than this")


# -- the command -----------------------------------------------------------------------------------------------------


async def test_the_command_prints_for_people_and_for_programs_and_ends_with_1_where_something_is_bad(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "hub.toml"
    config.write_text(
        f'broker_url = "{world.broker_url}"\ndatabase_url = "sqlite:///{tmp_path}/hub.db"\nhttp_port = 0\n'
    )
    assert await examine_hub(config, as_json=False) == 0
    assert "read from /" in capsys.readouterr().out
    config.write_text('broker_url = "broker.example"\nhttp_prot = 1\n')
    assert await examine_hub(config, as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["well"]
    assert [one["area"] for one in told["findings"]] == ["settings", "settings"]
    assert all(one["remedy"] for one in told["findings"])
