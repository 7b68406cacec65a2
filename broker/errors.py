"""What can go wrong on the wire.

HoldfastError
├── TopicError            a topic that is none of ours
├── InvalidInput          input that names the field, the value and what was expected
├── SettingsError         the same, for a setting: ends the program with exit code 2
├── LinkDown              a connection that ended or could not be made; always worth another try
└── BrokerStartError      the private mosquitto did not start
"""

from __future__ import annotations

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


class LinkDown(HoldfastError):
    """The connection to the broker ended, or could not be made."""

    retryable = True

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no link to {url}: {reason}")
        self.url = url
        self.reason = reason


class BrokerStartError(HoldfastError):
    """The private mosquitto did not start; the text says why and what to do."""
