"""What a real broker refuses, and why one cannot be reached: each in one line that says what to do."""

from __future__ import annotations

import asyncio
import gc
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from broker import link
from broker.account import Account
from broker.errors import LinkDown, Refused
from broker.link import Link
from broker.local import PrivateBroker, free_port
from tests.support.guarded import GuardedBroker, password_of

if TYPE_CHECKING:
    from collections.abc import Iterator

RULES = {"w1": ["readwrite allowed/#", "read told/#"]}
REMEDY = "enrol again"

# paho 2 drops the socket of a handshake that failed without closing it
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedBroker]:
    with GuardedBroker(tmp_path_factory.mktemp("guarded"), RULES) as guarded:
        yield guarded


def account(broker: GuardedBroker, **changed: str) -> Account:
    mine = Account(
        username="w1",
        password=password_of("w1"),
        tls_ca=str(broker.authority.path),
        prefix="WORKER_",
        remedy=REMEDY,
    )
    return replace(mine, **changed)


async def failure(url: str, who: Account) -> LinkDown:
    with pytest.raises(LinkDown) as raised:
        async with Link(url=url, client_id="w1", account=who).connect():
            pass
    gc.collect()  # the socket goes here, and not in a later test
    return raised.value


# -- what is published and subscribed ----------------------------------------------------------------------------------


async def test_what_may_not_be_published_is_an_error_and_the_connection_lives(broker: GuardedBroker) -> None:
    async with Link(url=broker.url, client_id="w1", account=account(broker)).connect() as connection:
        await connection.publish("allowed/a", b"1")
        with pytest.raises(Refused) as raised:
            await connection.publish("told/a", b"2")
        await connection.publish("allowed/a", b"3")
    refused = raised.value
    assert (refused.topic, refused.code, refused.passing) == ("told/a", 135, False)
    assert refused.reason == "the broker refuses to take told/a: not authorized"
    assert refused.remedy.startswith("let the account 'w1' publish there: ")


async def test_of_many_at_a_time_each_hears_of_its_own(broker: GuardedBroker) -> None:
    topics = [f"{kind}/{number}" for number in range(50) for kind in ("allowed", "other")]
    async with Link(url=broker.url, client_id="w1", account=account(broker)).connect() as connection:
        answers = await asyncio.gather(*(connection.publish(topic, b"1") for topic in topics), return_exceptions=True)
    refused = {topic for topic, answer in zip(topics, answers, strict=True) if isinstance(answer, Refused)}
    assert refused == {topic for topic in topics if topic.startswith("other/")}
    assert [answer for answer in answers if answer is not None and not isinstance(answer, Refused)] == []


async def test_that_nobody_has_subscribed_is_no_refusal(broker: GuardedBroker) -> None:
    async with Link(url=broker.url, client_id="w1", account=account(broker)).connect() as connection:
        await connection.publish("allowed/nobody-is-there", b"1")


# -- who is let in ---------------------------------------------------------------------------------------------------


async def test_an_account_that_is_refused_is_named_with_how_to_get_another(broker: GuardedBroker) -> None:
    down = await failure(broker.url, account(broker, password="another"))  # noqa: S106  an example
    assert isinstance(down, Refused)
    assert not down.passing
    assert (down.reason, down.remedy) == ("the broker refuses the account 'w1' with the client id 'w1'", REMEDY)


async def test_without_an_account_it_is_said_that_one_is_wanted(broker: GuardedBroker) -> None:
    down = await failure(broker.url, Account(remedy=REMEDY))
    assert (down.reason, down.remedy) == ("the broker lets nobody in without an account", REMEDY)


async def test_with_the_right_account_and_authority_it_is_in(broker: GuardedBroker) -> None:
    for who in (account(broker), replace(account(broker), tls_ca=None, tls_ca_text=broker.authority.pem)):
        async with Link(url=broker.tls["good"], client_id="w1", account=who).connect() as connection:
            await connection.publish("allowed/a", b"1")


# -- TLS and the network -----------------------------------------------------------------------------------------------


async def test_a_certificate_of_another_authority_is_told_from_none(broker: GuardedBroker) -> None:
    url = broker.tls["good"]
    stranger = await failure(url, account(broker, tls_ca=str(broker.stranger.path)))
    assert stranger.reason.startswith(
        f"the certificate of {url[8:]} is signed by nobody whom {broker.stranger.path} vouches for ("
    )
    assert stranger.remedy == "set WORKER_TLS_CA to the authority that signed it"
    system = await failure(url, replace(account(broker), tls_ca=None))
    assert "whom this system vouches for" in system.reason
    enrolled = await failure(url, replace(account(broker), tls_ca=None, tls_ca_text=broker.stranger.pem))
    assert "whom the authority of its enrolment vouches for" in enrolled.reason


async def test_a_certificate_that_has_ended_or_is_for_another_host_is_told_apart(broker: GuardedBroker) -> None:
    ended, elsewhere = broker.tls["ended"], broker.tls["elsewhere"]
    assert (await failure(ended, account(broker))).reason == f"the certificate of {ended[8:]} has expired"
    found = await failure(elsewhere, account(broker))
    assert found.reason == f"the certificate of {elsewhere[8:]} is not for 'localhost'"
    by_address = elsewhere.replace("localhost", "127.0.0.1")
    assert (await failure(by_address, account(broker))).reason.endswith(" is not for '127.0.0.1'")


async def test_tls_where_there_is_none_and_none_where_there_is_are_told_at_once(broker: GuardedBroker) -> None:
    plain = await failure(f"mqtts://localhost:{broker.port}", account(broker))
    assert "TLS" in plain.reason
    assert "8883" in plain.remedy
    secure = await failure(broker.tls["good"].replace("mqtts", "mqtt"), account(broker))
    assert secure.reason.endswith("closed the connection and did not answer")
    assert secure.remedy.startswith("it may be a listener for TLS")
    assert secure.remedy != plain.remedy


async def test_nobody_there_no_such_host_and_no_answer_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    nobody = await failure(f"mqtt://127.0.0.1:{port}", Account())
    assert nobody.reason == f"connection refused: nothing listens at 127.0.0.1:{port}"
    unknown = await failure("mqtt://no-such-host.invalid", Account())
    assert "'no-such-host.invalid'" in unknown.reason
    monkeypatch.setattr(link, "OPERATION_TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert (
            await failure(f"mqtt://127.0.0.1:{port}", Account())
        ).reason == f"no answer in time from 127.0.0.1:{port}"


async def test_no_websocket_where_one_was_expected_is_told(broker: GuardedBroker) -> None:
    down = await failure(f"ws://127.0.0.1:{broker.port}/mqtt", Account())
    assert down.reason == f"127.0.0.1:{broker.port} does not speak WebSocket there"


async def test_a_client_certificate_that_is_wanted_is_told(broker: GuardedBroker) -> None:
    port, pair = free_port(), broker.authority.sign("mutual")
    extra = (
        f"listener {port} 127.0.0.1\ncafile {broker.authority.path}\ncertfile {pair.certificate}\nkeyfile {pair.key}\n"
        "require_certificate true\n"
    )
    mine = broker.authority.sign("w1", client=True)
    with PrivateBroker(extra=extra):
        without = await failure(f"mqtts://localhost:{port}", account(broker))
        assert without.remedy == "it may want a client certificate: WORKER_TLS_CERTIFICATE and WORKER_TLS_KEY"
        shown = account(broker, tls_certificate=str(mine.certificate), tls_key=str(mine.key))
        async with Link(url=f"mqtts://localhost:{port}", client_id="w1", account=shown).connect():
            pass
