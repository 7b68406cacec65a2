"""What the hub will not take in, because no worker could ever run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.problems import Problem, shown

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from broker.messages import TaskSpec


def refusals(spec: TaskSpec, kinds: AbstractSet[str]) -> list[Problem]:
    """Return why `spec` is refused; `kinds` are those that are built in or that some worker has ever offered."""
    found = []
    if spec.kind not in kinds:
        found.append(Problem("kind", shown(spec.kind), f"a kind that some worker runs: {', '.join(sorted(kinds))}"))
    return found
