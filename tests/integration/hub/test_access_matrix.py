"""Every account of the broker against every topic, on a real mosquitto with its plugin: what the design allows passes.

What is expected is written here by hand, from the contract, and not by the code that makes the roles.
"""

from __future__ import annotations

import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from broker.account import Account
from broker.clock import wall_ms
from broker.errors import LinkDown, Refused
from broker.link import Will
from hub.rules.access import Kind
from hub.rules.callers import Caller
from hub.rules.secrets import password_of
from hub.store.engine import open_engine
from hub.store.granting import add_account
from tests.support.hubs import running_hub, settings_for
from tests.support.keys import administrator
from tests.support.secure_broker import SecureBroker
from tests.support.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker.link import Connection

A, B = "edge/v1/sites/site-a", "edge/v1/sites/site-b"
THE_BROKERS_OWN = "$SYS/broker/odd"  # on which mosquitto lets nobody publish
LEAVES = ("status", "heartbeat", "events", "tasks", "control")
TOPICS = (
    *(f"{A}/workers/w1/{leaf}" for leaf in LEAVES),
    *(f"{A}/workers/w2/{leaf}" for leaf in LEAVES),
    *(f"{B}/workers/w3/{leaf}" for leaf in LEAVES),
    f"{A}/tasks",
    f"{B}/tasks",
    f"{A}/bridge",
    f"{B}/bridge",
    f"{A}/odd",
    f"{A}/workers/w1",
    f"{A}/workers/w1/tasks/more",
    f"{A}/workers/w1/odd",
    "edge/v1/hub/status",
    "edge/v1/hub/odd",
    "edge/v1/replies/publisher/7",
    "edge/v1/replies/other/7",
    "edge/v1/odd",
    "edge/v2/hub/status",
    "other/v1/hub/status",
    "elsewhere",
    THE_BROKERS_OWN,
)
COMMANDS = "$CONTROL/dynamic-security/v1"

ALL_OF_US = {topic for topic in TOPICS if topic.startswith("edge/v1/")}
ALL_OF_A = {topic for topic in TOPICS if topic.startswith(f"{A}/")}
REPLIES = {"edge/v1/replies/publisher/7", "edge/v1/replies/other/7"}
CONTROLS_OF_A = {f"{A}/workers/w1/control", f"{A}/workers/w2/control"}
BY_W1 = {f"{A}/tasks", *REPLIES, *(f"{A}/workers/w1/{leaf}" for leaf in ("status", "heartbeat", "events", "tasks"))}

MAY_PUBLISH: dict[str, set[str]] = {
    "hub": ALL_OF_US,
    "w1": BY_W1,
    "w1/intake": BY_W1,
    "publisher": {f"{A}/tasks", f"{A}/workers/w1/tasks", f"{A}/workers/w2/tasks"},
    "reader": set(),
    "reader-a": set(),
    "bridge": (ALL_OF_A - CONTROLS_OF_A) | REPLIES,
    "stranger": set(),
}

OWN_OF_W1 = {f"{A}/workers/w1/{leaf}" for leaf in ("status", "tasks", "control")}
SHARED = f"$share/workers/{A}/tasks"
HUB_STATUS = "edge/v1/hub/status"
HEARD_BY_W1 = {*OWN_OF_W1, HUB_STATUS, f"{A}/bridge"}

MAY_RECEIVE: dict[str, set[str]] = {
    "hub": ALL_OF_US,
    "w1": {*HEARD_BY_W1, f"{A}/tasks"},
    "w1/intake": {*HEARD_BY_W1, f"{A}/tasks"},
    "publisher": {"edge/v1/replies/publisher/7"},
    "reader": {HUB_STATUS, *(topic for topic in ALL_OF_US if topic.endswith(("/status", "/heartbeat")))},
    "reader-a": {HUB_STATUS, *(topic for topic in ALL_OF_A if topic.endswith(("/status", "/heartbeat")))},
    "bridge": {*ALL_OF_A, *REPLIES, HUB_STATUS},
    "stranger": set(),
}

