"""Who may do what: what a caller has shown against what is needed."""

from __future__ import annotations

import pytest

from hub.rules.access import Account, Kind
from hub.rules.audit import Outcome
from hub.rules.callers import ANYBODY, Caller, is_enough, lacking
from hub.rules.roles import Needs, Role

VIEWER = Caller("token:eye", Role.VIEWER)
OPERATOR = Caller("token:ci", Role.OPERATOR)
ADMIN = Caller("token:root", Role.ADMIN)
WORKER = Caller("worker:w1", account=Account("w1", Kind.WORKER, "site-a", 1, 0, 0))
READER = Caller("reader:r1", account=Account("r1", Kind.READER, None, 1, 0, 0))
EVERYBODY = [ANYBODY, READER, WORKER, VIEWER, OPERATOR, ADMIN]


@pytest.mark.parametrize(
    ("needs", "allowed"),
    [
        (Needs.NOTHING, EVERYBODY),
        (Needs.ACCOUNT, [WORKER]),
        (Needs.VIEWER, [VIEWER, OPERATOR, ADMIN]),
        (Needs.OPERATOR, [OPERATOR, ADMIN]),
        (Needs.ADMIN, [ADMIN]),
    ],
)
def test_what_is_needed_says_who_may(needs: Needs, allowed: list[Caller]) -> None:
    assert [caller for caller in EVERYBODY if is_enough(caller, needs)] == allowed


@pytest.mark.parametrize(
    ("caller", "needs", "words"),
    [
        (
            VIEWER,
            Needs.OPERATOR,
            "you are token:eye, whose role is viewer: this takes a token with the role operator or more",
        ),
        (OPERATOR, Needs.ADMIN, "you are token:ci, whose role is operator: this takes a token with the role admin"),
        (WORKER, Needs.VIEWER, "you are worker:w1, and an account of the broker is for the broker and for /api/link"),
        (ADMIN, Needs.ACCOUNT, "you are token:root, whose role is admin: this is for workers"),
    ],
)
def test_who_may_not_hears_what_it_takes(caller: Caller, needs: Needs, words: str) -> None:
    assert lacking(caller, needs).startswith(words)


def test_what_somebody_did_says_who_and_as_what() -> None:
    entry = OPERATOR._replace(address="10.0.0.7").did("task.submitted", "t1", "noop")
    assert (entry.who, entry.role, entry.address) == ("token:ci", Role.OPERATOR, "10.0.0.7")
    assert (entry.action, entry.target, entry.detail, entry.outcome) == ("task.submitted", "t1", "noop", Outcome.DONE)
