"""What is answered to a request that may not be, and what the audit trail keeps of it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from hub.rules.callers import Caller, lacking
from hub.rules.roles import Needs

if TYPE_CHECKING:
    from collections.abc import Mapping

CROSS_SITE = "a page of another site wants to change something here"
MISNAMED = (
    "as long as this hub has no tokens, it is to be reached by 'localhost' or an address, and by no other name: "
    "make a token (edge-hub tokens create), or set HUB_ALLOW_ANONYMOUS=true"
)
NOTHING_SHOWN = (
    "this takes a token: send it as 'Authorization: Bearer hft_…' (edge-hub tokens create makes one, on the hub's host)"
)
NO_ACCOUNT_SHOWN = "this takes a worker's account: send its name and password by HTTP Basic; edge-agent enrol gets them"


class Denial(NamedTuple):
    """Why a request is refused.

    Attributes:
        status: What is answered,
        title: with what title,
        detail: and what words.
        caller: Who it was, as far as that is known.
        reason: What the audit trail keeps: equal ones are counted together, so nothing that a stranger can choose.
        headers: What goes with the answer,
        more: and with its document.

    """

    status: HTTPStatus
    title: str
    detail: str
    caller: Caller
    reason: str
    headers: Mapping[str, str] = {}
    more: Mapping[str, object] = {}


def forbidden(caller: Caller, reason: str, **more: object) -> Denial:
    """Refuse what a caller may not do, whoever they are."""
    return Denial(HTTPStatus.FORBIDDEN, "Not allowed", reason, caller, reason, {}, more)


def not_enough(caller: Caller, needs: Needs) -> Denial:
    """Refuse what takes more than a caller has."""
    reason = f"takes {needs.value}, has {caller.role or 'an account of the broker'}"
    return forbidden(caller, lacking(caller, needs), needs=needs.value, role=caller.role)._replace(reason=reason)


def missing(caller: Caller, needs: Needs) -> Denial:
    """Refuse what takes credentials, where none are shown."""
    detail = NO_ACCOUNT_SHOWN if needs is Needs.ACCOUNT else NOTHING_SHOWN
    return _unauthorized(caller, needs, detail)._replace(reason="shows nothing")


def wrong(caller: Caller, needs: Needs, reason: str) -> Denial:
    """Refuse credentials that do not hold."""
    return _unauthorized(caller, needs, reason, error='error="invalid_token"')


def too_many(caller: Caller, reason: str, wait_seconds: int) -> Denial:
    """Refuse wrong credentials without saying what is wrong, where too many have come."""
    detail = (
        f"wrong credentials came from {caller.address} too often: after {wait_seconds} s, try again with right ones"
    )
    headers = {"Retry-After": str(wait_seconds)}
    return Denial(HTTPStatus.TOO_MANY_REQUESTS, "Too many failures", detail, caller, reason, headers)


def _unauthorized(caller: Caller, needs: Needs, detail: str, *, error: str = "") -> Denial:
    if needs is Needs.ACCOUNT:
        challenge = 'Basic realm="holdfast", charset="UTF-8"'
    else:
        challenge = ", ".join(part for part in ('Bearer realm="holdfast"', error) if part)
    headers = {"WWW-Authenticate": challenge}
    return Denial(HTTPStatus.UNAUTHORIZED, "Not signed in", detail, caller, detail, headers)