FILTERS = (
    *TOPICS,
    "#",
    "+/#",
    "+",
    "+/v1/hub/status",
    "edge/#",
    "edge/+/hub/status",
    "edge/v1/#",
    "edge/v1/+",
    "edge/v1/+/status",
    "edge/v1/hub/#",
    "edge/v1/hub/+",
    "edge/v1/sites/#",
    "edge/v1/sites/+/tasks",
    "edge/v1/sites/+/bridge",
    "edge/v1/sites/+/workers/+/status",
    "edge/v1/sites/+/workers/+/heartbeat",
    "edge/v1/sites/+/workers/+/events",
    "edge/v1/sites/+/workers/+/tasks",
    "edge/v1/sites/+/workers/+/control",
    "edge/v1/sites/+/workers/w1/tasks",
    f"{A}/#",
    f"{A}/+",
    f"{A}/workers/#",
    f"{A}/workers/+/status",
    f"{A}/workers/+/heartbeat",
    f"{A}/workers/+/events",
    f"{A}/workers/+/tasks",
    f"{A}/workers/+/control",
    f"{A}/workers/w1/#",
    f"{A}/workers/w1/+",
    f"{A}/workers/w2/+",
    f"{A}/tasks/#",
    f"{B}/#",
    f"{B}/workers/+/status",
    "edge/v1/replies/#",
    "edge/v1/replies/+/7",
    "edge/v1/replies/publisher/#",
    "edge/v1/replies/publisher/+",
    SHARED,
    f"$share/workers/{B}/tasks",
    f"$share/others/{A}/tasks",
    "$share/workers/edge/v1/sites/+/tasks",
    f"$share/workers/{A}/workers/w1/tasks",
    f"$share/workers/{A}/#",
    "$share/workers/edge/v1/#",
    "$share/workers/#",
    "$SYS/#",
    "$SYS/broker/uptime",
    "$CONTROL/#",
    "$CONTROL/dynamic-security/#",
    COMMANDS,
    f"{COMMANDS}/response",
)

STATUS_AND_LOAD = ("/status", "/heartbeat")
MAY_SUBSCRIBE: dict[str, set[str]] = {
    "hub": {one for one in FILTERS if one.startswith(("edge/v1/", "$CONTROL/dynamic-security/"))},
    "w1": {*HEARD_BY_W1, SHARED},
    "w1/intake": {*HEARD_BY_W1, SHARED},
    "publisher": {one for one in FILTERS if one.startswith("edge/v1/replies/publisher/")},
    "reader": {
        HUB_STATUS,
        *(one for one in FILTERS if one.startswith("edge/v1/sites/") and one.endswith(STATUS_AND_LOAD)),
    },
    "reader-a": {HUB_STATUS, *(one for one in FILTERS if one.startswith(f"{A}/") and one.endswith(STATUS_AND_LOAD))},
    "bridge": {HUB_STATUS, *(one for one in FILTERS if one.startswith((f"{A}/", "edge/v1/replies/")))},
    "stranger": set(),
}

NOT_AUTHORIZED = 135
"""The reason code of a no (MQTT 5, §2.4)."""

OBSERVER, STRANGER = "observer's own", "stranger's own"
EVERYTHING = [
    {"acltype": right, "topic": topic, "priority": 0, "allow": True}
    for right in ("publishClientSend", "publishClientReceive", "subscribePattern")
    for topic in ("#", "$SYS/#", "$CONTROL/#")
]


class Login(NamedTuple):
    """How one account comes in."""

    client_id: str
    account: Account


class Ground(NamedTuple):
    """A broker with every kind of account."""

    broker: SecureBroker
    logins: dict[str, Login]

    @asynccontextmanager
    async def login(self, name: str, will: Will | None = None) -> AsyncIterator[Connection]:
        client_id, account = self.logins[name]
        async with self.broker.link(client_id, account).connect(will) as connection:
            yield connection


