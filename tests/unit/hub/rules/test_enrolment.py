"""Whether a token is traded for an account: the decision."""

from __future__ import annotations

import pytest

from hub.rules.access import Account, Kind
from hub.rules.enrolment import Ask, Enrolment, Grant, Reason, Refusal, judge, name_problem
from hub.rules.secrets import TOKEN_BYTES, Prefix, Token, hash_of, make_token

NOW, HOUR = 1_000_000, 3_600_000
TOKEN = make_token(Prefix.ENROLMENT, bytes(TOKEN_BYTES))
OTHER = Token(Prefix.ENROLMENT, TOKEN.id, "x" * 43)
KEPT = Enrolment(TOKEN.id, TOKEN.hash, "site-a", None, NOW - 1, NOW + HOUR)
ASK = Ask(TOKEN, "w1", "site-a", "nonce")
RESERVED = {"holdfast-hub"}
WORKER = Account("w1", Kind.WORKER, "site-a", 3, 5, NOW - 10)
USED = KEPT._replace(used_ms=NOW - 10, used_by="w1", nonce_hash=hash_of("nonce"))


def decide(ask: Ask = ASK, kept: Enrolment | None = KEPT, account: Account | None = None) -> Grant | Refusal:
    return judge(ask, kept, account, reserved=RESERVED, now=NOW)


def reason(ask: Ask = ASK, kept: Enrolment | None = KEPT, account: Account | None = None) -> Reason:
    refusal = decide(ask, kept, account)
    assert isinstance(refusal, Refusal)
    assert refusal.detail
    return refusal.reason


def granted(ask: Ask = ASK, kept: Enrolment | None = KEPT, account: Account | None = None) -> Grant:
    grant = decide(ask, kept, account)
    assert isinstance(grant, Grant)
    return grant


def test_a_good_token_gives_an_account_of_its_site_and_is_used() -> None:
    grant = granted()

    assert grant.account == Account("w1", Kind.WORKER, "site-a", 1, NOW, NOW)
    assert grant.enrolment == KEPT._replace(used_ms=NOW, used_by="w1", nonce_hash=hash_of("nonce"))
    assert grant.is_new


def test_a_worker_that_knows_no_site_takes_the_tokens() -> None:
    assert granted(ASK._replace(site=None)).account.site == "site-a"


@pytest.mark.parametrize(
    ("ask", "kept", "account", "expected"),
    [
        (ASK, None, None, Reason.UNKNOWN),
        (ASK._replace(token=None), KEPT, None, Reason.UNKNOWN),
        (ASK._replace(token=OTHER), KEPT, None, Reason.UNKNOWN),
        (ASK, KEPT._replace(expires_ms=NOW), None, Reason.EXPIRED),
        (ASK, KEPT._replace(revoked_ms=NOW - 1), None, Reason.REVOKED),
        (ASK._replace(worker="w2"), USED, None, Reason.USED),
        (ASK._replace(nonce="another"), USED, WORKER, Reason.USED),
        (ASK._replace(site="site-b"), KEPT, None, Reason.OTHER_SITE),
        (ASK, KEPT._replace(worker="w2"), None, Reason.OTHER_WORKER),
        (ASK, KEPT, WORKER, Reason.TAKEN),
        (ASK, KEPT, WORKER._replace(kind=Kind.PUBLISHER), Reason.TAKEN),
        (ASK, KEPT._replace(worker="w1"), WORKER._replace(kind=Kind.BRIDGE), Reason.TAKEN),
        (ASK._replace(worker="holdfast-hub"), KEPT, None, Reason.RESERVED),
        (ASK._replace(worker="w1-intake"), KEPT, None, Reason.RESERVED),
    ],
)
def test_it_is_refused_for_the_right_reason(
    ask: Ask, kept: Enrolment | None, account: Account | None, expected: Reason
) -> None:
    assert reason(ask, kept, account) is expected


def test_who_asks_again_with_the_same_nonce_gets_the_same_also_after_the_hour() -> None:
    grant = granted(kept=USED._replace(expires_ms=NOW - 1), account=WORKER)

    assert (grant.account, grant.is_new) == (WORKER, False)


@pytest.mark.parametrize(
    "account",
    [
        None,
        WORKER._replace(revoked_ms=NOW - 5, changed_ms=NOW - 5),
        WORKER._replace(generation=4, changed_ms=NOW - 5),
    ],
)
def test_what_was_given_before_is_not_given_again_once_it_is_no_more(account: Account | None) -> None:
    assert reason(kept=USED, account=account) is Reason.USED


def test_a_token_that_was_revoked_after_its_use_gives_nothing_again() -> None:
    assert reason(kept=USED._replace(revoked_ms=NOW - 1), account=WORKER) is Reason.REVOKED


def test_a_token_for_a_worker_renews_its_account() -> None:
    grant = granted(ASK._replace(site=None), KEPT._replace(worker="w1", site="site-b"), WORKER)

    assert grant.account == WORKER._replace(site="site-b", generation=4, changed_ms=NOW)


def test_a_name_that_was_revoked_is_free_and_its_passwords_do_not_come_back() -> None:
    grant = granted(account=WORKER._replace(revoked_ms=NOW - 5))

    assert grant.account == WORKER._replace(generation=4, changed_ms=NOW)


def test_the_first_thing_that_is_said_to_a_stranger_is_that_the_token_is_none() -> None:
    """What becomes of an enrolment is told to those alone who have its token."""
    for kept in (KEPT._replace(revoked_ms=1), KEPT._replace(expires_ms=1), USED, KEPT._replace(worker="w2")):
        assert reason(ASK._replace(token=OTHER), kept) is Reason.UNKNOWN


@pytest.mark.parametrize(
    ("kept", "state"),
    [
        (KEPT, "open"),
        (KEPT._replace(expires_ms=NOW), "expired"),
        (USED._replace(expires_ms=NOW - 1), "used"),
        (USED._replace(revoked_ms=NOW), "revoked"),
    ],
)
def test_how_a_token_stands(kept: Enrolment, state: str) -> None:
    assert kept.state(NOW) == state


def test_a_good_name_has_no_problem() -> None:
    assert name_problem("w1", RESERVED) is None
