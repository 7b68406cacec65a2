"""What the audit trail keeps: who did what to what, from where, as what, and what came of it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

MAX_TEXT = 512
"""Characters of a target or a detail that are kept: what a stranger sends must not fill the database."""

ANONYMOUS = "anonymous"


class Outcome(StrEnum):
    """What came of it."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


class Entry(NamedTuple):
    """One line of the trail.

    Attributes:
        who: `token:<name>`, `worker:<id>`, `local:<unix user>`, `hub` or `anonymous`.
        action: Dotted words, the thing first: `token.created`, `task.submitted`, `enrol.refused`.
        target: What it was done to, if to one thing.
        outcome: What came of it.
        role: As what `who` did it, where that is a matter of roles.
        address: Whence, as the hub saw it.
        detail: What else is worth knowing; never a secret.

    """

    who: str
    action: str
    target: str | None = None
    outcome: Outcome = Outcome.DONE
    role: str | None = None
    address: str | None = None
    detail: str | None = None

    def bounded(self) -> Entry:
        """Return it with no text longer than is kept."""
        return self._replace(
            who=_cut(self.who), target=self.target and _cut(self.target), detail=self.detail and _cut(self.detail)
        )


def by_local_user(name: str) -> str:
    """Return who somebody is that works on the database itself."""
    return f"local:{name}"


def by_token(name: str) -> str:
    """Return who somebody is that shows a token of the API."""
    return f"token:{name}"


def by_worker(worker: str) -> str:
    """Return who a worker is."""
    return f"worker:{worker}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