@pytest.fixture(scope="module")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """Have a hub give a broker every kind of account, and leave: what it has told the broker stays."""
    folder = tmp_path_factory.mktemp("matrix")
    broker = SecureBroker(folder)
    broker.add_client("observer", OBSERVER, {"rolename": "observer", "acls": EVERYTHING})
    broker.add_client("stranger", STRANGER)
    with broker:
        settings = settings_for(broker.url, folder, **broker.hub_settings, client_id="holdfast-hub")
        headers = administrator(settings)
        async with running_hub(settings) as hub:
            hub.http.headers.update(headers)
            for worker, site in (("w1", "site-a"), ("w2", "site-a"), ("w3", "site-b")):
                token = (await hub.http.post("/api/enrolments", json={"site": site})).json()["token"]
                asked = {"token": token, "worker": worker, "site": site, "nonce": "n" * 16}
                assert (await hub.http.post("/api/enrol", json=asked)).status_code == 200
            add_others(settings.database_url)
            await hub.hub._watch.look()  # noqa: SLF001
            assert await hub.hub._keeper.settled(PATIENCE_SECONDS)  # noqa: SLF001
        yield Ground(broker, logins_of(broker, folder))


def add_others(database_url: str) -> None:
    engine = open_engine(database_url)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        for name, kind, site in (
            ("publisher", Kind.PUBLISHER, "site-a"),
            ("reader", Kind.READER, None),
            ("reader-a", Kind.READER, "site-a"),
            ("bridge", Kind.BRIDGE, "site-a"),
        ):
            add_account(connection, name, kind, site, Caller(), reserved=(), now=wall_ms())
    engine.dispose()


def logins_of(broker: SecureBroker, folder: Path) -> dict[str, Login]:
    key = (folder / "hub.key").read_bytes()
    hub_password = (broker.place / "hub-password").read_text().strip()
    logins = {
        "hub": Login("holdfast-hub", Account(username="holdfast-hub", password=hub_password)),
        "w1/intake": Login("w1-intake", Account(username="w1/intake", password=password_of(key, "w1", 1))),
        "stranger": Login("stranger", Account(username="stranger", password=STRANGER)),
        "observer": Login("observer", Account(username="observer", password=OBSERVER)),
    }
    for name in ("w1", "w2", "w3", "publisher", "reader", "reader-a", "bridge"):
        logins[name] = Login(name, Account(username=name, password=password_of(key, name, 1)))
    return logins


async def granted(work: Any) -> bool:  # noqa: ANN401  a coroutine
    """Tell whether the broker grants it; anything but a plain no is an error."""
    try:
        await work
    except Refused as refused:
        if refused.code != NOT_AUTHORIZED:
            raise
        return False
    return True


async def come(connection: Connection) -> list[tuple[str, bytes]]:
    """Return all that has come: whatever the broker had for it stands before its answer to one more request."""
    await connection.unsubscribe("barrier")
    found = []
    messages = connection.messages()
    for _ in range(connection.waiting()):
        incoming = await anext(messages)
        incoming.ack()
        found.append((incoming.topic, incoming.payload))
    return found


@pytest.mark.parametrize("name", MAY_PUBLISH)
async def test_it_publishes_what_the_design_allows_and_nothing_else(ground: Ground, name: str) -> None:
    async with ground.login("observer") as observer, ground.login(name) as connection:
        await observer.subscribe("#", "$SYS/broker/odd")
        mine = f"by {name}".encode()

        acknowledged = {topic for topic in TOPICS if await granted(connection.publish(topic, mine))}
        delivered = {topic for topic, payload in await come(observer) if payload == mine}

    assert acknowledged == MAY_PUBLISH[name]
    assert delivered == MAY_PUBLISH[name]


