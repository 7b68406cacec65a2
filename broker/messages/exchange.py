"""MQTT's messages by HTTP, where MQTT is blocked: what a worker posts to the hub, and what it gets for it.

A link is one connection, as MQTT has it: it begins with a post that names no `link`, it has a will, and it ends when
the worker leaves, when it is silent for too long, or with the hub. What is published is handled in order before the hub
answers. What the hub delivers is delivered again until it is acknowledged.
"""

from __future__ import annotations

from pydantic import Field

from broker.messages.base import Message, SiteName, WorkerName


class Letter(Message):
    """A message as it is published. `payload` is text, since all of ours is JSON; `correlation` is base64."""

    topic: str
    payload: str
    retain: bool = False
    reply_topic: str | None = None
    correlation: str | None = None


class Delivered(Letter):
    """A message as it is delivered: `number` grows by one on each link, from 1."""

    number: int = Field(ge=1)


class Exchange(Message):
    """What a worker posts.

    Attributes:
        link: Which link goes on; None begins one.
        will: Published when the link ends but by `leave`; given once, when the link begins.
        received: Everything delivered up to this number is safe.
        silent_after_seconds: The hub takes the link for dead when nothing is posted for so long.
        leave: The link ends here, in order.

    """

    site: SiteName
    worker: WorkerName
    link: str | None = None
    will: Letter | None = None
    publish: tuple[Letter, ...] = ()
    received: int = Field(default=0, ge=0)
    silent_after_seconds: float = Field(default=30.0, gt=0, le=3600)
    leave: bool = False


class ExchangeAnswer(Message):
    """What the hub answers; an unknown link is answered with 410, and the worker begins another."""

    link: str
    deliver: tuple[Delivered, ...] = ()
