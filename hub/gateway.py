"""MQTT's messages by HTTP, on the hub's side (decision 8): links, their letters, and their wills.

A letter goes to the handler that an MQTT message of its topic goes to, and is answered for before the next, so that a
batch that was posted and its receipt are one exchange. A letter that is posted twice does what a message does that
comes twice: nothing.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker import __version__
from broker.clock import new_id
from broker.errors import InvalidInput, TopicError
from broker.link import Incoming
from broker.log import get_logger
from broker.messages import ExchangeAnswer, HubStatusMessage, encode
from broker.problems import Problem, shown
from broker.topics import Events, Heartbeat, HubStatus, Reply, Status
from hub.errors import UnknownLink
from hub.rules.presence import FROZEN_MS

if TYPE_CHECKING:
    from broker.messages import Exchange, Letter
    from broker.topics import Address
    from hub.mailboxes import Mailbox, Mailboxes
    from hub.wire import Handlers, Wire

TICK_SECONDS = 0.5

log = get_logger(__name__)


@dataclass(slots=True, eq=False)
class Link:
    """One worker's connection by HTTP; `heard_at` is by the event loop's clock, `handling` an exchange's lock."""

    id: str
    site: str
    worker: str
    will: Letter | None
    silent_after_seconds: float
    mailbox: Mailbox
    heard_at: float
    handling: asyncio.Lock = field(default_factory=asyncio.Lock)


class Gateway:
    """The links by HTTP.

    Args:
        wire: Knows the topics, and passes replies on.
        mailboxes: Where the wire puts what is for a worker that is here.
        handlers: Who answers for what is posted.

    """

    def __init__(self, wire: Wire, mailboxes: Mailboxes, handlers: Handlers) -> None:
        self._wire = wire
        self._mailboxes = mailboxes
        self._handlers = handlers
        self._links: dict[str, Link] = {}
        self._session = new_id()

    async def exchange(self, posted: Exchange) -> ExchangeAnswer:
        """Handle what a worker has posted, in order, and return what there is for it.

        Raises:
            InvalidInput: If a letter is on a topic that is not that worker's own. Nothing was handled then.
            UnknownLink: If the link has ended, or is of an earlier hub.

        """
        letters = [self._open(posted, letter, f"publish[{place}]") for place, letter in enumerate(posted.publish)]
        if posted.will and not isinstance(self._open(posted, posted.will, "will")[0], Status):
            raise InvalidInput([Problem("will.topic", shown(posted.will.topic), "the worker's status topic")])
        link = await self._begin(posted) if posted.link is None else self._find(posted)
        async with link.handling:
            link.mailbox.acknowledge(posted.received)
            for address, incoming in letters:
                await self._handle(address, incoming)
            link.heard_at = asyncio.get_running_loop().time()
        if posted.leave or link.mailbox.overflown:
            await self._end(link, in_order=posted.leave)
        return ExchangeAnswer(link=link.id, deliver=tuple(link.mailbox.waiting()))

    async def watch_silence(self) -> None:
        """End links that are silent for too long, as a broker ends connections."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(TICK_SECONDS)
            now = loop.time()
            frozen = now - before > TICK_SECONDS + FROZEN_MS / 1000
            for link in list(self._links.values()):
                if frozen or link.handling.locked():
                    link.heard_at = now
                elif now - link.heard_at > link.silent_after_seconds:
                    await self._end(link, in_order=False)

    async def dismiss(self, worker: str) -> None:
        """End the links that a worker has: it begins another, or may have none any more."""
        for link in [link for link in self._links.values() if link.worker == worker]:
            await self._end(link, in_order=False)

    async def _begin(self, posted: Exchange) -> Link:
        await self.dismiss(posted.worker)
        link = Link(
            id=new_id(),
            site=posted.site,
            worker=posted.worker,
            will=posted.will,
            silent_after_seconds=posted.silent_after_seconds,
            mailbox=self._mailboxes.open(posted.worker),
            heard_at=asyncio.get_running_loop().time(),
        )
        self._links[link.id] = link
        status = HubStatusMessage(state="online", session=self._session, version=__version__)
        link.mailbox.put(self._wire.topics.build(HubStatus()), encode(status), retained=True)
        log.info("http_link", worker=link.worker, site=link.site, state="up")
        return link

    def _find(self, posted: Exchange) -> Link:
        link = self._links.get(posted.link or "")
        if link is None or (link.site, link.worker) != (posted.site, posted.worker):
            raise UnknownLink(posted.link or "")
        return link

    async def _end(self, link: Link, *, in_order: bool) -> None:
        if self._links.pop(link.id, None) is None:
            return
        self._mailboxes.close(link.worker, link.mailbox)
        log.info("http_link", worker=link.worker, site=link.site, state="left" if in_order else "lost")
        if link.will and not in_order:
            address = Status(link.site, link.worker)
            await self._handle(address, _incoming(link.will, None))

    def _open(self, posted: Exchange, letter: Letter, where: str) -> tuple[Address, Incoming]:
        """Return what a letter is, if its worker may publish it. Raises `InvalidInput`."""
        try:
            address = self._wire.topics.parse(letter.topic)
        except TopicError as error:
            raise InvalidInput([Problem(f"{where}.topic", error.problem.value, error.problem.expected)]) from None
        own = isinstance(address, Status | Heartbeat | Events) and (address.site, address.worker) == (
            posted.site,
            posted.worker,
        )
        if not (own or isinstance(address, Reply)):
            expected = f"status, heartbeat or events of {posted.worker} at {posted.site}, or a topic under replies/"
            raise InvalidInput([Problem(f"{where}.topic", shown(letter.topic), expected)])
        try:
            correlation = base64.b64decode(letter.correlation, validate=True) if letter.correlation else None
        except ValueError:
            raise InvalidInput([Problem(f"{where}.correlation", shown(letter.correlation), "base64")]) from None
        return address, _incoming(letter, correlation)

    async def _handle(self, address: Address, incoming: Incoming) -> None:
        match address:
            case Status():
                await self._handlers.status(address, incoming)
            case Heartbeat():
                await self._handlers.heartbeat(address, incoming)
            case Events():
                await self._handlers.events(address, incoming)
            case Reply() if self._wire.is_own_reply(address):
                await self._handlers.reply(incoming)
            case Reply():
                self._wire.send_to(incoming.topic, incoming.payload, incoming.correlation)


def _incoming(letter: Letter, correlation: bytes | None) -> Incoming:
    """Return a letter as a message that needs no acknowledgement: the answer to its post is one."""
    return Incoming(letter.topic, letter.payload.encode(), False, letter.reply_topic, correlation, lambda: None)  # noqa: FBT003
