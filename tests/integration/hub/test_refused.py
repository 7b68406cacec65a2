"""A broker that does not take all that the hub publishes: the hub says so once for each kind, and goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from broker.topics import Control, Topics, WorkerTasks
from tests.support.guarded import GuardedBroker, password_of
from tests.support.hubs import running_hub, settings_for
from tests.support.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping, Sequence
    from pathlib import Path

RULES = {"half": ["read edge/#", "write edge/v1/hub/status", "write edge/v1/sites/site-a/workers/w1/tasks"]}


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[GuardedBroker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with GuardedBroker(folder, RULES) as broker:
        yield broker


async def test_what_the_broker_refuses_is_told_once_and_the_rest_goes_out(
    guarded: GuardedBroker, tmp_path: Path
) -> None:
    settings = settings_for(guarded.url, tmp_path, username="half", password=password_of("half"))
    with capture_logs() as logs:
        async with running_hub(settings) as hub:
            wire = hub.hub._wire  # noqa: SLF001
            for number in range(20):
                wire.send(Control("site-a", f"w{number}"), b"{}")
                wire.send(WorkerTasks("site-a", f"w{number}"), b"{}")
            async with asyncio.timeout(PATIENCE_SECONDS):
                while wire._outbox.qsize() or len(_refused(logs)) < 2:  # noqa: ASYNC110, SLF001  it tells nobody
                    await asyncio.sleep(0.01)
            assert wire.connected.is_set()
    assert {one["kind"] for one in _refused(logs)} == {"Control", "WorkerTasks"}
    control = next(one for one in _refused(logs) if one["kind"] == "Control")
    topic = Topics().build(Control("site-a", "w0"))
    assert control["reason"] == f"the broker refuses to take {topic}: not authorized"
    assert control["remedy"].startswith("let the account 'half' publish there: ")
    assert not any(one["event"] == "broker_link_down" for one in logs)


def _refused(logs: Sequence[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    return [one for one in logs if one["event"] == "publish_refused"]


async def test_a_hub_whose_account_is_no_hubs_has_no_link_and_says_why(guarded: GuardedBroker, tmp_path: Path) -> None:
    settings = settings_for(guarded.url, tmp_path, username="nobody", password="none")  # noqa: S106  an example
    with capture_logs() as logs:
        async with running_hub(settings, linked=False), asyncio.timeout(PATIENCE_SECONDS):
            while not (down := [one for one in logs if one["event"] == "broker_link_down"]):  # noqa: ASYNC110  a log tells nobody
                await asyncio.sleep(0.01)
    assert down[0]["reason"].startswith("the broker refuses the account 'nobody' with the client id ")
    assert down[0]["remedy"] == "set HUB_USERNAME and HUB_PASSWORD_FILE to an account that the broker knows"
