"""What the commands show in the terminal: pure functions from the API's answers to rich's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from hub.terminal import WIDE, coloured, detail, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    Shape = Mapping[str, Any]

_WIDEST = {"id": 40, "kind": 16, "site": 16, "worker": 24}
"""Columns for names, which may have up to 128 letters; so many are left in 80 for what there is to say."""

_FIELDS = ("kind", "site", "worker", "requires", "labels", "priority", "params", "result", "error", "created_at")


def tasks_table(tasks: Sequence[Shape], *, width: int) -> Table:
    """Return a page of tasks, its ids whole, to be copied: only one of over 40 letters takes two lines.

    A narrow terminal has room for what came of them beside.
    """
    wide = width >= WIDE
    table = _table("id", *(("kind", "site", "worker") if wide else ()), "state", "result, or why not")
    for task in tasks:
        more = (task["kind"], task["site"] or "any", task["worker"] or "-") if wide else ()
        table.add_row(task["id"], *more, coloured(task["state"]), detail(task))
    return table


def task_screen(task: Shape) -> Group:
    """Return one task with its attempts and what happened to it."""
    head = Table.grid(padding=(0, 2))
    head.add_column(style="bold")
    head.add_column(overflow="fold")
    head.add_row("id", task["id"])
    head.add_row("state", coloured(task["state"]))
    for name, value in (("reason", task["reason"]), *((name, task.get(name)) for name in _FIELDS)):
        if value not in (None, {}, []):
            head.add_row(name, _plain(value))
    parts: list[RenderableType] = [head, ""]
    if task["attempts"]:
        parts += [_attempts(task["attempts"]), ""]
    return Group(*parts, _timeline(task["timeline"]))


def explain_screen(task: Shape) -> Group:
    """Return what each worker is to a task, and why."""
    told = task["explain"]
    head = Text.assemble((task["id"], "bold"), " is ", coloured(task["state"]))
    if task["reason"]:
        head.append(f": {visible(task['reason'])}")
    table = _table("worker", "site", "verdict", "why", fold=True)
    for one in told["workers"]:
        table.add_row(one["worker"], one["site"], coloured(one["verdict"]), visible(one["why"]))
    counts = ", ".join(f"{count} {verdict}" for verdict, count in told["counts"].items()) or "no worker is known"
    more = f"; {told['not_shown']} of them not shown" if told["not_shown"] else ""
    return Group(head, "", table, "", Text(f"{counts}{more} ({told['note']})", "dim"))


def _attempts(attempts: Sequence[Shape]) -> Table:
    table = _table("attempt", "worker", "state", "error", fold=True)
    for one in attempts:
        table.add_row(str(one["attempt"]), one["worker"], coloured(one["state"]), visible(one["error"] or ""))
    return table


def _timeline(steps: Sequence[Shape]) -> Table:
    table = _table("at", "what", "", fold=True)
    for step in steps:
        more = ", ".join(f"{name} {_plain(value)}" for name, value in step.items() if name not in ("at", "event"))
        table.add_row(_time(step["at"]), step["event"], more)
    return table


def _table(*columns: str, fold: bool = False) -> Table:
    """Return a table whose last column takes what the others leave: names that are long go on in the next line."""
    table = Table(box=SIMPLE_HEAD, expand=True, pad_edge=False, show_edge=False)
    *names, rest = columns
    for name in names:
        widest = _WIDEST.get(name)
        table.add_column(name, no_wrap=widest is None, overflow="fold", max_width=widest)
    if fold:
        table.add_column(rest, overflow="fold", ratio=1)
    else:
        table.add_column(rest, overflow="ellipsis", no_wrap=True, ratio=1)
    return table


def _time(at: str | None) -> str:
    """Return a time without its fractions: `2026-11-25 21:37:06`."""
    return "" if at is None else at[:19].replace("T", " ")


def _plain(value: object) -> str:
    """Return a value as it is typed: an object as `name=value`, a text as it is, the rest as JSON."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={_typed(one)}" for name, one in value.items())
    return _typed(value)


def _typed(value: object) -> str:
    return visible(value if isinstance(value, str) else to_json(value).decode())
