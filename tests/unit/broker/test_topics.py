"""Topics are built and parsed by one module, each way the inverse of the other."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from broker.errors import TopicError
from broker.topics import (
    MAX_REPLY_LENGTH,
    Address,
    Bridge,
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

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
REPLY_PATHS = st.text(st.characters(exclude_characters="+#\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
ADDRESSES: st.SearchStrategy[Address] = st.one_of(
    st.builds(SiteTasks, NAMES),
    st.builds(WorkerTasks, NAMES, NAMES),
    st.builds(Control, NAMES, NAMES),
    st.builds(Status, NAMES, NAMES),
    st.builds(Heartbeat, NAMES, NAMES),
    st.builds(Events, NAMES, NAMES),
    st.builds(Bridge, NAMES),
    st.just(HubStatus()),
    st.builds(Reply, REPLY_PATHS),
)
ROOTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)

BAD_NAMES = {
    "empty": "",
    "upper case": "Site-A",
    "a final newline": "site-a\n",
    "a newline within": "site\na",
    "a slash": "site/a",
    "a plus": "+",
    "a hash": "#",
    "64 characters": "a" * 64,
    "a hyphen first": "-site",
    "a dot first": ".site",
    "a space": "site a",
    "a dollar": "$site",
    "not ASCII": "sité",
    "a NUL": "site\0",
}


@given(ROOTS, ADDRESSES)
def test_parse_is_the_inverse_of_build(root: str, address: Address) -> None:
    topics = Topics(root)
    assert topics.parse(topics.build(address)) == address


@given(st.text(max_size=60) | st.from_regex(r"edge/v1/(sites|hub|replies)(/[a-z+#A-Z]{0,5}){0,5}", fullmatch=True))
def test_whatever_parses_is_built_again_as_it_was(topic: str) -> None:
    topics = Topics()
    try:
        address = topics.parse(topic)
    except TopicError:
        return
    assert topics.build(address) == topic


@pytest.mark.parametrize(
    ("address", "topic"),
    [
        (SiteTasks("site-a"), "edge/v1/sites/site-a/tasks"),
        (WorkerTasks("site-a", "w1"), "edge/v1/sites/site-a/workers/w1/tasks"),
        (Control("site-a", "w1"), "edge/v1/sites/site-a/workers/w1/control"),
        (Status("site-a", "w1"), "edge/v1/sites/site-a/workers/w1/status"),
        (Heartbeat("site-a", "w1"), "edge/v1/sites/site-a/workers/w1/heartbeat"),
        (Events("site-a", "w1"), "edge/v1/sites/site-a/workers/w1/events"),
        (HubStatus(), "edge/v1/hub/status"),
        (Reply("me/7"), "edge/v1/replies/me/7"),
    ],
)
def test_the_topics_are_those_of_the_contract(address: Address, topic: str) -> None:
    assert Topics().build(address) == topic


def test_the_workers_of_a_site_share_one_subscription() -> None:
    assert Topics().intake("site-a") == "$share/workers/edge/v1/sites/site-a/tasks"


def test_the_hub_hears_whatever_is_published_about_any_site() -> None:
    assert Topics("plant").all_of_sites() == "plant/v1/sites/#"


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_a_name_that_is_none_is_refused_by_field_and_value(name: str) -> None:
    topics = Topics()
    for address, field in (
        (SiteTasks(name), "site"),
        (Status(name, "w1"), "site"),
        (WorkerTasks("site-a", name), "worker"),
    ):
        with pytest.raises(TopicError) as caught:
            topics.build(address)
        assert caught.value.problem.field == field
        assert caught.value.problem.expected.startswith("a text that matches")
    with pytest.raises(TopicError):
        topics.parse(f"edge/v1/sites/{name}/tasks")


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "edge",
        "edge/v1",
        "edge/v1/",
        "edge/v1/sites",
        "edge/v1/sites/site-a",
        "edge/v1/sites/site-a/task",
        "edge/v1/sites/site-a/tasks/",
        "edge/v1/sites/a/b/tasks",
        "edge/v1/sites/site-a/workers/w1",
        "edge/v1/sites/site-a/workers/w1/result",
        "edge/v1/sites/site-a/workers/w1/tasks/x",
        "edge/v1/hub",
        "edge/v1/replies",
        "edge/v2/sites/site-a/tasks",
        "edgy/v1/sites/site-a/tasks",
        "/edge/v1/sites/site-a/tasks",
    ],
)
def test_a_topic_that_is_none_of_ours_is_named_in_the_error(topic: str) -> None:
    with pytest.raises(TopicError) as caught:
        Topics().parse(topic)
    assert caught.value.problem.field == "topic"
    assert topic in caught.value.problem.value


@pytest.mark.parametrize("root", ["", "a/b", "+", "#", "$SYS", "edge\n", "-edge", "a" * 64, "é"])
def test_a_root_that_is_no_topic_level_is_refused(root: str) -> None:
    with pytest.raises(TopicError) as caught:
        Topics(root)
    assert caught.value.problem.field == "root"


@pytest.mark.parametrize("path", ["", "a/+/b", "#", "nul\0", "x" * (MAX_REPLY_LENGTH + 1)])
def test_a_reply_goes_to_no_filter_and_no_endless_topic(path: str) -> None:
    with pytest.raises(TopicError) as caught:
        Topics().build(Reply(path))
    assert caught.value.problem.field == "reply"


@pytest.mark.parametrize(
    ("topic", "may"),
    [
        ("edge/v1/replies/me", True),
        ("edge/v1/replies/a/b/c", True),
        ("edge/v1/replies/", False),
        ("edge/v1/replies/+", False),
        ("edge/v1/sites/site-a/tasks", False),
        ("edge/v1/hub/status", False),
        ("other/replies/me", False),
        ("", False),
    ],
)
def test_only_topics_under_replies_are_answered_on(topic: str, may: bool) -> None:  # noqa: FBT001
    assert Topics().is_reply(topic) is may
