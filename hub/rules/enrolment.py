"""Whether a one-time token may be traded for an account of the broker, and for which: decided from what is kept.

A worker that did not hear the answer asks again, and gets the same one: it is known by a nonce that it made and keeps.
"""

from __future__ import annotations

import hmac
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from hub.rules.access import INTAKE_SUFFIX, Account, Kind
from hub.rules.secrets import hash_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from hub.rules.secrets import Token

ASK_FOR_ANOTHER = "ask for another: edge-hub workers enrol --site {site}"


class Enrolment(NamedTuple):
    """A one-time token as it is kept. Times are Unix milliseconds.

    Attributes:
        id: By which it is spoken of.
        hash: Of its secret.
        site: Which site the worker that trades it will be of.
        worker: Who alone may trade it; None for any that has no account yet.
        created_ms: When it was made.
        expires_ms: Until when it may be traded.
        used_ms: When it was.
        used_by: By which worker.
        nonce_hash: Of what that worker keeps, to be told the same again.
        revoked_ms: When somebody took it back.

    """

    id: str
    hash: str
    site: str
    worker: str | None
    created_ms: int
    expires_ms: int
    used_ms: int | None = None
    used_by: str | None = None
    nonce_hash: str | None = None
    revoked_ms: int | None = None

    def state(self, now: int) -> str:
        """Return how it stands: `open`, `used`, `expired` or `revoked`."""
        if self.revoked_ms is not None:
            return "revoked"
        if self.used_ms is not None:
            return "used"
        return "open" if now < self.expires_ms else "expired"


class Ask(NamedTuple):
    """What a worker asks with; `site` is where it thinks to be, if it does."""

    token: Token | None
    worker: str
    site: str | None
    nonce: str


class Reason(StrEnum):
    """Why an enrolment is refused, in a word."""

    UNKNOWN = "unknown token"
    EXPIRED = "expired token"
    USED = "used token"
    REVOKED = "revoked token"
    OTHER_SITE = "another site's token"
    OTHER_WORKER = "another worker's token"
    RESERVED = "reserved name"
    TAKEN = "name taken"


class Refusal(NamedTuple):
    """Why not; `detail` also says what to do."""

    reason: Reason
    detail: str


class Grant(NamedTuple):
    """The account that is given, and the token as it is kept from now on; `is_new` unless it was given before."""

    account: Account
    enrolment: Enrolment
    is_new: bool


def judge(
    ask: Ask,
    enrolment: Enrolment | None,
    account: Account | None,
    *,
    reserved: Collection[str],
    now: int,
    least_generation: int = 1,
) -> Grant | Refusal:
    """Decide on an enrolment.

    Args:
        ask: What the worker says.
        enrolment: What is kept of a token with the id of the one that it shows.
        account: The account that has the worker's name by now, alive or revoked.
        reserved: Names that no worker may have, since the hub itself has them at the broker.
        now: The time, in Unix milliseconds.
        least_generation: Which of the passwords of a name may be the next: a restore has forgotten some.

    """
    if enrolment is None or ask.token is None or not ask.token.is_of(enrolment.hash):
        return Refusal(Reason.UNKNOWN, "token is none that this hub has made: check that all of it was copied")
    given = _given_before(ask, enrolment, account)
    if given:
        return Grant(given, enrolment, is_new=False)
    refusal = _against_token(enrolment, now) or _against_worker(ask, enrolment, account, reserved)
    return refusal or _grant(ask, enrolment, account, now, least_generation)


def name_problem(name: str, reserved: Collection[str]) -> str | None:
    """Return what there is against an account of this name, whatever it is for."""
    if name in reserved:
        return f"{name} is how the hub itself is known at the broker"
    if name.endswith(INTAKE_SUFFIX):
        return f"{name} ends in {INTAKE_SUFFIX}, as the second connection of a worker does"
    return None


def _given_before(ask: Ask, enrolment: Enrolment, account: Account | None) -> Account | None:
    """Return what this worker got for this token, unless that was revoked or is another by now."""
    if enrolment.revoked_ms is not None or ask.worker != enrolment.used_by or account is None or not account.lives:
        return None
    is_same = hmac.compare_digest(hash_of(ask.nonce), enrolment.nonce_hash or "")
    return account if is_same and account.changed_ms == enrolment.used_ms else None


def _against_token(enrolment: Enrolment, now: int) -> Refusal | None:
    more = ASK_FOR_ANOTHER.format(site=enrolment.site)
    match enrolment.state(now):
        case "revoked":
            return Refusal(Reason.REVOKED, f"token {enrolment.id} was revoked; {more}")
        case "used":
            who = enrolment.used_by
            return Refusal(Reason.USED, f"token {enrolment.id} was used by {who}, and is good for one worker; {more}")
        case "expired":
            return Refusal(Reason.EXPIRED, f"token {enrolment.id} has expired; {more}")
    return None


def _against_worker(
    ask: Ask, enrolment: Enrolment, account: Account | None, reserved: Collection[str]
) -> Refusal | None:
    if ask.site is not None and ask.site != enrolment.site:
        detail = f"token {enrolment.id} is for {enrolment.site}, and {ask.worker} is at {ask.site}"
        return Refusal(Reason.OTHER_SITE, f"{detail}: set WORKER_SITE right, or ask for a token for {ask.site}")
    if enrolment.worker is not None and ask.worker != enrolment.worker:
        detail = f"token {enrolment.id} is for {enrolment.worker}, and this is {ask.worker}"
        return Refusal(Reason.OTHER_WORKER, f"{detail}: set WORKER_ID right, or ask for a token of its own")
    problem = name_problem(ask.worker, reserved)
    if problem:
        return Refusal(Reason.RESERVED, f"worker is {ask.worker!r}: {problem}; choose another WORKER_ID")
    return _against_account(ask, enrolment, account)


def _against_account(ask: Ask, enrolment: Enrolment, account: Account | None) -> Refusal | None:
    if account is None or not account.lives:
        return None
    if account.kind is not Kind.WORKER:
        detail = f"{ask.worker} is the name of another account ({account.kind}); choose another WORKER_ID"
        return Refusal(Reason.TAKEN, detail)
    if enrolment.worker is None:
        detail = f"{ask.worker} has an account already, at {account.site}; if this is that worker, ask for its own"
        detail = f"{detail} token: edge-hub workers rotate {ask.worker}; else choose another WORKER_ID"
        return Refusal(Reason.TAKEN, detail)
    return None


def _grant(ask: Ask, enrolment: Enrolment, account: Account | None, now: int, least_generation: int) -> Grant:
    generation = max(least_generation, account.generation + 1 if account else 1)
    created = account.created_ms if account else now
    return Grant(
        Account(ask.worker, Kind.WORKER, enrolment.site, generation, created, now),
        enrolment._replace(used_ms=now, used_by=ask.worker, nonce_hash=hash_of(ask.nonce)),
        is_new=True,
    )
