"""How many tasks of some sort may be with workers at one time."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from broker.problems import explain
from hub.rules.placement import Limit, labels_of_interest
from hub.rules.placement.limits import Count, Usage, caps
from tests.unit.hub.rules.placement.cases import asking, worker

BACKUP = asking(None, labels={"job": "backup", "customer": "acme"})
HERE, THERE = worker("w1"), worker("w2", "site-b")


@pytest.mark.parametrize(
    ("limit", "concerned"),
    [
        (Limit(max=1), True),
        (Limit(labels={"job": "backup"}, max=1), True),
        (Limit(labels={"job": "backup", "customer": "acme"}, max=1), True),
        (Limit(labels={"job": "restore"}, max=1), False),
        (Limit(labels={"team": "infra"}, max=1), False),
        (Limit(kind="noop", max=1), True),
        (Limit(kind="sleep", max=1), False),
        (Limit(site="site-b", max=1), True),
        (Limit(each="customer", max=1), True),
        (Limit(each="team", max=1), False),
    ],
)
def test_a_limit_concerns_the_tasks_that_it_selects(limit: Limit, *, concerned: bool) -> None:
    assert bool(caps([limit], BACKUP)) is concerned


def test_a_limit_at_one_site_does_not_concern_tasks_of_another() -> None:
    assert caps([Limit(site="site-b", max=1)], asking("site-a")) == ()


@pytest.mark.parametrize(
    ("limit", "open_here", "open_there"),
    [
        (Limit(max=1), False, False),
        (Limit(per="site", max=1), False, True),
        (Limit(per="worker", max=1), False, True),
        (Limit(site="site-a", max=1), False, True),
        (Limit(site="site-b", max=1), True, True),
        (Limit(max=2), True, True),
    ],
)
def test_a_task_counts_where_it_is(limit: Limit, *, open_here: bool, open_there: bool) -> None:
    usage, (cap,) = Usage(), caps([limit], BACKUP)
    usage.hold("t1", [cap], HERE)
    assert (usage.is_open(cap, HERE), usage.is_open(cap, THERE)) == (open_here, open_there)


def test_each_value_of_a_label_is_counted_for_itself() -> None:
    limit, usage = Limit(each="customer", max=1), Usage()
    (acme,), (other,) = caps([limit], BACKUP), caps([limit], asking(labels={"customer": "other"}))
    usage.hold("t1", [acme], HERE)
    assert not usage.is_open(acme, HERE)
    assert usage.is_open(other, HERE)


def test_what_becomes_free_is_told_once() -> None:
    usage, (cap,) = Usage(), caps([Limit(per="site", max=1)], BACKUP)
    for task in ("t1", "t2"):
        assert usage.hold(task, [cap], HERE) == []
    assert usage.hold("t2", [cap], HERE) == []
    assert usage.release("t1") == []  # another went there by itself
    assert usage.release("t2") == [Count(cap, "site-a")]
    assert usage.release("t2") == []
    assert usage.tasks == []


def test_a_task_that_goes_elsewhere_makes_free_where_it_was() -> None:
    usage, (cap,) = Usage(), caps([Limit(per="worker", max=1)], BACKUP)
    usage.hold("t1", [cap], HERE)
    assert usage.hold("t1", [cap], THERE) == [Count(cap, "w1")]
    assert usage.is_open(cap, HERE)
    assert not usage.is_open(cap, THERE)


def test_only_the_labels_of_limits_matter() -> None:
    limits = [Limit(labels={"job": "backup"}, max=1), Limit(each="customer", max=1), Limit(max=9)]
    assert labels_of_interest(limits) == {"job", "customer"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "max is missing: expected a value"),
        ({"max": -1}, "max is -1: expected a whole number from 0"),
        ({"max": 1, "per": "rack"}, "per is \"rack\": expected 'fleet', 'site' or 'worker'"),
        ({"max": 1, "label": "job"}, 'label is "job": there is no such field'),
        ({"max": 1, "site": "Site A"}, 'site is "Site A": expected a text that matches'),
    ],
)
def test_a_limit_that_is_wrong_names_the_field(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Limit.model_validate(given)
    (problem,) = explain(caught.value)
    assert str(problem).startswith(words)
