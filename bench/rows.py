"""What a benchmark has to say: a figure, and what the same machine does beside it in the same run."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table."""

    what: str
    figure: str
    beside: str = ""
