"""Tokens, and the passwords that follow from the hub's key."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given, strategies as st

from hub.rules.secrets import (
    KEY_BYTES,
    TOKEN_BYTES,
    Prefix,
    Token,
    fingerprint_of,
    key_name,
    make_token,
    password_of,
    read_token,
)

RANDOM = st.binary(min_size=TOKEN_BYTES, max_size=TOKEN_BYTES)
KEYS = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
NAMES = st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,62}\Z")
PASSWORDS = st.tuples(KEYS, NAMES, st.integers(1, 1000))
Of = tuple[bytes, str, int]
CA = "0123456789abcdef" * 2


@given(RANDOM, st.sampled_from(Prefix), st.sampled_from([None, CA]))
def test_a_token_is_read_as_it_was_made_whatever_its_secret(random: bytes, prefix: Prefix, ca: str | None) -> None:
    token = make_token(prefix, random, ca)

    assert read_token(str(token), prefix) == token
    assert re.fullmatch(rf"{prefix}_[a-z0-9]{{8}}_[A-Za-z0-9_-]{{43}}{f'_{ca}' if ca else ''}", str(token))


@given(RANDOM, RANDOM)
def test_a_token_is_itself_and_no_other(one: bytes, other: bytes) -> None:
    token, stranger = make_token(Prefix.API, one), make_token(Prefix.API, other)

    assert token.is_of(token.hash)
    assert token.is_of(stranger.hash) == (token.secret == stranger.secret)
    assert token.secret not in token.hash


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hft",
        "hfx_abcdefgh_" + "s" * 43,
        "hft_abcdefgh_" + "s" * 42,
        "hft_abcdefgh_" + "s" * 44,
        "hft_ABCDEFGH_" + "s" * 43,
        "hft_abcdefgh_" + "s" * 43 + "\n",
        "hft_abcdefgh_" + "s" * 42 + "é",
        "hft_abcdefgh_" + "s" * 43 + "_0123456789ABCDEF",
        "hfe_abcdefgh_" + "s" * 43,
    ],
)
def test_what_is_no_token_of_the_api_is_none(text: str) -> None:
    assert read_token(text, Prefix.API) is None


@given(PASSWORDS, PASSWORDS)
def test_a_password_is_of_one_key_name_and_generation(one: Of, other: Of) -> None:
    password = password_of(*one)

    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", password)
    assert (password == password_of(*other)) == (one == other)


def test_a_password_stays_what_it_was_in_earlier_releases() -> None:
    assert password_of(bytes(range(32)), "w1", 1) == "XN4vWBS4kCJRAiFsUpSCS_YV7Hl6wxtkK0gZO7EYquI"


def test_the_name_of_a_key_tells_nothing_of_it() -> None:
    key = bytes(range(32))

    assert key_name(key) != key_name(bytes(32))
    assert key_name(key) not in (key.hex(), hashlib.sha256(key).hexdigest()[:8])


def test_a_fingerprint_is_the_beginning_of_a_sha256() -> None:
    assert fingerprint_of(b"der") == hashlib.sha256(b"der").hexdigest()[:32]


def test_a_token_does_not_hide_what_it_is() -> None:
    assert str(Token(Prefix.ENROLMENT, "abcdefgh", "s" * 43, CA)) == f"hfe_abcdefgh_{'s' * 43}_{CA}"
