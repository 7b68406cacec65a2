"""How a worker trades a one-time token for an account of its own: `POST /api/enrol`, and what is answered."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from broker.messages.base import Message, SiteName, WorkerName


class EnrolAsk(Message):
    """What a worker asks with.

    Attributes:
        token: The one-time token.
        worker: What it wants to be called.
        site: Where it thinks to be; None is where the token says.
        nonce: A random text that the worker keeps: who asks again with it gets the same answer, if the first got lost.

    """

    token: str
    worker: WorkerName
    site: SiteName | None = None
    nonce: Annotated[str, Field(min_length=16, max_length=128)]


class EnrolAnswer(Message):
    """What it gets.

    Attributes:
        username: Its account at the broker, and at the hub for HTTP.
        password: The account's password.
        broker_url: Where the broker is.
        root: The first level of every topic.
        ca: The authority that vouches for broker and hub, as PEM; None where the system's do.

    """

    worker: WorkerName
    site: SiteName
    username: str
    password: str
    broker_url: str
    root: str
    ca: str | None = None
