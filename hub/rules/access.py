"""What each account of the broker may do: a pure table, in the words of Mosquitto's dynamic security plugin.

Everything is refused that is not allowed here. The broker matches a topic's filter as MQTT has it (§4.7): one that
allows to subscribe allows what is narrower, and a shared subscription has a filter of its own.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from broker.topics import (
    SECURITY_FILTER,
    Bridge,
    Control,
    Events,
    Heartbeat,
    HubStatus,
    SiteTasks,
    Status,
    WorkerTasks,
)

if TYPE_CHECKING:
    from broker.topics import Topics

INTAKE_SUFFIX = "-intake"
"""What a worker's second connection is called, after the worker: its client id."""

DENY_FIRST = 10
"""The priority of what is refused within what is allowed: the plugin takes the highest that matches."""


class Kind(StrEnum):
    """What an account is for."""

    HUB = "hub"
    WORKER = "worker"
    PUBLISHER = "publisher"
    READER = "reader"
    BRIDGE = "bridge"


class Account(NamedTuple):
    """An account of the broker as it is kept. A worker's name is its id; times are Unix milliseconds.

    Attributes:
        name: The user name.
        kind: What it is for.
        site: Which site it is of; None for a reader of all sites.
        generation: Counts its passwords, from 1.
        created_ms: When it was first made.
        changed_ms: When it got this password, or was revoked.
        revoked_ms: Since when it may do nothing any more.

    """

    name: str
    kind: Kind
    site: str | None
    generation: int
    created_ms: int
    changed_ms: int
    revoked_ms: int | None = None

    @property
    def lives(self) -> bool:
        """Whether it may be used."""
        return self.revoked_ms is None


class Right(StrEnum):
    """What can be allowed, as the plugin calls it. `SEND` is to publish, `RECEIVE` to be given what is published."""

    SEND = "publishClientSend"
    RECEIVE = "publishClientReceive"
    SUBSCRIBE = "subscribePattern"
    SUBSCRIBE_LITERAL = "subscribeLiteral"
    UNSUBSCRIBE = "unsubscribePattern"
    UNSUBSCRIBE_LITERAL = "unsubscribeLiteral"


class Acl(NamedTuple):
    """One line of a role."""

    right: Right
    topic: str
    allow: bool = True
    priority: int = 0


def acls_of(account: Account, topics: Topics) -> tuple[Acl, ...]:
    """Return all that an account may do."""
    return tuple(chain.from_iterable(roles_of(account, topics).values()))


def roles_of(account: Account, topics: Topics) -> dict[str, tuple[Acl, ...]]:
    """Return the roles that an account has, by name; what all workers of a site may do is one that they share."""
    own = f"account:{account.name}"
    match account.kind:
        case Kind.HUB:
            return {"hub": (*_both_ways(topics.everything()), *_both_ways(SECURITY_FILTER))}
        case Kind.WORKER:
            site = _site(account)
            return {f"worker:{account.name}": _of_worker(account.name, site, topics), f"site:{site}": _at(site, topics)}
        case Kind.PUBLISHER:
            return {own: _of_publisher(account.name, _site(account), topics)}
        case Kind.READER:
            heard = (topics.of_workers(kind, account.site) for kind in (Status, Heartbeat))
            return {own: _hear(*heard, _hub(topics))}
        case Kind.BRIDGE:
            return {own: _of_bridge(_site(account), topics)}


def _of_worker(worker: str, site: str, topics: Topics) -> tuple[Acl, ...]:
    own = {kind: topics.build(kind(site, worker)) for kind in (Status, Heartbeat, Events, WorkerTasks, Control)}
    heard = own[WorkerTasks], own[Control], own[Status]
    return (
        *_send(own[Status], own[Heartbeat], own[Events], own[WorkerTasks]),
        # No right to end these subscriptions, which no worker does: each line costs with every change (decision 15).
        *(Acl(right, one) for right in (Right.SUBSCRIBE_LITERAL, Right.RECEIVE) for one in heard),
    )


def _at(site: str, topics: Topics) -> tuple[Acl, ...]:
    """Return what every worker of a site may do."""
    tasks, share = topics.build(SiteTasks(site)), topics.intake(site)
    return (
        *_send(tasks, topics.all_replies()),
        *_hear(topics.build(Bridge(site)), _hub(topics)),
        # Literally, and shared only: a worker that subscribed to the plain topic would see what others are given.
        Acl(Right.SUBSCRIBE_LITERAL, share),
        Acl(Right.UNSUBSCRIBE_LITERAL, share),
        Acl(Right.RECEIVE, tasks),
    )


def _of_publisher(name: str, site: str, topics: Topics) -> tuple[Acl, ...]:
    return (
        *_send(topics.build(SiteTasks(site)), topics.of_workers(WorkerTasks, site)),
        *_hear(topics.replies_to(name)),
    )


def _of_bridge(site: str, topics: Topics) -> tuple[Acl, ...]:
    everything = topics.all_of_site(site)
    return (
        # Whoever can publish at the site could give orders to its workers in the hub's name: those come down only.
        Acl(Right.SEND, topics.of_workers(Control, site), allow=False, priority=DENY_FIRST),
        *_both_ways(everything),
        *_both_ways(topics.all_replies()),
        *_hear(_hub(topics)),
    )


def _hub(topics: Topics) -> str:
    return topics.build(HubStatus())


def _both_ways(*filters: str) -> tuple[Acl, ...]:
    return (*_send(*filters), *_hear(*filters))


def _send(*filters: str) -> tuple[Acl, ...]:
    return tuple(Acl(Right.SEND, one) for one in filters)


def _hear(*filters: str) -> tuple[Acl, ...]:
    rights = (Right.SUBSCRIBE, Right.UNSUBSCRIBE, Right.RECEIVE)
    return tuple(Acl(right, one) for right in rights for one in filters)


def _site(account: Account) -> str:
    if account.site is None:
        msg = f"an account of kind {account.kind} has a site"
        raise ValueError(msg)
    return account.site
