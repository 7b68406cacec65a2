"""Where an agent dies, and what may become of its task: the words of `tests/system/test_crash_points.py`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.nursery import Life

NEVER = "idle#1"
"""A crash at the very end: its life passes all points."""


@dataclass(frozen=True)
class Case:
    """A task, how it comes to the worker, and where that worker dies.

    Attributes:
        way: `http` for a task that the hub assigns, `site` for one that is published at the site with a response
            topic, `command` for an assigned one that is a process of its own.
        mode: Of the worker's journal.
        crash_at: Where the first life ends.
        then_at: Where a second life ends, counted from its start, if there is one.

    """

    way: str
    idempotent: bool
    mode: str = "durable"
    crash_at: str = NEVER
    then_at: str | None = None

    def __str__(self) -> str:
        kind = "idempotent" if self.idempotent else "once"
        then = f", then at {self.then_at}" if self.then_at else ""
        return f"{self.way}, {kind}, {self.mode}, dies at {self.crash_at}{then}"

    @property
    def last_crash(self) -> str:
        """Where its last crash is."""
        return self.then_at or self.crash_at


@dataclass
class Story:
    """What became of a case.

    Attributes:
        lives: Those that ended in a crash.
        runs: How often each life began the task, where one has.
        task: What the hub shows in the end.
        answers: The outcomes that were published for who asked.
        gaps: Why events are missing, as the hub has heard.

    """

    case: Case
    lives: list[Life] = field(default_factory=list)
    runs: Counter[str] = field(default_factory=Counter)
    task: dict[str, Any] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    def problems(self) -> Iterable[str]:
        """Yield what was not to be."""
        state, runs = self.task["state"], list(self.runs.values())
        told = f"{state} ({self.task['reason']}, {self.task['error']}) after {runs} runs"
        if self.case.idempotent:
            yield from self._problems_of_idempotent(told)
        else:
            yield from self._problems_of_once(told)
        if self.case.way == "site" and ("succeeded" if state == "succeeded" else "interrupted") not in self.answers:
            yield f"it {told}, and who asked has heard {self.answers}"
        if any(self.case.mode == "durable" or not reason.startswith("gentle mode:") for reason in self.gaps):
            yield f"something was lost: {self.gaps}"

    def _problems_of_idempotent(self, told: str) -> Iterable[str]:
        if self.task["state"] != "succeeded":
            yield f"it {told}"
        if not self.runs or max(self.runs.values()) > 1:
            yield f"it was begun so often in its lives: {self.runs}"

    def _problems_of_once(self, told: str) -> Iterable[str]:
        state, runs = self.task["state"], self.runs.total()
        if runs > 1:
            yield f"a task that is not idempotent was begun {runs} times: {self.runs}"
        if self._ran_to_its_end() or not self._may_have("begin"):
            if (state, runs) != ("succeeded", 1):
                yield f"it {told}: expected one run that succeeded"
        elif self._has("begin") and not self._may_have_run_to_its_end():
            ends = [one["state"] for one in self.task["attempts"]]
            if (state, ends[-1:]) != ("failed", ["interrupted"]):
                yield f"it died while it ran, and {told}: its attempts are {ends}"
        elif state not in {"succeeded", "failed"}:
            yield f"it {told}"

    # -- what its lives have done, as far as they told ---------------------------------------------------------------

    def _ran_to_its_end(self) -> bool:
        """Tell whether one life has run the task and committed its end. Without a run, an end is an interruption."""
        return any(_passed(life, "run#") and _passed(life, "committed-end#") for life in self.lives)

    def _may_have_run_to_its_end(self) -> bool:
        # Gentle mode may tell the hub of an end before it is committed.
        asked = "COMMIT-end#" if self.case.mode == "durable" else "INSERT-ended#"
        return any(_passed(life, "run#") and _passed(life, asked) for life in self.lives)

    def _has(self, step: str) -> bool:
        """Tell whether a step was committed for certain."""
        return any(_passed(life, f"committed-{step}#") for life in self.lives)

    def _may_have(self, step: str) -> bool:
        """Tell whether the commit of a step was asked for."""
        return any(_passed(life, f"COMMIT-{step}#") for life in self.lives)


def _passed(life: Life, name: str) -> bool:
    return any(point.startswith(name) for point in life.points)
