"""Rules that are broken on purpose: the model must notice each of them, or it would notice nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.rules.attempts import Known


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """What is done wrongly; nothing at all, unless it is said."""

    forgets_the_ended: bool = False
    receipt_before_commit: bool = False
    new_stream_rule: bool = True
    fencing: bool = True
    late_takes: bool = False

    def memory(self, known: Mapping[str, Known]) -> Mapping[str, Known]:
        """Return what a worker remembers of the tasks that it is given."""
        return {} if self.forgets_the_ended else known


NONE = Mutant()
