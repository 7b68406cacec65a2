"""What the plugin answers, by a wire that is none: a broker that answers nonsense is hard to come by."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from broker.link import Incoming
from broker.topics import SECURITY_ANSWERS
from hub.dynsec import DynamicSecurity
from hub.errors import BrokerSilent

if TYPE_CHECKING:
    from collections.abc import Callable

    from hub.wire import Wire


class Oracle:
    """Answers each command with the same data."""

    def __init__(self, data: Any) -> None:  # noqa: ANN401  any JSON
        self.connected = asyncio.Event()
        self.connected.set()
        self._data = data

    def listen(self, _topic: str, handler: Callable[[Incoming], None]) -> None:
        self._handler = handler

    def send_to(self, _topic: str, payload: bytes) -> None:
        answers = [{**one, "data": self._data} for one in json.loads(payload)["commands"]]
        body = json.dumps({"responses": answers}).encode()
        self._handler(Incoming(SECURITY_ANSWERS, body, False, None, None, lambda: None))  # noqa: FBT003


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"clients": None},
        {"clients": ["name"]},
        {"clients": [{"textname": "holdfast"}]},
        {"clients": [], "roles": [{}]},
    ],
)
async def test_a_list_that_is_not_understood_is_tried_again_and_ends_nothing(data: Any) -> None:  # noqa: ANN401
    with pytest.raises(BrokerSilent, match="not understood"):
        await DynamicSecurity(cast("Wire", Oracle(data))).roster()


async def test_no_accounts_are_a_list_too() -> None:
    roster = await DynamicSecurity(cast("Wire", Oracle({"clients": [], "roles": []}))).roster()
    assert (roster.clients, roster.roles) == ({}, {})
