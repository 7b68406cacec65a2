"""A link by HTTP, where MQTT is blocked (decision 8): `broker.link.Link`, spelt as a row of posts to the hub.

What is published while a post is under way waits for the next, and goes together. Nothing is posted for nothing but
each `poll_interval_seconds`, to ask for what waits at the hub.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from broker.account import Account
from broker.errors import HoldfastError, LinkDown, Refused, Trouble
from broker.link import Incoming
from broker.log import get_logger
from broker.messages import Exchange, ExchangeAnswer, Letter, encode
from broker.problems import explain
from broker.reconnect import keep_connected
from edge_agent.bootstrap import ask
from edge_agent.http_client import HttpClient
from edge_agent.rules import letters as rules
from edge_agent.rules.letters import Received

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from broker.link import Will
    from broker.messages import Delivered
    from edge_agent.http_client import Answer

LINK_PATH = "/api/link"
MAX_POST_BYTES = 4 * 1024 * 1024
"""What one post carries, but for a single letter that is larger; the hub takes twice of it."""

SILENT_AFTER_POLLS = 3
MIN_SILENT_SECONDS = 10.0
MAX_SILENT_SECONDS = 3600.0
LEAVE_TIMEOUT_SECONDS = 2.0
"""How long a hub that does not answer can hold up who leaves."""

MAX_COMPLAINT = 300
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLink:
    """How to reach the hub by HTTP.

    Args:
        url: The hub's `http://` or `https://`.
        site: Where the worker is.
        worker: Who asks.
        root: The first level of the worker's topics: a hub with another is not its hub.
        poll_interval_seconds: How often to ask for what waits.
        account: Certificates, and who the worker is.
        renewed: Asked at each connection for the account, where that may change meanwhile.
        silent_after_seconds: After so long without a post the hub gives the link up; unset, it is a few polls.

    """

    url: str
    site: str
    worker: str
    root: str
    poll_interval_seconds: float
    account: Account = field(default_factory=Account)
    renewed: Callable[[], Account] | None = None
    silent_after_seconds: float | None = None

    async def run(
        self,
        serve: Callable[[HttpConnection], Awaitable[None]],
        *,
        will: Callable[[], Will] | None = None,
        on_down: Callable[[LinkDown, float], None] | None = None,
    ) -> None:
        """Connect, `await serve(connection)`, and connect again whenever the link goes; return when `serve` does.

        Args:
            serve: Uses one connection; what it raises as `LinkDown` (alone or in a group) means to try again.
            will: Makes the will of each connection.
            on_down: Told of each failure and the seconds until the next try.

        """
        await keep_connected(lambda: self._once(serve, will() if will else None), on_down)

    async def _once(self, serve: Callable[[HttpConnection], Awaitable[None]], will: Will | None) -> None:
        async with self.connect(will) as connection:
            await serve(connection)

    @asynccontextmanager
    async def connect(self, will: Will | None = None) -> AsyncIterator[HttpConnection]:
        """Hold one link; leaving the block ends it in order, so that the will is not published."""
        connection = HttpConnection(self)
        try:
            await connection.begin(will)
            asking = asyncio.create_task(connection.keep_asking(), name="http-link")
            try:
                yield connection
            finally:
                await connection.leave(asking)
        finally:
            connection.close()

    async def reaches_hub(self) -> bool:
        """Tell whether the hub answers, and is the one whose topics we know."""
        try:
            return (await ask(self.url, self.account_now())).root == self.root
        except (HoldfastError, ValueError) as error:
            log.debug("hub_not_reached", url=self.url, reason=str(error))
            return False

    def account_now(self) -> Account:
        """Return the account to connect with."""
        return self.renewed() if self.renewed else self.account

    @property
    def silence_seconds(self) -> float:
        """After how long the hub gives the link up."""
        if self.silent_after_seconds is not None:
            return self.silent_after_seconds
        return min(MAX_SILENT_SECONDS, max(MIN_SILENT_SECONDS, SILENT_AFTER_POLLS * self.poll_interval_seconds))

    @property
    def pause_seconds(self) -> float:
        """How long nothing may be posted."""
        return min(self.poll_interval_seconds, self.silence_seconds / SILENT_AFTER_POLLS)


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """A letter that waits for its post, and for the hub's answer to that."""

    letter: Letter
    size: int
    answered: asyncio.Future[None]


