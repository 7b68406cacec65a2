"""What accounts may do: whatever workers and sites are called, none reaches into another's."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from broker.topics import (
    NAME_PATTERN,
    Control,
    Events,
    Heartbeat,
    HubStatus,
    Reply,
    SiteTasks,
    Status,
    Topics,
    WorkerTasks,
)
from hub.rules.access import Account, Acl, Kind, Right, acls_of, roles_of

TOPICS = Topics()
NAMES = st.from_regex(NAME_PATTERN.replace("$", r"\Z").replace("^", r"\A"))
OF_WORKERS = (Status, Heartbeat, Events, WorkerTasks, Control)
SUBSCRIBING = {Right.SUBSCRIBE, Right.SUBSCRIBE_LITERAL}


def account(kind: Kind, name: str = "one", site: str | None = "site-a") -> Account:
    return Account(name, kind, site, generation=1, created_ms=0, changed_ms=0)


def matches(pattern: str, topic: str) -> bool:
    """Match a topic filter as MQTT has it (§4.7)."""
    levels = topic.split("/")
    for place, wanted in enumerate(pattern.split("/")):
        if wanted == "#":
            return True
        if place >= len(levels) or (wanted != "+" and wanted != levels[place]):
            return False
    return pattern.count("/") == topic.count("/")


def may(acls: tuple[Acl, ...], right: Right, topic: str) -> bool:
    """Decide as the plugin does: the highest priority that matches says yes or no, and silence is a no."""
    found = [acl for acl in acls if acl.right is right and matches(acl.topic, topic)]
    return max(found, key=lambda acl: acl.priority).allow if found else False


@given(NAMES, NAMES, NAMES, NAMES)
def test_no_worker_reaches_into_anothers_topics(worker: str, site: str, other: str, elsewhere: str) -> None:
    acls = acls_of(account(Kind.WORKER, worker, site), TOPICS)

    for kind in OF_WORKERS:
        topic = TOPICS.build(kind(elsewhere, other))
        own = (worker, site) == (other, elsewhere)
        assert may(acls, Right.SEND, topic) == (own and kind is not Control)
        assert may(acls, Right.RECEIVE, topic) == (own and kind in (Status, WorkerTasks, Control))
    at_home = site == elsewhere
    assert may(acls, Right.SEND, TOPICS.build(SiteTasks(elsewhere))) == at_home
    assert may(acls, Right.RECEIVE, TOPICS.build(SiteTasks(elsewhere))) == at_home


@given(NAMES, NAMES)
def test_a_worker_subscribes_to_no_wildcard(worker: str, site: str) -> None:
    acls = acls_of(account(Kind.WORKER, worker, site), TOPICS)

    assert all("+" not in acl.topic and "#" not in acl.topic for acl in acls if acl.right in SUBSCRIBING)


@given(NAMES, NAMES, NAMES)
def test_a_publisher_hears_nothing_but_its_answers(name: str, site: str, other: str) -> None:
    acls = acls_of(account(Kind.PUBLISHER, name, site), TOPICS)

    assert may(acls, Right.RECEIVE, TOPICS.build(Reply(f"{other}/1"))) == (name == other)
    for kind in OF_WORKERS:
        assert not may(acls, Right.RECEIVE, TOPICS.build(kind(site, other)))
        assert may(acls, Right.SEND, TOPICS.build(kind(site, other))) == (kind is WorkerTasks)


@given(NAMES, NAMES, NAMES)
def test_a_bridge_is_its_site_but_for_the_hubs_word(site: str, elsewhere: str, worker: str) -> None:
    acls = acls_of(account(Kind.BRIDGE, "bridge", site), TOPICS)

    for kind in OF_WORKERS:
        topic = TOPICS.build(kind(elsewhere, worker))
        assert may(acls, Right.RECEIVE, topic) == (site == elsewhere)
        assert may(acls, Right.SEND, topic) == (site == elsewhere and kind is not Control)
    assert not may(acls, Right.SEND, TOPICS.build(HubStatus()))


@pytest.mark.parametrize("site", ["site-a", None])
def test_a_reader_publishes_nothing(site: str | None) -> None:
    assert all(acl.right is not Right.SEND for acl in acls_of(account(Kind.READER, site=site), TOPICS))


@pytest.mark.parametrize("kind", [Kind.WORKER, Kind.PUBLISHER, Kind.BRIDGE])
def test_who_is_of_no_site_may_nothing(kind: Kind) -> None:
    with pytest.raises(ValueError, match="has a site"):
        acls_of(account(kind, site=None), TOPICS)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.HUB])
def test_only_the_hub_speaks_to_the_plugin(kind: Kind) -> None:
    assert not any(acl.topic.startswith(("$CONTROL", "#", "+")) for acl in acls_of(account(kind), TOPICS))


def test_what_workers_of_a_site_share_is_one_role() -> None:
    one, other = (roles_of(account(Kind.WORKER, name), TOPICS) for name in ("w1", "w2"))

    assert set(one) & set(other) == {"site:site-a"}
    assert one["site:site-a"] == other["site:site-a"]


def test_topics_of_another_root_are_not_ours() -> None:
    acls = acls_of(account(Kind.HUB), Topics("mine"))

    assert may(acls, Right.SEND, "mine/v1/hub/status")
    assert not may(acls, Right.SEND, "edge/v1/hub/status")
