"""A worker by HTTP that does just what the test says: it posts letters, and looks at what it gets for them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from broker.clock import new_id, now_ms
from broker.messages import (
    CONTROL,
    Batch,
    Birth,
    Exchange,
    ExchangeAnswer,
    Farewell,
    HeartbeatMessage,
    JournalDepth,
    JournalPosition,
    Letter,
    encode,
)
from broker.topics import Control, Events, Heartbeat, HubStatus, Status, WorkerTasks

if TYPE_CHECKING:
    import httpx
    from pydantic import BaseModel

    from broker.messages import AnyControl, AnyEvent, Delivered
    from tests.support.hubs import RunningHub


@dataclass
class LinkedWorker:
    """A worker whose link is a row of posts. `received` is what it acknowledges with the next."""

    hub: RunningHub
    id: str = "w1"
    site: str = "site-a"
    silent_after_seconds: float = 30
    session: str = field(default_factory=new_id)
    stream: str = field(default_factory=new_id)
    link: str | None = None
    received: int = 0
    delivered: list[Delivered] = field(default_factory=list)

    def letter(self, kind: type[Status | Heartbeat | Events], message: BaseModel) -> Letter:
        return Letter(topic=self.hub.topics.build(kind(self.site, self.id)), payload=encode(message).decode())

    def birth(self, **changed: Any) -> Letter:  # noqa: ANN401
        fields: dict[str, Any] = {
            "session": self.session,
            "boot": "b1",
            "at": now_ms(),
            "version": "0.1.0",
            "slots": 2,
            "kinds": ("noop", "sleep"),
            "heartbeat_interval_seconds": 30,
            "session_expiry_seconds": 0,
            "journal": JournalPosition(stream=self.stream, oldest=1, newest=0),
            "transport": "http",
        }
        return self.letter(Status, Birth(**{**fields, **changed}))

    def beat(self) -> Letter:
        heartbeat = HeartbeatMessage(
            session=self.session,
            at=now_ms(),
            queued=0,
            journal=JournalDepth(rows=0, bytes=0),
            written_bytes_today=0,
            cpu_percent=0,
            memory_bytes=0,
            disk_free_bytes=0,
        )
        return self.letter(Heartbeat, heartbeat)

    def batch(self, first: int, *events: AnyEvent) -> Letter:
        return self.letter(Events, Batch(stream=self.stream, first=first, events=events))

    def will(self) -> Letter:
        return self.letter(Status, Farewell(state="offline", session=self.session))

    async def send(self, *letters: Letter, leave: bool = False) -> httpx.Response:
        """Post letters, and return the answer as it came."""
        posted = Exchange(
            site=self.site,
            worker=self.id,
            link=self.link,
            will=None if self.link else self.will(),
            publish=letters,
            received=self.received,
            silent_after_seconds=self.silent_after_seconds,
            leave=leave,
        )
        return await self.hub.http.post("/api/link", content=encode(posted))

    async def post(self, *letters: Letter, leave: bool = False) -> list[Delivered]:
        """Post letters, which must be taken, and return what is new of what came for them."""
        answer = await self.send(*letters, leave=leave)
        assert answer.status_code == 200, answer.text
        read = ExchangeAnswer.model_validate_json(answer.content)
        self.link = read.link
        new = [one for one in read.deliver if one.number > self.received]
        self.delivered += new
        self.received = max((one.number for one in read.deliver), default=self.received)
        return new

    def control(self, letters: list[Delivered]) -> list[AnyControl]:
        """Return the control messages among letters."""
        topic = self.hub.topics.build(Control(self.site, self.id))
        return [CONTROL.validate_json(one.payload) for one in letters if one.topic == topic]

    def tasks(self, letters: list[Delivered]) -> list[dict[str, Any]]:
        """Return the assignments among letters."""
        topic = self.hub.topics.build(WorkerTasks(self.site, self.id))
        return [task for one in letters if one.topic == topic for task in json.loads(one.payload)]

    def hub_status(self, letters: list[Delivered]) -> list[dict[str, Any]]:
        """Return the hub's births among letters."""
        return [json.loads(one.payload) for one in letters if one.topic == self.hub.topics.build(HubStatus())]
