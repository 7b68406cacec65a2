"""What waits for workers that ask for their messages by HTTP: a mailbox for each of their links."""

from __future__ import annotations

from collections import OrderedDict
from itertools import takewhile
from typing import TYPE_CHECKING

from broker.log import get_logger
from broker.messages import Delivered

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 32 * 1024 * 1024
"""What one mailbox holds: the largest assignments for a hundred slots."""

MAX_DELIVERY_BYTES = 2 * 1024 * 1024
"""What is handed out at once, but for a single letter that is larger."""

log = get_logger(__name__)


class Mailbox:
    """Letters in order, each there until its worker says that it is safe.

    Attributes:
        overflown: Whether a letter has found no room. The link must end: to the next hello it is all said again.

    """

    def __init__(self) -> None:
        self._letters: OrderedDict[int, Delivered] = OrderedDict()
        self._last = 0
        self._bytes = 0
        self.overflown = False

    def put(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        """Add a letter."""
        if self._bytes + len(payload) > MAX_BYTES:
            self.overflown = True
            return
        self._last += 1
        self._bytes += len(payload)
        self._letters[self._last] = Delivered(number=self._last, topic=topic, payload=payload.decode(), retain=retained)

    def acknowledge(self, through: int) -> None:
        """Forget the letters up to number `through`."""
        for number in list(takewhile(lambda number: number <= through, self._letters)):
            self._bytes -= len(self._letters.pop(number).payload.encode())

    def waiting(self) -> Iterator[Delivered]:
        """Yield what is to be delivered now, again where it was before."""
        size = 0
        for letter in self._letters.values():
            size += len(letter.payload)
            if size > MAX_DELIVERY_BYTES and size > len(letter.payload):
                return
            yield letter


class Mailboxes:
    """The open mailboxes, by worker."""

    def __init__(self) -> None:
        self._boxes: dict[str, Mailbox] = {}

    def open(self, worker: str) -> Mailbox:
        """Give a worker an empty mailbox; what was in an older one is forgotten."""
        box = self._boxes[worker] = Mailbox()
        return box

    def close(self, worker: str, box: Mailbox) -> None:
        """Take the mailbox away, unless the worker has another by now."""
        if self._boxes.get(worker) is box:
            del self._boxes[worker]

    def put(self, worker: str, topic: str, payload: bytes) -> None:
        """Add a letter. Without a mailbox it is dropped: a worker that begins a link says hello, and hears it again."""
        box = self._boxes.get(worker)
        if box:
            box.put(topic, payload)
        else:
            log.debug("nobody_asks_for_it", worker=worker, topic=topic)
