"""A broker and its network, as values: sessions, queues, retained messages, wills, one shared subscription a site.

Within one connection MQTT keeps order, so what is lost, late or doubled here is what a real broker makes of it: the
tail of a connection that breaks, a queue that is dropped or wiped, an unacknowledged message that comes again, a will
that is published when a dead connection is noticed. Addresses are those of `broker.topics`, bodies are bytes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker.topics import HubStatus, SiteTasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.topics import Address

HUB = "hub"


@dataclass(frozen=True, slots=True)
class Letter:
    """A message under way. `retained` is set on what a broker repeats to a new subscriber."""

    address: Address
    body: bytes
    retain: bool = False
    retained: bool = False


@dataclass(slots=True)
class Delivery:
    """A message that a session keeps until it is acknowledged."""

    letter: Letter
    delivered: bool = False


@dataclass(slots=True)
class Session:
    """What the broker keeps for one client; `clean` ones end with their connection."""

    client: str
    clean: bool
    wants: set[Address] = field(default_factory=set)
    wants_all_sites: bool = False
    shares: str | None = None
    queue: deque[Delivery] = field(default_factory=deque)
    line: Line | None = None

    def takes(self, address: Address) -> bool:
        return address in self.wants or (self.wants_all_sites and not isinstance(address, HubStatus))


@dataclass(slots=True, eq=False)
class Line:
    """One connection. Either end may believe that it lives when the other does not any more."""

    session: Session
    will: Letter | None = None
    up: deque[Letter] = field(default_factory=deque)
    client_believes: bool = True
    broker_believes: bool = True
    quiet_since: int | None = None

    @property
    def name(self) -> str:
        return self.session.client

    @property
    def whole(self) -> bool:
        return self.client_believes and self.broker_believes

    def publish(self, address: Address, body: bytes, *, retain: bool = False) -> None:
        self.up.append(Letter(address, body, retain))

    def acknowledge(self, delivery: Delivery) -> None:
        if self.whole and delivery in self.session.queue:
            self.session.queue.remove(delivery)


class Broker:
    """One broker. `choose` picks the member of a share that is handed a message."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        self._choose = choose
        self.up = True
        self.sessions: dict[str, Session] = {}
        self.retained: dict[Address, Letter] = {}
        self.lines: list[Line] = []

    def connect(
        self, client: str, *, clean: bool = False, starts_clean: bool = False, will: Letter | None = None
    ) -> Line:
        """Accept a connection: an older one of this client ends, and its will is published first."""
        session = self.sessions.get(client)
        if session is not None and session.line is not None:
            self.notice(session.line)
        session = self.sessions.get(client)
        if session is None or clean or starts_clean:
            session = self.sessions[client] = Session(client, clean)
        for delivery in session.queue:
            delivery.delivered = False
        line = session.line = Line(session, will)
        self.lines.append(line)
        return line

    def subscribe(self, line: Line, *addresses: Address) -> None:
        line.session.wants.update(addresses)
        for address in addresses:
            self._repeat(line.session, address)

    def subscribe_to_all_sites(self, line: Line) -> None:
        line.session.wants_all_sites = True
        for address in list(self.retained):
            if not isinstance(address, HubStatus):
                self._repeat(line.session, address)

    def share(self, line: Line, site: str) -> None:
        line.session.shares = site

    def unshare(self, line: Line) -> None:
        line.session.shares = None

    def route_next(self, line: Line) -> Letter:
        """Take the next message that came on a line."""
        letter = line.up.popleft()
        self.route(letter, publisher=line.name)
        return letter

    def route(self, letter: Letter, *, publisher: str) -> None:
        if letter.retain:
            self.retained[letter.address] = Letter(letter.address, letter.body, retained=True)
        passed_on = Letter(letter.address, letter.body)
        for session in list(self.sessions.values()):
            if session.takes(letter.address) and not (session.wants_all_sites and publisher == session.client):
                session.queue.append(Delivery(passed_on))
        if isinstance(letter.address, SiteTasks):
            self._hand_to_one(passed_on, letter.address.site)

    def cut(self, line: Line) -> None:
        """End a connection; both ends know."""
        line.client_believes = False
        self.notice(line)

    def half_open(self, line: Line) -> None:
        """End a connection for its client alone: the broker goes on believing in it."""
        line.client_believes = False
        line.up.clear()

    def close(self, line: Line) -> None:
        """End a connection in order: what was sent is taken, and there is no will."""
        while line.up and line.broker_believes:
            self.route_next(line)
        line.will = None
        self.cut(line)

    def notice(self, line: Line) -> None:
        """The broker finds a connection dead: its will is published, a clean session ends."""
        if not line.broker_believes:
            return
        line.broker_believes = False
        line.up.clear()
        self.lines.remove(line)
        session = line.session
        session.line = None
        if session.clean and self.sessions.get(session.client) is session:
            del self.sessions[session.client]
        if line.will is not None:
            self.route(line.will, publisher=line.name)

    def crash(self, *, wipe: bool) -> None:
        """Kill the broker: no will is published; what was under way is lost, and with `wipe` all that it kept."""
        self.up = False
        for line in self.lines:
            line.client_believes = line.broker_believes = False
            line.up.clear()
            line.session.line = None
        self.lines.clear()
        self.sessions = {} if wipe else {name: one for name, one in self.sessions.items() if not one.clean}
        if wipe:
            self.retained.clear()

    def _hand_to_one(self, letter: Letter, site: str) -> None:
        members = [one for one in self.sessions.values() if one.shares == site and one.line is not None]
        if members:
            members[self._choose(len(members))].queue.append(Delivery(letter))

    def _repeat(self, session: Session, address: Address) -> None:
        if address in self.retained:
            session.queue.append(Delivery(self.retained[address]))
