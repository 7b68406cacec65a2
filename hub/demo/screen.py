"""What the demo shows in the terminal: pure functions from the API's answers to rich's tables."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from hub.terminal import WIDE, coloured, detail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from hub.demo.scenario import Step

MIN_TASKS = 3
FRAME_LINES = 11
"""What the screen needs beside its rows: titles, heads, rules, and the line of what was refused."""


def workers_table(workers: Sequence[Mapping[str, Any]], *, wide: bool) -> Table:
    """Return the sites with their workers."""
    columns = ("site", "worker", "state", "capabilities", *(("running", "queued", "journal") if wide else ("running",)))
    table = _table("Sites and workers", *columns)
    for worker in workers:
        reason = f" ({worker['reason']})" if worker["reason"] else ""
        capabilities = ", ".join(name for name, value in worker["capabilities"].items() if value is True) or "-"
        rows = worker["journal"]["rows"]
        load = (str(len(worker["running"])), str(worker["queued"]), "-" if rows is None else f"{rows} rows")
        table.add_row(
            worker["site"],
            worker["id"],
            coloured(worker["state"], reason),
            capabilities,
            *(load if wide else load[:1]),
        )
    return table


def tasks_table(tasks: Sequence[Mapping[str, Any]], *, wide: bool) -> Table:
    """Return the newest tasks and what became of them; what a narrow terminal has no room for is left out."""
    columns = ("task", *(("kind", "via") if wide else ()), "site", "worker", "state", "result, or why not")
    table = _table("Tasks, newest first", *columns)
    for task in tasks:
        via = "http" if task["via"] == "http" else f"mqtt, {task['via']} topic"
        table.add_row(
            str(task["id"])[:24],
            *((task["kind"], via) if wide else ()),
            task["site"] or "any",
            task["worker"] or "-",
            coloured(task["state"]),
            detail(task),
        )
    return table


def footer(hub_url: str, publish: Sequence[str], notes: Sequence[str]) -> Text:
    """Return where to go from here, with a line to paste: so it stands free, and is short enough for 80 columns."""
    text = Text()
    for note in notes:
        text.append(f"{note}\n", "yellow")
    text.append(f"{hub_url}/api/tasks", "cyan").append("   Ctrl-C ends the demo   To paste:\n")
    return text.append(shlex.join(publish), "cyan")


def screen(
    workers: Sequence[Mapping[str, Any]],
    tasks: Sequence[Mapping[str, Any]],
    rejections: Sequence[Mapping[str, Any]],
    below: Text,
    *,
    width: int,
    height: int,
) -> Group:
    """Return the whole picture, with as many tasks as there is room for."""
    wide = width >= WIDE
    room = max(MIN_TASKS, height - len(workers) - FRAME_LINES - len(below.plain.splitlines()))
    parts: list[RenderableType] = [workers_table(workers, wide=wide), tasks_table(tasks[:room], wide=wide)]
    if rejections:
        newest = f"{len(rejections)} refused, the last one because {rejections[0]['reason']}"
        parts.append(Text(newest, "dim", overflow="ellipsis", no_wrap=True))
    return Group(*parts, below)


def summary(steps: Sequence[Step], ended: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return each step with what it should have come to and what it came to."""
    table = _table("What was asked, and what came of it", "", "task", "shows", "ended as", "in detail")
    for step in steps:
        task = ended.get(step.id)
        state = task["state"] if task else "never seen"
        mark = Text("✓", "green") if state == step.expected else Text("✗", "red bold")
        told = coloured(state) if state == step.expected else Text(f"{state}, not {step.expected}", "red bold")
        table.add_row(mark, step.id, step.shows, told, detail(task) if task else "")
    return table


def _table(title: str, *columns: str) -> Table:
    """Return a table whose last column takes what the others leave."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, expand=True, pad_edge=False)
    *names, rest = columns
    for name in names:
        table.add_column(name, no_wrap=True)
    table.add_column(rest, overflow="ellipsis", no_wrap=True, ratio=1)
    return table
