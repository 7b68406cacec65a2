"""What can be told of a token and of a hub before anything is sent."""

from __future__ import annotations

import base64
import hashlib

import pytest

from broker.errors import InvalidInput
from edge_agent.rules.enrolling import goes_in_clear, read_token, vouched

SECRET = "S" * 20 + "_-" + "s" * 21
TOKEN = f"hfe_ab12cd34_{SECRET}"
MARK = "0123456789abcdef" * 2


def pem(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"


def test_a_token_is_read_with_and_without_the_mark_of_an_authority() -> None:
    plain, marked = read_token(f" {TOKEN}\n", "--token"), read_token(f"{TOKEN}_{MARK}", "--token")
    assert (plain.id, plain.fingerprint) == ("ab12cd34", None)
    assert marked.fingerprint == MARK
    assert plain.digest != marked.digest


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "--token is empty: "),
        (TOKEN[:-1], "--token is a text of 55 characters: "),
        (f"{TOKEN}_0123", "--token is a text of 61 characters: "),
        (TOKEN.replace("hfe", "hft"), "--token is a token that begins with hft_, which is for something else: "),
    ],
)
def test_what_is_no_token_is_refused_and_never_shown(text: str, shown: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        read_token(text, "--token")
    assert str(raised.value).startswith(shown)
    assert SECRET[:10] not in str(raised.value)


def test_of_several_certificates_only_the_one_that_is_named_is_believed() -> None:
    der, other = b"the right one", b"an attacker's own"
    mark = hashlib.sha256(der).hexdigest()[:32]
    both = vouched(pem(other) + pem(der) + pem(other), mark)
    assert both is not None
    assert both.strip() == pem(der).strip()
    assert vouched(pem(other), mark) is None
    assert vouched("no PEM at all", mark) is None
    assert vouched("-----BEGIN CERTIFICATE-----\nA===\n-----END CERTIFICATE-----", mark) is None


@pytest.mark.parametrize(
    ("url", "clear"),
    [
        ("https://hub.example", False),
        ("http://hub.example:8000", True),
        ("http://8.8.8.8", True),
        ("http://[2606:4700::1111]:8000", True),
        ("http://localhost:8000", False),
        ("http://backend:8000", False),
        ("http://hub.lan:8000", False),
        ("http://192.168.1.10:8000", False),
        ("http://10.0.0.1", False),
        ("http://127.0.0.1:8000", False),
        ("http://[fd00::1]:8000", False),
    ],
)
def test_a_secret_goes_in_clear_only_beyond_a_network_of_ones_own(url: str, clear: object) -> None:
    assert goes_in_clear(url) is clear
