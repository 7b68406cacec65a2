"""What all that the hub shows in a terminal has in common: its colours, and texts that cannot move the cursor."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DETAIL = 100
WIDE = 120
"""Columns of a terminal that has room for everything."""

_COLOURS = {
    "online": "green",
    "suspect": "yellow",
    "offline": "red",
    "pending": "yellow",
    "assigned": "cyan",
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "timed_out": "red",
    "cancelled": "magenta",
    "expired": "magenta",
    "unknown": "red",
    "chosen": "green",
    "could": "green",
    "busy": "yellow",
    "full": "yellow",
    "limited": "yellow",
}
"""Of the states of workers and tasks, and of what a worker is to a task."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but not a new line and a tab


def console(**options: Any) -> Console:  # noqa: ANN401  as rich takes them
    """Return a terminal that shows every text as it is: what comes from tasks and workers is no markup of ours."""
    return Console(markup=False, emoji=False, highlight=False, **options)


def detail(task: Mapping[str, Any]) -> str:
    """Return the most telling thing about a task, in one line."""
    said = task["reason"] or task["error"]
    result = task["result"]
    if said is None and isinstance(result, dict) and "output" in result:
        said = result["output"]
    text = said if said is not None else "" if result is None else to_json(result).decode()
    text = visible(" ".join(str(text).split()))
    return text if len(text) <= MAX_DETAIL else text[: MAX_DETAIL - 1] + "…"


def visible(text: str) -> str:
    r"""Return a text with its control characters as they are written: none of them may move the reader's terminal.

    >>> visible("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def coloured(word: str, more: str = "") -> Text:
    """Return a state in its colour, and what goes with it."""
    return Text(word + more, _COLOURS.get(word, "white"))
