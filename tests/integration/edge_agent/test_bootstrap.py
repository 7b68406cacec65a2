"""Where a worker looks for its broker: what a hub says, or somebody in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker.account import Account
from broker.messages import Bootstrap, encode
from edge_agent.bootstrap import find_broker
from edge_agent.offline import OfflineDir
from tests.support.http_server import answer, serving

if TYPE_CHECKING:
    from pathlib import Path

SECURE, PLAIN = "mqtts://broker.example:8883", "mqtt://127.0.0.1:1883"


async def found(folder: Path, answered: str, enrolled: str | None) -> str:
    """Return where a worker looks that has enrolled with one broker, and is told of another over plain HTTP."""
    body = encode(Bootstrap(broker_url=answered, root="edge"))
    async with serving({"/api/bootstrap": answer(body=body)}) as hub:
        place = await find_broker(
            hub.url,
            Account,
            OfflineDir(folder),
            poll_interval_seconds=60,
            enrolled=Bootstrap(broker_url=enrolled, root="edge") if enrolled else None,
        )
    return place.broker_url


@pytest.mark.parametrize(
    ("answered", "enrolled", "expected"),
    [
        (PLAIN, None, PLAIN),
        (PLAIN, "mqtt://before.example", PLAIN),
        ("mqtts://moved.example", SECURE, "mqtts://moved.example"),
        (PLAIN, SECURE, SECURE),
        ("ws://127.0.0.1:80", SECURE, SECURE),
    ],
)
async def test_who_has_enrolled_with_tls_shows_its_account_to_no_broker_without(
    tmp_path: Path, answered: str, enrolled: str | None, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await found(tmp_path, answered, enrolled) == expected
    assert ("enrol it again" in capsys.readouterr().out) is (expected == SECURE)
