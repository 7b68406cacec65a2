"""What the worker can do now: its capabilities, and the kinds of task that they allow.

What the machine has and what the settings declare is fixed when the agent starts. Some of it may be withdrawn while it
is not to be had (`docker`, while the engine does not answer), and comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.log import get_logger
from broker.requirements import unmet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker.messages import Scalar, TaskSpec
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
        self._usual_kinds = self._kinds
        for kind, lacking in self._lacking().items():
            log.warning("kind_not_offered", kind=kind, reason="; ".join(lacking))

    @property
    def capabilities(self) -> Mapping[str, Scalar]:
        """What the worker has now. Another mapping after each change."""
        return self._capabilities

    @property
    def kinds(self) -> Mapping[str, Executor]:
        """The kinds of which tasks can run now. Another mapping after each change."""
        return self._kinds

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
        lacking = unmet(spec.requires, self._capabilities)
        executor = self._executors.get(spec.kind)
        if executor is None:
            return f"{spec.kind} does not run here"
        if spec.kind not in self._kinds:
            lacking = unmet(executor.requires, self._capabilities) + lacking
        withdrawn = [f"{name}: {why}" for name, why in self._withdrawn.items()] if lacking else []
        return "; ".join(dict.fromkeys([*lacking, *withdrawn])) or None

    def _change(self) -> None:
        self._look()
        for callback in self._listeners:
            callback()

    def _look(self) -> None:
        self._capabilities = {name: value for name, value in self._had.items() if name not in self._withdrawn}
        lacking = self._lacking()
        self._kinds = {kind: one for kind, one in self._executors.items() if kind not in lacking}

    def _lacking(self) -> dict[str, list[str]]:
        lacking = {kind: unmet(one.requires, self._capabilities) for kind, one in self._executors.items()}
        return {kind: reasons for kind, reasons in lacking.items() if reasons}
