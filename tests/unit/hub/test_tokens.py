"""Tokens as a hub that runs knows them: in memory, and compared in constant time."""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING

import pytest
import structlog.testing

import hub.tokens
from hub.keys import new_token
from hub.rules.callers import ANYBODY
from hub.rules.roles import Role
from hub.rules.secrets import Prefix
from hub.rules.tokens import ApiToken
from hub.store.ledger import Ledger
from hub.store.tokens import add_token, load_tokens
from hub.tokens import Tokens
from hub.watch import Watch

if TYPE_CHECKING:
    from sqlalchemy import Engine


@pytest.fixture
def secret() -> str:
    return str(new_token(Prefix.API))


@pytest.fixture
def tokens(engine: Engine, secret: str) -> Tokens:
    shown = secret.split("_", 2)
    known = new_token(Prefix.API)._replace(id=shown[1], secret=shown[2])
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        add_token(connection, ApiToken(known.id, "ci", Role.VIEWER, known.hash, 1), ANYBODY)
        add_token(connection, ApiToken("expired1", "old", Role.VIEWER, known.hash, 2, 3), ANYBODY)
    tokens = Tokens(engine, Ledger(engine), Watch(engine))
    with engine.connect() as connection:
        tokens.load(connection)
    return tokens


def test_a_token_is_known_by_its_whole_text(tokens: Tokens, secret: str) -> None:
    one, flaw = tokens.verify(secret)
    assert (one and one.name, flaw) == ("ci", None)
    assert tokens.all()[0].last_used_ms is not None


@pytest.mark.parametrize(
    "text", ["", "hft_", "hfe_" + "a" * 8 + "_" + "x" * 43, "x" * 5000, "hft_ä_" + "x" * 43, "a b"]
)
def test_what_is_no_token_is_none(tokens: Tokens, text: str) -> None:
    assert tokens.verify(text)[0] is None


def test_what_is_a_bit_off_is_not_known(tokens: Tokens, secret: str) -> None:
    other = "a" if secret[-1] != "a" else "b"
    for text in (
        secret[:-1] + other,
        secret.replace(secret[4:12], "aaaaaaaa"),
        secret[:-1],
        secret + "a",
        secret.upper(),
    ):
        assert tokens.verify(text)[0] is None
    assert tokens.all()[0].last_used_ms is None


def test_one_that_holds_no_more_says_so_and_is_not_used(tokens: Tokens, secret: str) -> None:
    one, flaw = tokens.verify("hft_expired1_" + secret.split("_", 2)[2])
    assert (one and one.name, flaw) == ("old", "expired")
    assert tokens.all()[1].last_used_ms is None


def test_a_secret_is_compared_in_constant_time_for_an_unknown_id_too(
    tokens: Tokens, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def compare(mine: bytes, theirs: bytes) -> bool:
        compared.append((len(mine), len(theirs)))
        return real(mine, theirs)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for text in (secret, secret[:-1] + "_", str(new_token(Prefix.API))):
        tokens.verify(text)
    assert compared == [(64, 64)] * 3


async def test_a_disk_that_takes_no_note_of_a_use_ends_nothing_and_the_next_time_it_is_kept(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.tokens, "TOUCH_SECONDS", 0.01)
    known = new_token(Prefix.API)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        add_token(connection, ApiToken(known.id, "ci", Role.VIEWER, known.hash, 1), ANYBODY)
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE UPDATE ON tokens BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
        )
    ledger = Ledger(engine)
    ledger.open()
    tokens = Tokens(engine, ledger, Watch(engine))
    with engine.connect() as connection:
        tokens.load(connection)
    assert tokens.verify(str(known))[1] is None
    running = asyncio.create_task(tokens.run())
    try:
        with structlog.testing.capture_logs() as logs:
            async with asyncio.timeout(10):
                while not logs and not running.done():
                    await ledger.commit(lambda _: None)
        assert [entry["event"] for entry in logs][:1] == ["token_use_not_kept"]
        await ledger.commit(lambda connection: connection.exec_driver_sql("DROP TRIGGER full"))
        async with asyncio.timeout(10):
            while await ledger.commit(load_tokens) != tokens.all():
                assert not running.done()
    finally:
        running.cancel()
        await asyncio.wait([running])
        ledger.close()
