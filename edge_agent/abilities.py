"""What the worker can do now: its capabilities, and the kinds of task that they allow.

What the machine has and what the settings declare is fixed when the agent starts. Some of it may be withdrawn while it
is not to be had (`docker`, while the engine does not answer), and comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.log import get_logger
from broker.messages import BUILT_IN_KINDS
from broker.requirements import unmet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker.messages import Requirement, Scalar, TaskSpec
    from edge_agent.executors import Executor

log = get_logger(__name__)


class Abilities:
    """What is offered now.

    Args:
        executors: Every kind that there is code for.
        capabilities: What the worker has, as long as nothing of it is withdrawn.

    """

    def __init__(self, executors: Mapping[str, Executor], capabilities: Mapping[str, Scalar]) -> None:
        self._executors = dict(executors)
        self._had = dict(capabilities)
        self._withdrawn: dict[str, str] = {}
        self._listeners: list[Callable[[], None]] = []
        self._look()
        self._usual_kinds, self._usual_lacking = self._kinds, self._lacking
        for kind, reason in self._lacking.items():
            say = log.debug if kind in BUILT_IN_KINDS else log.warning  # who installs a handler wants it to run
            say("kind_not_offered", kind=kind, reason=reason)

    @property
    def capabilities(self) -> Mapping[str, Scalar]:
        """What the worker has now. Another mapping after each change."""
        return self._capabilities

    @property
    def kinds(self) -> Mapping[str, Executor]:
        """The kinds of which tasks can run now. Another mapping after each change."""
        return self._kinds

    @property
    def lacking(self) -> Mapping[str, str]:
        """Why tasks of the other kinds cannot run now."""
        return self._lacking

    @property
    def usual_lacking(self) -> Mapping[str, str]:
        """Why tasks of the other kinds never run here."""
        return self._usual_lacking

    @property
    def usual_capabilities(self) -> Mapping[str, Scalar]:
        """What the worker has when nothing is withdrawn."""
        return self._had

    @property
    def usual_kinds(self) -> Mapping[str, Executor]:
        """The kinds of which tasks can run when nothing is withdrawn."""
        return self._usual_kinds

    def listen(self, callback: Callable[[], None]) -> None:
        """Call `callback` after every change."""
        self._listeners.append(callback)

    def withdraw(self, name: str, why: str) -> None:
        """Have a capability no more, until `restore`."""
        if name not in self._withdrawn and name in self._had:
            log.warning("capability_withdrawn", name=name, reason=why)
            self._withdrawn[name] = why
            self._change()

    def restore(self, name: str) -> None:
        """Have a capability again."""
        if self._withdrawn.pop(name, None) is not None:
            log.info("capability_restored", name=name)
            self._change()

    def why_not(self, spec: TaskSpec) -> str | None:
        """Return why a task cannot run here now, whatever its policy says; None if it can."""
        executor = self._executors.get(spec.kind)
        if executor is None:
            return f"{spec.kind} does not run here"
        return self._unmet({**executor.requires, **spec.requires}) or self._unmet(executor.requires)

    def _change(self) -> None:
        self._look()
        for callback in self._listeners:
            callback()

    def _look(self) -> None:
        self._capabilities = {name: value for name, value in self._had.items() if name not in self._withdrawn}
        unmet_by = {kind: self._unmet(one.requires) for kind, one in self._executors.items()}
        self._lacking = {kind: reason for kind, reason in unmet_by.items() if reason}
        self._kinds = {kind: one for kind, one in self._executors.items() if kind not in self._lacking}

    def _unmet(self, requires: Mapping[str, Requirement]) -> str | None:
        """Return what is missing, and where that was withdrawn, why."""
        reasons = unmet(requires, self._capabilities)
        withdrawn = [f"{name}: {why}" for name, why in self._withdrawn.items() if name in requires]
        return "; ".join([*reasons, *withdrawn]) if reasons else None
