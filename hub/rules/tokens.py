"""Tokens of the API: what is kept of each, whether one that is shown holds, and what may be made."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from broker.messages import Message
from hub.rules.roles import Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hub.rules.secrets import Token

DAY_MS = 86_400_000
MAX_DAYS = 3_650


class TokenRequest(Message):
    """What somebody asks for who wants a token made."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    role: Role
    expires_in_days: float | None = Field(default=None, gt=0, le=MAX_DAYS, allow_inf_nan=False)


class ApiToken(NamedTuple):
    """What is kept of a token; times are Unix milliseconds.

    Attributes:
        id: By which it is found; it stands in the token.
        name: Whose it is, or what for: the audit trail names who shows it by this.
        role: What it allows.
        hash: SHA-256 of its secret, in hex.
        created_ms: When it was made.
        expires_ms: Until when it holds; None is for ever.
        last_used_ms: When it was last shown, to within a minute.
        revoked_ms: Since when it holds no more.

    """

    id: str
    name: str
    role: Role
    hash: str
    created_ms: int
    expires_ms: int | None = None
    last_used_ms: int | None = None
    revoked_ms: int | None = None

    def flaw(self, now_ms: int) -> str | None:
        """Return why it does not hold, None if it does."""
        if self.revoked_ms is not None:
            return "revoked"
        if self.expires_ms is not None and self.expires_ms <= now_ms:
            return "expired"
        return None


def issued(asked: TokenRequest, token: Token, now_ms: int) -> ApiToken:
    """Return what is to be kept of a new token."""
    lasts_ms = None if asked.expires_in_days is None else int(asked.expires_in_days * DAY_MS)
    expires_ms = None if lasts_ms is None else now_ms + lasts_ms
    return ApiToken(token.id, asked.name, asked.role, token.hash, now_ms, expires_ms)


def living(tokens: Iterable[ApiToken], name: str, now_ms: int) -> ApiToken | None:
    """Return the token of this name that holds: there is never more than one."""
    return next((one for one in tokens if one.name == name and one.flaw(now_ms) is None), None)
