"""Which of two tasks that wait goes first: asked by the hub of its backlog, and by a worker of its own queue.

A step of priority is worth a fixed time of waiting (decision 9). So what is old overtakes at last what is urgent, and
the order of two tasks never changes while they wait: a heap holds it.

>>> rank(1, 40_000) < rank(0, 20_000)
True
>>> rank(1, 60_000) < rank(0, 20_000)
False
"""

from __future__ import annotations

AGE_MS = 30_000
"""The waiting that one step of priority is worth. From -100 to 100, nobody waits for more than 100 minutes longer."""


def rank(priority: int, since_ms: int) -> int:
    """Return by what a task is ordered that has waited `since_ms`: the least goes first."""
    return since_ms - priority * AGE_MS
