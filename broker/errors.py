"""What can go wrong on the wire.

HoldfastError
├── TopicError            a topic that is none of ours
├── InvalidInput          input that names the field, the value and what was expected
├── SettingsError         the same, for a setting: ends the program with exit code 2
├── LinkDown              a connection that ended or could not be made; always worth another try
│   └── Refused               the broker lives, and does not do what it was asked for
└── BrokerStartError      the private mosquitto did not start
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.problems import Problem


class HoldfastError(Exception):
    """The root of every error that Holdfast raises on purpose."""

    retryable = False


class TopicError(HoldfastError):
    """A topic that is not one of the contract's; `problem` names the level that is to blame."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class InvalidInput(HoldfastError):
    """Input that a model refused; `problems` is never empty."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class SettingsError(InvalidInput):
    """A setting with a wrong value, or one that does not exist."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong, and what to do about it."""

    reason: str
    remedy: str = ""


class LinkDown(HoldfastError):
    """The connection to the broker ended, or could not be made."""

    retryable = True

    def __init__(self, url: str, reason: str, remedy: str = "") -> None:
        super().__init__(f"no link to {url}: {reason}")
        self.url = url
        self.reason = reason
        self.remedy = remedy
        """What to do about it, where that is known."""

    @property
    def told(self) -> dict[str, str]:
        """What a line of the log says of it."""
        return {"reason": self.reason, "url": self.url} | ({"remedy": self.remedy} if self.remedy else {})


class Refused(LinkDown):
    """What the broker refused: to let a client in, to take what it publishes, or to let it subscribe.

    The connection may live on. Who has nothing else to do on it lets the error end it, and tries again after a while;
    who has can catch it.

    Attributes:
        code: The reason code, from 128 (MQTT 5, §2.4), or where a hub refuses by HTTP, its status.
        topic: What was published or subscribed; None for a connection.
        passing: Whether it may be granted later though nobody changes anything.

    """

    def __init__(self, url: str, code: int, trouble: Trouble, *, topic: str | None = None, passing: bool) -> None:
        super().__init__(url, trouble.reason, trouble.remedy)
        self.code = code
        self.topic = topic
        self.passing = passing


class BrokerStartError(HoldfastError):
    """The private mosquitto did not start; the text says why and what to do."""