@pytest.mark.parametrize("name", MAY_PUBLISH)
async def test_a_will_is_published_where_its_client_may_publish(ground: Ground, name: str) -> None:
    async with ground.login("observer") as observer:
        await observer.subscribe("#", "$SYS/broker/odd")
        for topic in TOPICS:
            await die(ground, name, Will(topic=topic, payload=f"will of {name}".encode()))
        seen = await come(observer)
        for topic, _ in seen:
            await observer.publish(topic, b"", retain=True)
    delivered = {topic for topic, payload in seen if payload == f"will of {name}".encode()}

    assert delivered == MAY_PUBLISH[name]


async def die(ground: Ground, name: str, will: Will) -> None:
    """Come in with a will, and be cut off; return when the broker has seen that: its client comes in again."""
    try:
        async with ground.login(name, will) as connection:
            raw = connection._client._client.socket()  # noqa: SLF001
            assert isinstance(raw, socket.socket)
            raw.shutdown(socket.SHUT_RDWR)
    except Refused as refused:  # mosquitto looks at a will's topic when a client comes
        if refused.code != NOT_AUTHORIZED:
            raise
        return
    async with ground.login(name):
        pass


@pytest.mark.parametrize("name", MAY_SUBSCRIBE)
async def test_it_hears_what_the_design_allows_and_nothing_else(ground: Ground, name: str) -> None:
    async with ground.login("observer") as observer, ground.login(name) as connection:
        topics = [topic for topic in TOPICS if topic != THE_BROKERS_OWN]
        for topic in topics:
            await observer.publish(topic, b"retained", retain=True)

        subscribed = {one for one in FILTERS if await granted(connection.subscribe(one))}
        retained = {topic for topic, payload in await come(connection) if payload == b"retained"}
        for topic in topics:
            await observer.publish(topic, b"live")
        live = {topic for topic, payload in await come(connection) if payload == b"live"}
        for topic in topics:
            await observer.publish(topic, b"", retain=True)

    assert subscribed == MAY_SUBSCRIBE[name]
    assert MAY_RECEIVE[name] - only_shared(name) <= retained <= MAY_RECEIVE[name]
    assert live == MAY_RECEIVE[name]


def only_shared(name: str) -> set[str]:
    """Return what comes by a shared subscription alone: nothing retained should (MQTT 5, §4.8.2); in 2.0.11 it does."""
    return {f"{A}/tasks"} if name.startswith("w1") else set()


@pytest.mark.parametrize("name", MAY_PUBLISH)
async def test_the_hub_alone_commands_the_plugin(ground: Ground, name: str) -> None:
    evil = {"command": "createClient", "username": f"made by {name}", "password": "x"}
    async with ground.login(name) as connection:
        may = await granted(connection.publish(COMMANDS, json.dumps({"commands": [evil]}).encode()))

    assert may == (name == "hub")
    assert (f"made by {name}" in ground.broker.accounts_file.read_text()) == (name == "hub")


@pytest.mark.parametrize("name", ["hub", "w1", "w1/intake", "publisher", "reader", "reader-a", "bridge"])
async def test_nobody_comes_in_under_a_client_id_of_somebody_else(ground: Ground, name: str) -> None:
    own, account = ground.logins[name]
    others = {login.client_id for login in ground.logins.values()} | {"anything", ""}
    for client_id in sorted(others - {own}):
        with pytest.raises(Refused) as refused:
            async with ground.broker.link(client_id, account).connect():
                pass
        assert refused.value.code == NOT_AUTHORIZED, client_id


@pytest.mark.parametrize("username", ["w1", "w1/intake", "holdfast-hub", "publisher", "no such name", None])
@pytest.mark.parametrize("password", ["wrong", "", None])
async def test_without_the_right_password_nobody_comes_in(
    ground: Ground, username: str | None, password: str | None
) -> None:
    with pytest.raises(LinkDown):
        async with ground.broker.link("w1", Account(username=username, password=password)).connect():
            pass


async def test_the_password_of_one_is_not_that_of_another(ground: Ground) -> None:
    others = Account(username="w1", password=ground.logins["w2"].account.password)
    with pytest.raises(Refused):
        async with ground.broker.link("w1", others).connect():
            pass
