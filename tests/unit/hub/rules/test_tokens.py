"""Whether a token holds."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from hub.rules.roles import Role
from hub.rules.secrets import Prefix, Token
from hub.rules.tokens import DAY_MS, ApiToken, TokenRequest, issued, living

ONE = ApiToken("aaaaaaaa", "ci", Role.OPERATOR, "0" * 64, 1000)


@pytest.mark.parametrize(
    ("token", "flaw"),
    [
        (ONE, None),
        (ONE._replace(expires_ms=2001), None),
        (ONE._replace(expires_ms=2000), "expired"),
        (ONE._replace(revoked_ms=1500), "revoked"),
        (ONE._replace(revoked_ms=1500, expires_ms=1600), "revoked"),
    ],
)
def test_a_token_holds_until_it_expires_or_is_revoked(token: ApiToken, flaw: str | None) -> None:
    assert token.flaw(2000) == flaw


def test_of_a_name_the_one_that_holds_is_found() -> None:
    old = ONE._replace(id="old", revoked_ms=1)
    assert living([old, ONE], "ci", 2000) is ONE
    assert living([old], "ci", 2000) is None


def test_of_a_token_its_secret_is_not_kept() -> None:
    token = Token(Prefix.API, "aaaaaaaa", "s" * 43)
    one = issued(TokenRequest(name="ci", role=Role.VIEWER, expires_in_days=2), token, 1000)
    assert token.secret not in str(one)
    assert (one.id, one.hash, one.expires_ms) == ("aaaaaaaa", token.hash, 1000 + 2 * DAY_MS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "CI"},
        {"name": "x" * 64},
        {"name": "ci\n"},
        {"role": "root"},
        {"expires_in_days": 0},
        {"expires_in_days": 4000},
        {"expires_in_days": float("nan")},
        {"scope": "all"},
    ],
)
def test_what_cannot_be_is_not_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TokenRequest.model_validate({"name": "ci", "role": "viewer", **wrong})
