"""What an Authorization header shows."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, strategies as st

from hub.rules.credentials import Basic, Bearer, Unreadable, read_credentials


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (None, None),
        (b"Bearer hft_x", Bearer("hft_x")),
        (b"bearer  hft_x ", Bearer("hft_x")),
        (b"Bearer", Bearer("")),
        (b"Bearer \xff", Bearer("\xff")),
        (basic("w1:pass:word"), Basic("w1", "pass:word")),
        (basic("w\u00f6:p"), Basic("w\u00f6", "p")),
        (basic(":"), Basic("", "")),
    ],
)
def test_a_header_shows_a_token_or_a_name_and_password(header: bytes | None, shown: object) -> None:
    assert read_credentials(header) == shown


@pytest.mark.parametrize(
    "header", [b"", b"hft_x", b"Digest x", b"Basic ***", b"Basic dzE=", b"Basic /w==", b"x" * 2000]
)
def test_what_is_neither_is_told(header: bytes) -> None:
    shown = read_credentials(header)
    assert isinstance(shown, Unreadable)
    assert "expected" in shown.reason


@given(st.binary(max_size=2000))
def test_no_header_is_too_strange(header: bytes) -> None:
    assert read_credentials(header) is not None
