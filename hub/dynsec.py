"""Speaks with Mosquitto's dynamic security plugin, over the hub's own connection.

Commands go to one topic, answers come on another, to everybody who may listen there; so each command carries a word of
ours that its answer repeats. The plugin (mosquitto 2.0.11) writes its whole file after every command, and the broker
does nothing else meanwhile: batches are small, so that others get their turn.
"""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import from_json

from broker.clock import new_id
from broker.log import get_logger
from broker.topics import SECURITY_ANSWERS, SECURITY_COMMANDS
from hub.errors import BrokerSilent
from hub.rules.reconcile import read_roster

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from broker.link import Incoming
    from hub.rules.reconcile import Command, Roster
    from hub.wire import Wire

BATCH = 10
"""Commands in one message."""

PAGE = 100
"""Clients or roles that are listed at one time: about 200 KB."""

ANSWER_SECONDS = 30.0
"""How long a batch may take: with thousands of accounts on a slow disk, a command can take a second."""

log = get_logger(__name__)


class Answer(NamedTuple):
    """What the plugin says to one command; `error` is in its own words."""

    command: str
    data: Mapping[str, Any]
    error: str | None


class DynamicSecurity:
    """The plugin's control protocol.

    Args:
        wire: The hub's connection; what comes on the plugin's topic is given here.

    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._one_at_a_time = asyncio.Lock()
        self._word = new_id()
        self._numbers = count()
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        wire.listen(SECURITY_ANSWERS, self._on_answers)

    @property
    def is_linked(self) -> bool:
        """Whether the broker can be told anything now."""
        return self._wire.connected.is_set()

    async def ask(self, commands: Sequence[Command]) -> list[Answer]:
        """Give commands, in their order, and return the answer to each.

        Raises:
            BrokerSilent: If there is no link, or no answer in time; some of the commands may have been carried out.

        """
        answers: list[Answer] = []
        async with self._one_at_a_time:
            for first in range(0, len(commands), BATCH):
                answers += await self._ask(commands[first : first + BATCH])
        return answers

    def on_link_lost(self) -> None:
        """Give up on what was asked: no answer comes over another link."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(BrokerSilent("the link to it went"))

    async def roster(self) -> Roster:
        """Return all clients and roles that the broker has. Raises `BrokerSilent`."""
        try:
            return read_roster(await self._list("listClients", "clients"), await self._list("listRoles", "roles"))
        except (KeyError, TypeError, AttributeError) as error:  # a plugin of another version, or another's
            raise BrokerSilent(f"its list of accounts is not understood: {error!r}") from error

    async def _list(self, command: str, what: str) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        while True:
            page = {"command": command, "verbose": True, "count": PAGE, "offset": len(found)}
            (answer,) = await self.ask([page])
            if answer.error is not None:
                raise BrokerSilent(f"it refuses {command}: {answer.error}")
            found += answer.data[what]
            if len(answer.data[what]) < PAGE:
                return found

    async def _ask(self, batch: Sequence[Command]) -> list[Answer]:
        words = [f"{self._word}-{next(self._numbers)}" for _ in batch]
        marked = [{**command, "correlationData": word} for command, word in zip(batch, words, strict=True)]
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in batch]
        self._waiting |= zip(words, futures, strict=True)
        try:
            if not self.is_linked:
                raise BrokerSilent("there is no link to it")
            self._wire.send_to(SECURITY_COMMANDS, json.dumps({"commands": marked}).encode())
            async with asyncio.timeout(ANSWER_SECONDS):
                return list(await asyncio.gather(*futures))
        except TimeoutError:
            raise BrokerSilent(
                f"nothing came on {SECURITY_ANSWERS} within {ANSWER_SECONDS:g} s; is the plugin loaded "
                "(plugin …/mosquitto_dynamic_security.so), and may HUB_USERNAME administer it?"
            ) from None
        finally:
            for word in words:
                self._waiting.pop(word, None)

    def _on_answers(self, incoming: Incoming) -> None:
        try:
            responses = from_json(incoming.payload)["responses"]
            for one in responses:
                self._on_answer(one)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("answer_not_understood", topic=incoming.topic, error=repr(error))
        incoming.ack()

    def _on_answer(self, one: Mapping[str, Any]) -> None:
        future = self._waiting.get(one.get("correlationData", ""))  # none: somebody else has asked
        if future and not future.done():
            future.set_result(Answer(one["command"], one.get("data", {}), one.get("error")))
