"""Accounts of the broker: given for a token, taken back, renewed, and there again when the broker has lost them."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from broker.account import Account
from broker.clock import new_id, wall_ms
from broker.errors import LinkDown, Refused
from broker.messages import Outcome, TaskFinished, encode
from broker.topics import SiteTasks, Status, Topics
from hub import dynsec
from hub.plugin_file import fill_file
from hub.rules.access import Kind
from hub.rules.callers import Caller
from hub.store.engine import open_engine
from hub.store.granting import add_account, revoke_account, rotate_account
from tests.support.hubs import RunningHub, running_hub, settings_for
from tests.support.keys import administrator
from tests.support.secure_broker import SecureBroker
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.workers import ScriptedWorker, scripted_worker, soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from httpx import Response
    from sqlalchemy import Connection

    from broker.local import PrivateBroker
    from hub.settings import HubSettings

Shape = dict[str, Any]
TOPICS = Topics()
NONCE = "a text that nobody else has"


@dataclass(frozen=True)
class Site:
    """A broker that lets nobody in but by the hub, and the hub's database."""

    broker: SecureBroker
    folder: Path

    @property
    def settings(self) -> HubSettings:
        return settings_for(self.broker.url, self.folder, **self.broker.hub_settings, client_id="holdfast-hub")

    @asynccontextmanager
    async def hub(self, *, linked: bool = True) -> AsyncIterator[RunningHub]:
        headers = administrator(self.settings)
        async with running_hub(self.settings, linked=linked) as running:
            running.http.headers.update(headers)
            yield running

    def worker(self, given: Shape, **more: Any) -> AbstractAsyncContextManager[ScriptedWorker]:  # noqa: ANN401
        """Connect as the worker that has got these credentials."""
        worker, site = given["worker"], given["site"]
        return scripted_worker(self.broker.url, TOPICS, worker, site, client_id=worker, account=login(given), **more)

    def directly(self, change: Callable[[Connection], object]) -> None:
        """Change the database as a command does, in a process of its own: without a word to the hub."""
        engine = open_engine(self.settings.database_url)
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            change(connection)
        engine.dispose()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with SecureBroker(tmp_path, persistent=True) as broker:
        yield Site(broker, tmp_path)


@pytest.fixture
async def hub(site: Site) -> AsyncIterator[RunningHub]:
    async with site.hub() as running:
        yield running


def login(given: Shape) -> Account:
    return Account(username=given["username"], password=given["password"])


async def token_for(hub: RunningHub, site: str = "site-a", **more: Any) -> str:  # noqa: ANN401
    answer = await hub.http.post("/api/enrolments", json={"site": site, **more})
    assert answer.status_code == 201, answer.text
    text: str = answer.json()["token"]
    return text


async def ask(hub: RunningHub, token: str, worker: str = "w1", **more: Any) -> Response:  # noqa: ANN401
    return await hub.http.post("/api/enrol", json={"token": token, "worker": worker, "nonce": NONCE, **more})


async def enrolled(hub: RunningHub, worker: str = "w1", site: str = "site-a", **more: Any) -> Shape:  # noqa: ANN401
    answer = await ask(hub, await token_for(hub, site, **more), worker, nonce=new_id())
    assert answer.status_code == 200, answer.text
    given: Shape = answer.json()
    return given


async def account_of(hub: RunningHub, name: str) -> Shape:
    (one,) = [one for one in (await hub.get("/api/accounts"))["items"] if one["name"] == name]
    found: Shape = one
    return found


async def generations(hub: RunningHub) -> dict[str, int]:
    """Return how many passwords each account has had."""
    return {one["name"]: one["generation"] for one in (await hub.get("/api/accounts"))["items"]}


async def audited(hub: RunningHub, action: str) -> list[Shape]:
    """Return the lines of the audit trail on `action`, when all is written that is under way."""
    await hub.hub._ledger.commit(lambda _: None)  # noqa: SLF001
    lines: list[Shape] = (await hub.get("/api/audit", action=action))["items"]
    return lines


