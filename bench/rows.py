"""What a benchmark has to say: a figure, what the same machine does beside it in the same run, and their ratio."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table."""

    what: str
    figure: str
    beside: str = ""
    ratio: str = ""


def ratio(ours: float, theirs: float) -> str:
    """Say how many times as large our figure is as the one beside it."""
    return f"{ours / theirs:.2f}"
