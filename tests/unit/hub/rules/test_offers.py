"""When the hub may place what was published to workers and none has accepted (decisions 2 and 5)."""

from __future__ import annotations

import pytest

from broker.messages import Birth, JournalPosition, TaskSpec
from hub.rules.life import assign
from hub.rules.offers import GiveUp, Judgement, Opening, Place, Wait, give_up, judge, opening_of, withdraw
from hub.rules.task import Candidate, Case, TaskState, new_task

TOOK = Candidate("i1", "st")
"""Who should have got it: through intake i1, into journal st."""

MAYBE = Candidate("", "st")
"""The same, while the hub was away: nobody knows through which intake."""


def shown(intake: str, *, session: str = "s1", stream: str = "st", transport: str = "mqtt") -> Birth:
    return Birth.model_validate(
        {
            "session": session,
            "boot": "b",
            "at": 1,
            "version": "1",
            "slots": 1,
            "kinds": (),
            "heartbeat_interval_seconds": 1,
            "session_expiry_seconds": 1,
            "journal": JournalPosition(stream=stream, oldest=1, newest=0),
            "intake": intake,
            "transport": transport,
        }
    )


WAIT = Wait(("w1",))


@pytest.mark.parametrize(
    ("candidate", "proven", "renewed", "judgement"),
    [
        # nothing that it has said is committed yet
        (TOOK, None, None, WAIT),
        (TOOK, None, Opening("s1", "i1"), WAIT),
        # the intake that may have taken it is open still, or closed
        (TOOK, shown("i1"), None, WAIT),
        (TOOK, shown("i2"), None, Place()),
        (TOOK, shown("i2", session="s2"), None, Place()),
        # which intake is not known: any that was open when it was asked
        (MAYBE, shown("i2"), None, WAIT),
        (MAYBE, shown("i2"), Opening("s1", "i2"), WAIT),
        (MAYBE, shown("i3"), Opening("s1", "i2"), Place()),
        # it came back with another journal: nobody can tell
        (TOOK, shown("i2", stream="new"), None, GiveUp("w1 may have had it, and came back with a new journal")),
    ],
)
def test_from_its_sites_topic(
    candidate: Candidate, proven: Birth | None, renewed: Opening | None, judgement: Judgement
) -> None:
    births = {"w1": proven} if proven else {}
    asked = {"w1": renewed} if renewed else {}
    assert judge({"w1": candidate}, births, asked, idempotent=False, own_topic=False) == judgement


@pytest.mark.parametrize(
    ("proven", "renewed", "judgement"),
    [
        # the broker keeps it over connections: a new one shows nothing
        (shown("i2", session="s2"), None, WAIT),
        (shown("i2", session="s2"), Opening("s1", "i1"), WAIT),
        # an answer on the connection on which it was asked comes behind all that was sent there
        (shown("i2"), Opening("s1", "i1"), Place()),
        (shown("i1"), Opening("s1", "i1"), WAIT),
        # by HTTP nothing comes from there
        (shown("i2", transport="http"), Opening("s1", "i1"), WAIT),
    ],
)
def test_from_its_own_topic(proven: Birth, renewed: Opening | None, judgement: Judgement) -> None:
    asked = {"w1": renewed} if renewed else {}
    assert judge({"w1": TOOK}, {"w1": proven}, asked, idempotent=False, own_topic=True) == judgement


def test_it_waits_for_each_that_may_have_it() -> None:
    candidates = {"w1": TOOK, "w2": TOOK, "w3": TOOK}
    births = {"w1": shown("i2"), "w2": shown("i1")}
    assert judge(candidates, births, {}, idempotent=False, own_topic=False) == Wait(("w2", "w3"))


def test_what_may_run_twice_waits_for_nobody() -> None:
    assert judge({"w1": TOOK}, {}, {}, idempotent=True, own_topic=False) == Place()


def test_a_worker_that_tells_no_intake_opens_it_with_each_connection() -> None:
    assert opening_of(shown("", session="s7")) == Opening("s7", "s7")
    assert opening_of(shown("i1", session="s7")) == Opening("s7", "i1")


def offered() -> Case:
    spec = TaskSpec(kind="noop", idempotent=False)
    task = new_task(spec, "t1", via="site", site="site-a", pinned=None, now=1)
    return Case(task._replace(attempt=1, offered_to={"w1": TOOK}))


def test_an_offer_ends_in_the_backlog_or_unknown() -> None:
    assert withdraw(offered()).task.offered_to is None
    task = give_up(offered(), "nobody knows").task
    assert (task.state, task.reason, task.offered_to) == (TaskState.UNKNOWN, "nobody knows", None)


def test_an_offer_that_was_accepted_meanwhile_stays_as_it_is() -> None:
    held = assign(Case(offered().task._replace(offered_to=None)), "w1", 5)
    assert withdraw(held) == held
    assert give_up(held, "nobody knows") == held