async def until(look: Callable[[], Any]) -> None:
    """Return when `look` finds something: for what another process would see too, and has no other sign."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await look():  # noqa: ASYNC110  a broker tells nobody when it begins to let somebody in
            await asyncio.sleep(0.05)


@asynccontextmanager
async def thrown_off(site: Site, given: Shape) -> AsyncIterator[None]:
    """Hold a connection with these credentials, and see it end while the block runs."""
    async with site.broker.link(
        f"{given['worker']}-intake", Account(username=f"{given['worker']}/intake", password=given["password"])
    ).connect() as connection:
        await connection.subscribe(TOPICS.intake(given["site"]))
        yield
        with pytest.raises(LinkDown):
            await soon(anext(connection.messages()))


async def is_let_in(site: Site, given: Shape) -> bool:
    try:
        async with site.broker.link(given["worker"], login(given)).connect():
            return True
    except Refused:
        return False


async def test_a_worker_that_trades_its_token_is_at_work_at_once(site: Site, hub: RunningHub) -> None:
    given = await enrolled(hub)

    assert given == {
        "worker": "w1",
        "site": "site-a",
        "username": "w1",
        "password": given["password"],
        "broker_url": site.broker.url,
        "root": "edge",
        "ca": None,
    }
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", given["password"])
    async with site.worker(given) as worker:
        task = await hub.post({"kind": "noop", "worker": "w1", "params": {"n": 1}})
        await worker.run(await worker.next_assignment())
        assert (await hub.ended(task["id"]))["state"] == "succeeded"
    account = await account_of(hub, "w1")
    assert (account["kind"], account["site"], account["at_broker"]) == ("worker", "site-a", True)
    (line,) = await audited(hub, "worker.enrolled")
    assert (line["who"], line["target"], line["outcome"]) == ("worker:w1", "w1", "done")


async def test_an_answer_that_was_lost_is_given_again_also_by_the_next_hub(site: Site) -> None:
    async with site.hub() as hub:
        token = await token_for(hub)
        first = (await ask(hub, token)).json()
        again = (await ask(hub, token)).json()
    async with site.hub() as hub:
        later = (await ask(hub, token)).json()

    assert first["password"] == again["password"] == later["password"]


async def test_the_token_tells_no_secret_once_it_is_made(hub: RunningHub) -> None:
    token = await token_for(hub)
    await ask(hub, token)

    (one,) = (await hub.get("/api/enrolments"))["items"]
    assert one["id"] == token.split("_")[1]
    assert (one["site"], one["worker"], one["state"], one["used_by"]) == ("site-a", None, "used", "w1")
    assert token.removeprefix(f"hfe_{one['id']}_") not in str(one)


async def used_by_another(hub: RunningHub) -> Shape:
    token = await token_for(hub)
    await ask(hub, token, "w0")
    return {"token": token}


async def used_with_another_nonce(hub: RunningHub) -> Shape:
    token = await token_for(hub)
    await ask(hub, token, nonce="of somebody else, who has seen the token")
    return {"token": token}


async def forged(hub: RunningHub) -> Shape:
    token = await token_for(hub)
    return {"token": token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")}


async def revoked(hub: RunningHub) -> Shape:
    token = await token_for(hub)
    assert (await hub.http.delete(f"/api/enrolments/{token.split('_')[1]}")).status_code == 204
    return {"token": token}


async def expired(hub: RunningHub) -> Shape:
    token = await token_for(hub, valid_minutes=0.0001)
    await until(lambda: is_token(hub, token, "expired"))
    return {"token": token}


async def is_token(hub: RunningHub, token: str, state: str) -> bool:
    found = (await hub.get("/api/enrolments"))["items"]
    return [one["state"] for one in found if one["id"] == token.split("_")[1]] == [state]


async def garbage(_: RunningHub) -> Shape:
    return {"token": "hfe_nonsense"}


async def of_the_api(hub: RunningHub) -> Shape:
    return {"token": (await token_for(hub)).replace("hfe", "hft")}


async def for_another_site(hub: RunningHub) -> Shape:
    return {"token": await token_for(hub, "site-b"), "site": "site-a"}


async def for_another_worker(hub: RunningHub) -> Shape:
    return {"token": await token_for(hub, worker="w2")}


async def for_a_worker_that_is_enrolled(hub: RunningHub) -> Shape:
    await enrolled(hub)
    return {"token": await token_for(hub)}


async def in_the_hubs_name(hub: RunningHub) -> Shape:
    return {"token": await token_for(hub), "worker": "holdfast-hub"}


async def in_the_name_of_an_intake(hub: RunningHub) -> Shape:
    return {"token": await token_for(hub), "worker": "w1-intake"}


async def in_the_name_of_a_publisher(hub: RunningHub) -> Shape:
    return {"token": await token_for(hub), "worker": "node-red"}


REFUSALS = [
    (forged, 403, "token is none that this hub has made"),
    (garbage, 403, "token is none that this hub has made"),
    (of_the_api, 403, "token is none that this hub has made"),
    (expired, 403, "has expired; ask for another: edge-hub workers enrol --site site-a"),
    (used_by_another, 403, "was used by w0, and is good for one worker"),
    (used_with_another_nonce, 403, "was used by w1, and is good for one worker"),
    (revoked, 403, "was revoked; ask for another"),
    (for_another_site, 403, "is for site-b, and w1 is at site-a: set WORKER_SITE right"),
    (for_another_worker, 403, "is for w2, and this is w1: set WORKER_ID right"),
    (for_a_worker_that_is_enrolled, 409, "w1 has an account already, at site-a; if this is that worker"),
    (in_the_hubs_name, 403, "holdfast-hub is how the hub itself is known at the broker; choose another WORKER_ID"),
    (in_the_name_of_an_intake, 403, "w1-intake ends in -intake"),
    (in_the_name_of_a_publisher, 409, "node-red is the name of another account (publisher)"),
]


@pytest.mark.parametrize(("case", "status", "detail"), REFUSALS, ids=lambda value: getattr(value, "__name__", None))
async def test_a_token_that_is_not_good_is_refused_told_why_and_recorded(
    site: Site, hub: RunningHub, case: Callable[[RunningHub], Awaitable[Shape]], status: int, detail: str
) -> None:
    site.directly(lambda connection: add_publisher(connection, "node-red"))
    await hub.hub._watch.look()  # noqa: SLF001
    asked = {"worker": "w1", **await case(hub)}
    before = await generations(hub)

    answer = await ask(hub, **asked)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert detail in answer.json()["detail"]
    line = (await audited(hub, "enrol.refused"))[0]
    assert (line["who"], line["target"], line["outcome"]) == ("anonymous", asked["worker"], "refused")
    assert asked["token"] not in str(line)
    assert await generations(hub) == before


def add_publisher(connection: Connection, name: str) -> None:
    add_account(connection, name, Kind.PUBLISHER, "site-a", Caller(who="local:me"), reserved=(), now=wall_ms())


async def test_who_guesses_tokens_is_held_up(hub: RunningHub) -> None:
    guesses = [await ask(hub, f"hfe_{number:08}_{'x' * 43}") for number in range(12)]

    assert [one.status_code for one in guesses] == [403] * 10 + [429] * 2
    assert int(guesses[-1].headers["retry-after"]) > 0
    assert (await ask(hub, await token_for(hub))).status_code == 200  # who has a good one is not


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"token": "t", "worker": "W 1", "nonce": NONCE}, "worker"),
        ({"token": "t", "worker": "w1", "nonce": "short"}, "nonce"),
        ({"token": "t", "worker": "w1", "nonce": NONCE, "site": "Site A"}, "site"),
        ({"token": "t", "worker": "w1", "nonce": NONCE, "sight": "site-a"}, "sight"),
        ({"worker": "w1", "nonce": NONCE}, "token"),
    ],
)
async def test_what_is_no_enrolment_is_told_by_its_field(hub: RunningHub, body: Shape, field: str) -> None:
    answer = await hub.http.post("/api/enrol", json=body)

    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["problems"]] == [field]


async def test_a_revoked_worker_is_thrown_off_at_once_and_stays_out(site: Site, hub: RunningHub) -> None:
    given = await enrolled(hub)
    async with site.worker(given) as worker, thrown_off(site, given):
        await hub.worker("w1", state="online")
        answer = await hub.http.post("/api/accounts/w1/revoke")
        assert answer.status_code == 200
        assert (answer.json()["revoked_at"] is None, answer.json()["at_broker"]) == (False, False)
        with pytest.raises(LinkDown):
            await soon(worker.publish(Status("site-a", "w1"), b"{}"))

    shown = await hub.worker("w1", state="offline")
    assert shown["reason"] == "connection_lost"
    assert not await is_let_in(site, given)
    posted = await hub.http.post("/api/link", json=exchange(), auth=("w1", given["password"]))
    assert posted.status_code == 401
    assert (await ask(hub, await token_for(hub), "w1")).status_code == 200  # somebody lets it in again
    assert not await is_let_in(site, given)
    (line,) = await audited(hub, "worker.revoked")
    assert line["target"] == "w1"
    assert (await hub.http.post("/api/accounts/nobody/revoke")).status_code == 404


async def test_a_worker_that_was_revoked_while_there_was_no_hub_is_shown_gone_by_the_next(site: Site) -> None:
    async with AsyncExitStack() as connected:
        async with site.hub() as hub:
            given = await enrolled(hub)
            worker = await connected.enter_async_context(site.worker(given, heartbeat_interval_seconds=3600))
            await hub.worker("w1", state="online")
        site.directly(lambda connection: revoke_account(connection, "w1", Caller(who="local:me"), now=wall_ms()))
        async with site.hub() as hub:
            await hub.worker("w1", state="offline", reason="connection_lost")
            with pytest.raises(LinkDown):
                await soon(worker.publish(Status("site-a", "w1"), b"{}"))


@pytest.mark.parametrize("how", ["revoked", "moved"])
async def test_who_may_take_a_sites_tasks_no_more_leaves_no_session_that_takes_its_share(
    site: Site, hub: RunningHub, how: str
) -> None:
    gone, other = await enrolled(hub, "w1"), await enrolled(hub, "w2")
    site.directly(lambda connection: add_publisher(connection, "pub"))
    await until(lambda: is_let_in(site, {"worker": "pub", "username": "pub", "password": password_of(site, "pub")}))
    async with site.broker.link("w1-intake", intake_of(gone), session_expiry_seconds=86_400).connect() as connection:
        await connection.subscribe(TOPICS.intake("site-a"))  # as no agent of ours does: it stays when the worker goes
    if how == "revoked":
        assert (await hub.http.post("/api/accounts/w1/revoke")).status_code == 200
    else:
        assert (await ask(hub, await token_for(hub, "site-b", worker="w1"))).status_code == 200
    await until(lambda: has_swept(hub))

    async with site.broker.link("w2-intake", intake_of(other)).connect() as connection:
        await connection.subscribe(TOPICS.intake("site-a"))
        account = Account(username="pub", password=password_of(site, "pub"))
        async with site.broker.link("pub", account).connect() as publisher:
            for _ in range(6):
                await publisher.publish(TOPICS.build(SiteTasks("site-a")), b'{"kind": "noop"}')
        messages = connection.messages()
        for _ in range(6):
            (await soon(anext(messages))).ack()
    assert '"holdfast/sweep"' not in site.broker.accounts_file.read_text()


def intake_of(given: Shape) -> Account:
    return Account(username=f"{given['worker']}/intake", password=given["password"])


async def has_swept(hub: RunningHub) -> bool:
    return not hub.hub._keeper._sessions  # noqa: SLF001


async def test_what_is_retained_of_a_revoked_worker_says_that_it_is_gone(site: Site, hub: RunningHub) -> None:
    given = await enrolled(hub)
    site.directly(lambda connection: add_reader(connection, "wall"))
    await hub.hub._watch.look()  # noqa: SLF001
    async with site.worker(given):
        await hub.http.post("/api/accounts/w1/revoke")
    await hub.worker("w1", state="offline")

    password = password_of(site, "wall")
    async with site.broker.link("wall", Account(username="wall", password=password)).connect() as wall:
        await wall.subscribe(TOPICS.of_workers(Status, "site-a"))
        incoming = await soon(anext(wall.messages()))
    assert incoming.retained
    assert b'"offline"' in incoming.payload


def add_reader(connection: Connection, name: str) -> None:
    add_account(connection, name, Kind.READER, None, Caller(who="local:me"), reserved=(), now=wall_ms())


def password_of(site: Site, name: str, generation: int = 1) -> str:
    from hub.rules import secrets  # noqa: PLC0415  its name is the standard library's

    return secrets.password_of((site.folder / "hub.key").read_bytes(), name, generation)


async def test_a_token_for_a_worker_gives_it_another_password_and_ends_the_old_one(site: Site, hub: RunningHub) -> None:
    old = await enrolled(hub)
    token = await token_for(hub, worker="w1")
    assert await is_let_in(site, old)  # until it is traded
    async with thrown_off(site, old):
        new = (await ask(hub, token, nonce=new_id())).json()

    assert new["password"] != old["password"]
    assert not await is_let_in(site, old)
    assert await is_let_in(site, new)
    posted = await hub.http.post("/api/link", json=exchange(), auth=("w1", old["password"]))
    assert posted.status_code == 401


async def test_a_worker_that_moves_to_another_site_leaves_its_rights_behind(site: Site, hub: RunningHub) -> None:
    await enrolled(hub, site="site-a")
    moved = (await ask(hub, await token_for(hub, "site-b", worker="w1"), nonce=new_id())).json()

    assert moved["site"] == "site-b"
    async with site.broker.link("w1", login(moved)).connect() as connection:
        await connection.subscribe(TOPICS.intake("site-b"))
        with pytest.raises(Refused):
            await connection.subscribe(TOPICS.intake("site-a"))


async def test_a_broker_that_has_lost_its_disk_is_filled_again_and_workers_come_back(
    site: Site, hub: RunningHub
) -> None:
    given = await enrolled(hub)
    site.directly(lambda connection: add_publisher(connection, "node-red"))
    other = {"worker": "node-red", "username": "node-red", "password": password_of(site, "node-red")}
    await until(lambda: is_let_in(site, other))
    site.broker.lose_disk()
    site.broker.start()

    await until(lambda: is_let_in(site, given))
    async with site.worker(given) as worker:
        task = await hub.post({"kind": "noop", "worker": "w1"})
        await worker.run(await worker.next_assignment())
        assert (await hub.ended(task["id"]))["state"] == "succeeded"
    assert await is_let_in(site, other)


async def test_a_broker_that_is_stopped_can_be_filled_by_its_file(site: Site) -> None:
    async with site.hub() as hub:
        given = await enrolled(hub)
        gone = await enrolled(hub, "w2")
        await hub.http.post("/api/accounts/w2/revoke")
    site.broker.lose_disk()
    engine = open_engine(site.settings.database_url)
    with engine.connect() as connection:
        assert fill_file(site.broker.accounts_file, connection, site.settings) == 4
        assert fill_file(site.broker.accounts_file, connection, site.settings) == 0
    engine.dispose()
    site.broker.start()

    assert await is_let_in(site, given)  # with no hub that runs
    assert not await is_let_in(site, gone)
    async with site.broker.link(
        "w1-intake", Account(username="w1/intake", password=given["password"])
    ).connect() as one:
        await one.subscribe(TOPICS.intake("site-a"))
        async with site.hub() as hub:
            assert await hub.hub._keeper.settled(PATIENCE_SECONDS)  # noqa: SLF001
        await one.subscribe(TOPICS.intake("site-a"))  # the hub had nothing to change, which would have ended it


async def test_a_worker_can_be_enrolled_while_the_broker_is_away(site: Site, hub: RunningHub) -> None:
    site.broker.stop()
    await until(lambda: is_away(hub))
    given = await enrolled(hub)
    assert not (await account_of(hub, "w1"))["at_broker"]
    site.broker.start()

    await until(lambda: is_let_in(site, given))


async def is_away(hub: RunningHub) -> bool:
    status: str = (await hub.get("/health"))["broker"]
    return status == "not connected"


@pytest.mark.usefixtures("hub")
async def test_what_a_command_changes_in_the_database_the_broker_knows_soon(site: Site) -> None:
    site.directly(lambda connection: add_publisher(connection, "node-red"))
    first = {"worker": "node-red", "username": "node-red", "password": password_of(site, "node-red")}
    await until(lambda: is_let_in(site, first))

    site.directly(lambda connection: rotate_account(connection, "node-red", Caller(who="local:me"), now=wall_ms()))
    second = {**first, "password": password_of(site, "node-red", 2)}
    await until(lambda: is_let_in(site, second))
    assert not await is_let_in(site, first)

    site.directly(lambda connection: revoke_account(connection, "node-red", Caller(who="local:me"), now=wall_ms()))
    await until(lambda: is_out(site, second))


async def is_out(site: Site, given: Shape) -> bool:
    return not await is_let_in(site, given)


async def test_what_others_have_at_the_broker_is_left_alone(tmp_path: Path) -> None:
    broker = SecureBroker(tmp_path)
    broker.add_client("theirs", "secret", {"rolename": "their role", "textname": "holdfast", "acls": []})
    with broker:
        site = Site(broker, tmp_path)
        async with site.hub() as hub:
            given = await enrolled(hub)
            await hub.http.post("/api/accounts/w1/revoke")
            kept = broker.accounts_file.read_text()
    assert '"theirs"' in kept
    assert '"their role"' in kept
    assert "holdfast-hub" in kept
    assert given["username"] not in re.findall(r'"username":\s*"([^"]+)"', kept)


async def test_a_name_that_somebody_else_has_at_the_broker_is_told_and_stops_no_other(tmp_path: Path) -> None:
    broker = SecureBroker(tmp_path)
    broker.add_client("w1", "secret")
    with broker:
        site = Site(broker, tmp_path)
        async with site.hub() as hub:
            await enrolled(hub, "w1")
            other = await enrolled(hub, "w2")
            assert await is_let_in(site, other)
            assert not (await account_of(hub, "w1"))["at_broker"]
            theirs = {"worker": "anything", "username": "w1", "password": "secret"}
            assert await is_let_in(site, theirs)  # it is still theirs


async def test_a_broker_without_the_plugin_is_told_and_the_rest_of_the_hub_works(
    broker: PrivateBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dynsec, "ANSWER_SECONDS", 0.2)
    settings = settings_for(broker.url, tmp_path, f"t{new_id()[:12]}", manage_accounts=True)
    headers = administrator(settings)
    async with running_hub(settings) as hub:
        hub.http.headers.update(headers)
        await enrolled(hub)
        assert await hub.hub._keeper.settled() is False  # noqa: SLF001
        async with scripted_worker(broker.url, hub.topics) as worker:
            task = await hub.post({"kind": "noop", "worker": "w1"})
            await worker.run(await worker.next_assignment())
            assert (await hub.ended(task["id"]))["state"] == "succeeded"
    assert "is the plugin loaded" in capsys.readouterr().out


def exchange(worker: str = "w1", site: str = "site-a") -> Shape:
    return {"worker": worker, "site": site}


async def test_by_http_a_worker_speaks_for_itself_alone(site: Site, hub: RunningHub) -> None:
    own = await enrolled(hub, "w1", "site-a")
    await enrolled(hub, "w2", "site-a")
    site.directly(lambda connection: add_publisher(connection, "node-red"))
    await hub.hub._watch.look()  # noqa: SLF001
    auth = ("w1", own["password"])

    assert (await hub.http.post("/api/link", json=exchange(), auth=auth)).status_code == 200
    assert (await hub.http.post("/api/link", json=exchange())).status_code == 403  # an administrator is no worker
    assert (await hub.http.post("/api/link", json=exchange(), auth=("w1", "wrong"))).status_code == 401
    assert (await hub.http.post("/api/link", json=exchange(), auth=("w1/intake", own["password"]))).status_code == 401
    publisher = ("node-red", password_of(site, "node-red"))
    assert (await hub.http.post("/api/link", json=exchange("node-red"), auth=publisher)).status_code == 403

    for body in (exchange("w2"), exchange("w1", "site-b")):
        refused = await hub.http.post("/api/link", json=body, auth=auth)
        assert refused.status_code == 403
        expected = f"this is the account of w1 at site-a, and the exchange is of {body['worker']} at {body['site']}"
        assert expected in refused.json()["detail"]
    targets = {line["target"] for line in await audited(hub, "link.refused") if line["who"] == "worker:w1"}
    assert {"w2 at site-a", "w1 at site-b"} <= targets


async def test_the_last_post_of_a_revoked_worker_comes_to_nothing_however_slowly_it_comes(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = await enrolled(hub)
    let_in, revoked = asyncio.Event(), asyncio.Event()
    accounts = hub.hub._accounts  # noqa: SLF001
    verify = accounts.verify

    def verified(username: str, password: str) -> object:
        let_in.set()
        return verify(username, password)

    async def body() -> AsyncIterator[bytes]:
        yield b'{"worker": "w1",'
        await revoked.wait()
        yield b' "site": "site-a"}'

    monkeypatch.setattr(accounts, "verify", verified)
    posting = asyncio.create_task(
        hub.http.post("/api/link", content=body(), auth=("w1", given["password"]), timeout=PATIENCE_SECONDS)
    )
    await soon(let_in.wait())
    await hub.http.post("/api/accounts/w1/revoke")
    revoked.set()

    assert (await posting).status_code == 401
    assert not hub.hub._gateway._links  # noqa: SLF001


async def test_a_sites_own_broker_cannot_take_over_a_worker_of_another_site(site: Site, hub: RunningHub) -> None:
    given = await enrolled(hub, "w1", "site-a")
    site.directly(lambda connection: add_bridge(connection, "broker-site-b", "site-b"))
    await hub.hub._watch.look()  # noqa: SLF001
    assert await hub.hub._keeper.settled(PATIENCE_SECONDS)  # noqa: SLF001
    bridge = Account(username="broker-site-b", password=password_of(site, "broker-site-b"))
    async with site.worker(given) as worker:
        task = await hub.post({"kind": "noop", "worker": "w1"})
        own = await worker.next_assignment()
        async with scripted_worker(
            site.broker.url, TOPICS, "w1", "site-b", client_id="broker-site-b", account=bridge, greets=False
        ) as liar:
            await liar.publish(Status("site-b", "w1"), encode(liar.birth()), retain=True)
            lie = TaskFinished(at=1, task=own.id, attempt=own.attempt, outcome=Outcome.FAILED, error="a lie")
            await liar.send(1, lie)
            await until(lambda: audited(hub, "link.refused"))
        assert (await hub.worker("w1", state="online"))["site"] == "site-a"
        await worker.run(own)
        assert (await hub.ended(task["id"]))["state"] == "succeeded"
    (line,) = [line for line in await audited(hub, "link.refused") if "more within" not in line["detail"]]
    assert (line["target"], line["outcome"]) == ("w1 at site-b", "refused")


def add_bridge(connection: Connection, name: str, site: str) -> None:
    add_account(connection, name, Kind.BRIDGE, site, Caller(who="local:me"), reserved=(), now=wall_ms())


async def test_a_worker_may_be_called_as_a_role_is(site: Site, hub: RunningHub) -> None:
    given = await enrolled(hub, "hub")

    assert await is_let_in(site, given)
    assert (await account_of(hub, "hub"))["at_broker"]