class HttpConnection:
    """A live link; every call raises `LinkDown` once it is gone."""

    def __init__(self, link: HttpLink) -> None:
        self._link = link
        self._account = link.account_now()
        self._client = HttpClient(link.url, self._account, shows_account=True)
        self._id: str | None = None
        self._outbox: deque[_Outgoing] = deque()
        self._posted: list[_Outgoing] = []
        self._received = Received()
        self._told = 0
        self._inbox: deque[Incoming] = deque()
        self._news = asyncio.Event()
        self._arrived = asyncio.Event()
        self._leaving = False
        self._down: LinkDown | None = None

    @property
    def transport(self) -> Literal["http"]:
        """Which way it goes, as a birth says it."""
        return "http"

    @property
    def url(self) -> str:
        """Where to."""
        return self._link.url

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        expiry_seconds: int | None = None,  # noqa: ARG002  the hub handles at once what it gets
        reply_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> None:
        """Publish with the next post, and return when the hub has answered that: then it is committed."""
        self._check()
        encoded = base64.b64encode(correlation).decode() if correlation is not None else None
        letter = Letter(
            topic=topic, payload=payload.decode(), retain=retain, reply_topic=reply_topic, correlation=encoded
        )
        out = _Outgoing(letter, len(encode(letter)), asyncio.get_running_loop().create_future())
        self._outbox.append(out)
        self._news.set()
        await out.answered

    async def subscribe(self, *filters: str, no_local: bool = False) -> None:  # noqa: ARG002
        """Do nothing: the hub knows what a worker is to hear."""
        self._check()

    async def unsubscribe(self, *filters: str) -> None:  # noqa: ARG002
        """Do nothing."""
        self._check()

    async def messages(self) -> AsyncIterator[Incoming]:
        """Yield what comes, each letter once, for as long as the link lives; raise `LinkDown` when it ends."""
        while True:
            self._check()
            if self._inbox:
                yield self._inbox.popleft()
            else:
                self._arrived.clear()
                await self._arrived.wait()

    def waiting(self) -> int:
        """Return how many messages have come and were not yet yielded."""
        return len(self._inbox)

    # -- the posts ---------------------------------------------------------------------------------------------------

    async def begin(self, will: Will | None) -> None:
        """Begin the link at the hub. Raises `LinkDown`."""
        await self._exchange(
            will=Letter(topic=will.topic, payload=will.payload.decode(), retain=True) if will else None
        )

    async def keep_asking(self) -> None:
        """Post what there is to tell, at once, and each poll at least, until the link goes or is left."""
        ended, left = LinkDown(self.url, "the link was closed"), False
        try:
            while not left:
                await self._wait_for_news()
                left = await self._exchange()
        except LinkDown as down:
            ended = down
        finally:
            self._end(ended)

    async def leave(self, asking: asyncio.Task[None]) -> None:
        """End the link in order, with the last of `asking`'s posts, if the hub answers in time."""
        self._leaving = True
        self._news.set()
        try:
            await asyncio.wait([asking], timeout=LEAVE_TIMEOUT_SECONDS)
        finally:
            asking.cancel()
            await asyncio.wait([asking])
        if not asking.cancelled():
            asking.result()

    def close(self) -> None:
        """Let the HTTP connection go."""
        self._client.close()

    async def _wait_for_news(self) -> None:
        await asyncio.sleep(0)  # whoever publishes in this turn shares the post
        self._news.clear()
        if self._outbox or self._leaving or self._received.through > self._told:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._link.pause_seconds):
                await self._news.wait()

    async def _exchange(self, will: Letter | None = None) -> bool:
        """Post once, and tell whether that was the last."""
        link, received = self._link, self._received.through
        self._posted = self._next_letters()
        leave = self._leaving and not self._outbox
        answer = await self._post(
            Exchange(
                site=link.site,
                worker=link.worker,
                link=self._id,
                will=will,
                publish=tuple(one.letter for one in self._posted),
                received=received,
                silent_after_seconds=link.silence_seconds,
                leave=leave,
            )
        )
        self._id, self._told = answer.link, received
        self._deliver(answer.deliver)
        for one in self._posted:
            if not one.answered.done():
                one.answered.set_result(None)
        self._posted = []
        return leave

    def _next_letters(self) -> list[_Outgoing]:
        """Take letters from the outbox, as many as one post carries, but not those that nobody waits for any more."""
        taken: list[_Outgoing] = []
        size = 0
        while self._outbox and (not taken or size + self._outbox[0].size <= MAX_POST_BYTES):
            one = self._outbox.popleft()
            if not one.answered.done():
                taken.append(one)
                size += one.size
        return taken

    async def _post(self, exchange: Exchange) -> ExchangeAnswer:
        answer = await self._client.ask("POST", LINK_PATH, encode(exchange))
        if answer.status != HTTPStatus.OK:
            raise self._refusal(answer)
        try:
            return ExchangeAnswer.model_validate_json(answer.body)
        except ValidationError as error:
            raise LinkDown(self.url, f"no answer of a hub: {explain(error, root='answer')[0]}") from None

    def _refusal(self, answer: Answer) -> LinkDown:
        reason = f"the hub answered {answer.status}: {_complaint(answer.body)}"
        if answer.status not in REFUSED:
            return LinkDown(self.url, reason)
        return Refused(self.url, answer.status, Trouble(reason, self._account.remedy), passing=False)

    def _deliver(self, letters: Iterable[Delivered]) -> None:
        for letter in letters:
            self._received, is_new = rules.on_delivered(self._received, letter.number)
            if is_new:
                self._inbox.append(_incoming(letter, partial(self._acknowledge, letter.number)))
                self._arrived.set()

    def _acknowledge(self, number: int) -> None:
        self._received = rules.on_acknowledged(self._received, number)
        self._news.set()

    def _end(self, down: LinkDown) -> None:
        self._down = down
        self._arrived.set()
        for one in (*self._posted, *self._outbox):
            if not one.answered.done():
                one.answered.set_exception(LinkDown(down.url, down.reason, down.remedy))

    def _check(self) -> None:
        if self._down:
            raise LinkDown(self._down.url, self._down.reason, self._down.remedy)


def _complaint(body: bytes) -> str:
    """Return what a problem document says (RFC 9457), or the beginning of anything else."""
    try:
        problem = json.loads(body)
        said = ": ".join(filter(None, (problem["title"], problem["detail"])))
    except (ValueError, LookupError, TypeError):
        said = body.decode(errors="replace")
    return said[:MAX_COMPLAINT]


def _incoming(letter: Delivered, ack: Callable[[], None]) -> Incoming:
    correlation = base64.b64decode(letter.correlation) if letter.correlation is not None else None
    return Incoming(letter.topic, letter.payload.encode(), letter.retain, letter.reply_topic, correlation, ack)
