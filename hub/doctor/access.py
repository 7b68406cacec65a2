"""What the doctor thinks of who may use the API: values in, findings out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.doctor import Finding, bad, ok, warn
from hub.doctor.words import named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hub.rules.tokens import ApiToken

SOON_MS = 14 * 86_400_000
_MAKE_ONE = "edge-hub tokens create --name NAME --role operator"


def check_tokens(
    tokens: Sequence[ApiToken], now: int, *, loopback: bool, anonymous: bool, required: bool
) -> list[Finding]:
    """Judge who may use the API."""
    hold = [one for one in tokens if one.flaw(now) is None]
    if not tokens and not required:
        if loopback:
            return [ok("there are no tokens: the API is open to this machine, and listens to no other")]
        if anonymous:
            return [warn("there are no tokens: the API is open to whoever reaches it (HUB_ALLOW_ANONYMOUS)", _MAKE_ONE)]
        return [bad("there are no tokens: the hub does not start with an address beyond loopback", _MAKE_ONE)]
    if not hold:
        return [bad("no token holds: nobody can use the API", _MAKE_ONE)]
    findings = [ok(f"{len(hold)} tokens hold: {named(f'{one.name} ({one.role.value})' for one in hold)}")]
    ending = [one.name for one in hold if one.expires_ms is not None and one.expires_ms - now < SOON_MS]
    if ending:
        findings.append(warn(f"within two weeks end the tokens {named(ending)}", _MAKE_ONE))
    return findings
