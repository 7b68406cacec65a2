"""Builds and parses every topic of the contract; no topic string stands anywhere else.

An address is a value; `Topics.build` and `Topics.parse` are each other's inverse:

>>> topics = Topics()
>>> topics.build(SiteTasks("site-a"))
'edge/v1/sites/site-a/tasks'
>>> topics.parse("edge/v1/sites/site-a/tasks")
SiteTasks(site='site-a')
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from broker.errors import TopicError
from broker.problems import Problem, shown

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
"""What a site and a worker may be called."""

VERSION = "v1"
SHARE_GROUP = "workers"
SECURITY_COMMANDS = "$CONTROL/dynamic-security/v1"
"""Where Mosquitto's dynamic security plugin takes its commands: the broker's own, outside of our root."""

SECURITY_ANSWERS = f"{SECURITY_COMMANDS}/response"
SECURITY_FILTER = "$CONTROL/dynamic-security/#"
MAX_REPLY_LENGTH = 256
BRIDGE_CUT = b"0"
"""What a bridge of Mosquitto says once it has lost its way; `1` when it has found it (its `notifications`)."""

_NAME = re.compile(NAME_PATTERN.removesuffix("$") + r"\Z")  # `$` would let a final newline pass
_ROOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class SiteTasks:
    """Work for any worker of a site."""

    site: str


@dataclass(frozen=True, slots=True)
class WorkerTopic:
    """What the topics of one worker share."""

    site: str
    worker: str


@dataclass(frozen=True, slots=True)
class WorkerTasks(WorkerTopic):
    """Work for one worker."""


@dataclass(frozen=True, slots=True)
class Control(WorkerTopic):
    """What the hub tells one worker: receipts, sync, cancel, credit."""


@dataclass(frozen=True, slots=True)
class Status(WorkerTopic):
    """A worker's birth certificate and its will; retained."""


@dataclass(frozen=True, slots=True)
class Heartbeat(WorkerTopic):
    """A worker's load; retained, and expiring."""


@dataclass(frozen=True, slots=True)
class Events(WorkerTopic):
    """Batches of a worker's journal."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """Whether a site's own broker is joined to the hub's; retained, and said by the bridge itself, to both."""

    site: str


@dataclass(frozen=True, slots=True)
class HubStatus:
    """The hub's birth certificate and its will; retained."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Where a result is published for who asked; `path` is what follows `replies/`."""

    path: str


Address = SiteTasks | WorkerTasks | Control | Status | Heartbeat | Events | Bridge | HubStatus | Reply

_LEAVES: dict[type[WorkerTopic], str] = {
    WorkerTasks: "tasks",
    Control: "control",
    Status: "status",
    Heartbeat: "heartbeat",
    Events: "events",
}
_BY_LEAF = {leaf: kind for kind, leaf in _LEAVES.items()}


class Topics:
    """Every topic under one root.

    Args:
        root: The first level of every topic: letters, digits, `.`, `_` and `-`.

    Raises:
        TopicError: If `root` cannot be a topic level.

    """

    def __init__(self, root: str = "edge") -> None:
        if not _ROOT.match(root):
            raise TopicError(Problem("root", shown(root), "letters, digits, '.', '_' and '-', at most 63"))
        self.root = root
        self._prefix = f"{root}/{VERSION}"

    def build(self, address: Address) -> str:
        """Return the topic of `address`. Raises `TopicError` for a name that is not one."""
        match address:
            case SiteTasks(site):
                return f"{self._prefix}/sites/{_name('site', site)}/tasks"
            case WorkerTopic(site, worker):
                leaf = _LEAVES[type(address)]
                return f"{self._prefix}/sites/{_name('site', site)}/workers/{_name('worker', worker)}/{leaf}"
            case Bridge(site):
                return f"{self._prefix}/sites/{_name('site', site)}/bridge"
            case HubStatus():
                return f"{self._prefix}/hub/status"
            case Reply(path):
                return f"{self._prefix}/replies/{_reply_path(path)}"

    def parse(self, topic: str) -> Address:
        """Return what `topic` addresses. Raises `TopicError` where it is none of the contract's."""
        if not topic.startswith(f"{self._prefix}/"):
            raise TopicError(Problem("topic", shown(topic), f"a topic under {self._prefix}/"))
        match topic.removeprefix(f"{self._prefix}/").split("/"):
            case ["sites", site, "tasks"]:
                return SiteTasks(_name("site", site))
            case ["sites", site, "workers", worker, leaf] if leaf in _BY_LEAF:
                return _BY_LEAF[leaf](_name("site", site), _name("worker", worker))  # type: ignore[return-value]
            case ["sites", site, "bridge"]:
                return Bridge(_name("site", site))
            case ["hub", "status"]:
                return HubStatus()
            case ["replies", *rest] if rest:
                return Reply(_reply_path("/".join(rest)))
        raise TopicError(
            Problem(
                "topic",
                shown(topic),
                f"sites/<site>/tasks or sites/<site>/workers/<worker>/tasks under {self._prefix}/",
            )
        )

    def intake(self, site: str) -> str:
        """Return the shared subscription by which one worker of `site` gets each of the site's tasks."""
        return f"$share/{SHARE_GROUP}/{self.build(SiteTasks(site))}"

    def all_of_sites(self) -> str:
        """Return the filter that matches whatever is published about any site, well-formed or not."""
        return f"{self._prefix}/sites/#"

    def everything(self) -> str:
        """Return the filter that matches every topic of the contract."""
        return f"{self._prefix}/#"

    def all_of_site(self, site: str) -> str:
        """Return the filter that matches whatever is published about a site, well-formed or not."""
        return f"{self._prefix}/sites/{_name('site', site)}/#"

    def of_workers(self, kind: type[WorkerTopic], site: str | None = None) -> str:
        """Return the filter that matches a topic of each worker, of one site or of all."""
        where = "+" if site is None else _name("site", site)
        return f"{self._prefix}/sites/{where}/workers/+/{_LEAVES[kind]}"

    def replies_to(self, name: str) -> str:
        """Return the filter that matches every reply whose path begins with the level `name`."""
        return f"{self.build(Reply(name))}/#"

    def all_replies(self) -> str:
        """Return the filter that matches every reply."""
        return f"{self._prefix}/replies/#"

    def is_reply(self, topic: str) -> bool:
        """Tell whether `topic` may be answered on."""
        try:
            return isinstance(self.parse(topic), Reply)
        except TopicError:
            return False


def is_name(text: str) -> bool:
    """Tell whether a site or a worker may be called so."""
    return bool(_NAME.match(text))


def _name(field: str, value: str) -> str:
    if not _NAME.match(value):
        raise TopicError(Problem(field, shown(value), f"a text that matches {NAME_PATTERN}"))
    return value


def _reply_path(path: str) -> str:
    if not path or len(path) > MAX_REPLY_LENGTH or any(character in path for character in "+#\0"):
        raise TopicError(Problem("reply", shown(path), f"1 to {MAX_REPLY_LENGTH} characters without '+' and '#'"))
    return path
