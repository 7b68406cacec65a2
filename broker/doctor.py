"""What the doctors of both programs find, and how they show it.

A doctor has areas (`settings`, `disk`, `hub`, …); each is looked at by a function that returns findings. One that is
not `ok` has a remedy: a sentence that says what to do, with the name of the setting or the command.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

EXIT_BAD = 1
"""The exit code of a doctor that found something bad; what is only to be warned of is none."""

MOST_COLUMNS = 120
FEWEST_COLUMNS = 60
_RESET, _FAINT = "\x1b[0m", "\x1b[2m"


class Level(StrEnum):
    """How a thing stands: it works, it may make trouble, or something does not work."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


_COLOURS = {Level.OK: "\x1b[32m", Level.WARN: "\x1b[33m", Level.BAD: "\x1b[1;31m"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: How it stands.
        what: What was found, with the names and values that matter.
        remedy: What to do about it; empty where it is `ok`.

    """

    level: Level
    what: str
    remedy: str = ""


def ok(what: str) -> Finding:
    """Find something as it should be."""
    return Finding(Level.OK, what)


def warn(what: str, remedy: str) -> Finding:
    """Find something that works, and may make trouble."""
    return Finding(Level.WARN, what, remedy)


def bad(what: str, remedy: str) -> Finding:
    """Find something that does not work."""
    return Finding(Level.BAD, what, remedy)


@dataclass(frozen=True, slots=True)
class Area:
    """A part of what a doctor looks at; `look` returns what it finds, in the order in which people should read it."""

    name: str
    look: Callable[[], Awaitable[Iterable[Finding]]]


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in an area."""

    area: str
    findings: tuple[Finding, ...]


async def examine(areas: Iterable[Area], tell: Callable[[Found], None] = lambda _: None) -> list[Found]:
    """Look at one area after the other, and `tell` of each at once, since some wait for the network.

    A look that fails is a finding itself, and does not keep the others from being looked at.
    """
    found = []
    for area in areas:
        try:
            findings = tuple(await area.look())
        except Exception as error:  # noqa: BLE001  whatever it is, the other areas are still worth a look
            text = f"this could not be looked at: {type(error).__name__}: {error}"
            findings = (bad(text, "this is a fault of the doctor: please report it with this line"),)
        found.append(Found(area.name, findings))
        tell(found[-1])
    return found


def is_well(found: Iterable[Found]) -> bool:
    """Tell whether nothing bad was found."""
    return all(one.level != Level.BAD for each in found for one in each.findings)


async def diagnose(areas: Iterable[Area], *, as_json: bool) -> int:
    """Look at all areas, print what is found, and return the exit code: what `doctor` of either program does."""
    if as_json:
        found = await examine(areas)
        sys.stdout.write(f"{in_json(found)}\n")
    else:
        found = await examine(areas, show)
        sys.stdout.write(f"\n{summary(found)}\n")
    return 0 if is_well(found) else EXIT_BAD


# -- showing it ------------------------------------------------------------------------------------------------------


def show(found: Found, out: TextIO | None = None) -> None:
    """Print an area for people: in colour on a terminal, unless NO_COLOR is set."""
    out = out or sys.stdout
    in_colour = out.isatty() and "NO_COLOR" not in os.environ
    columns = shutil.get_terminal_size((100, 24)).columns
    for line in lines(found, columns=columns, in_colour=in_colour):
        print(line, file=out)
    out.flush()


def summary(found: Iterable[Found]) -> str:
    """Say in a line how things stand."""
    levels = [one.level for each in found for one in each.findings]
    bad_ones, warnings = levels.count(Level.BAD), levels.count(Level.WARN)
    if not bad_ones and not warnings:
        return "Nothing is wrong."
    words = [f"{bad_ones} bad"] if bad_ones else []
    words += [f"{warnings} warning{'' if warnings == 1 else 's'}"] if warnings else []
    return f"{', '.join(words)}, {levels.count(Level.OK)} ok."


def in_json(found: Sequence[Found]) -> str:
    """Return all as JSON: `{"well": …, "findings": [{"area", "level", "what", "remedy"}, …]}`."""
    findings = [
        {"area": each.area, "level": one.level, "what": one.what, "remedy": one.remedy or None}
        for each in found
        for one in each.findings
    ]
    return json.dumps({"well": is_well(found), "findings": findings}, indent=2, ensure_ascii=False)


def lines(found: Found, *, columns: int, in_colour: bool = False) -> Iterator[str]:
    r"""Write an area as lines of at most `columns`: its name once, the level of each finding, its remedy below it.

    >>> print(*lines(Found("disk", (ok("12 GB free"), bad("it is full", "make room"))), columns=60), sep="\n")
    disk         ok    12 GB free
                 BAD   it is full
                       -> make room
    """
    width = min(max(columns, FEWEST_COLUMNS), MOST_COLUMNS)
    name = found.area
    for finding in found.findings:
        word = "BAD" if finding.level is Level.BAD else finding.level.value
        level = f"{word:<6}"
        if in_colour:
            level = f"{_COLOURS[finding.level]}{level}{_RESET}"
        first, *others = _wrapped(finding.what, width)
        yield f"{name:<13}{level}{first}"
        yield from (_INDENT + line for line in others)
        for line in _wrapped(finding.remedy, width, "-> ", "   ") if finding.remedy else ():
            yield _INDENT + (f"{_FAINT}{line}{_RESET}" if in_colour else line)
        name = ""


_INDENT = " " * 19


def _wrapped(text: str, width: int, first: str = "", others: str = "") -> list[str]:
    wrapped = textwrap.wrap(
        text,
        width - len(_INDENT),
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,  # a path or a command is to be copied
        break_on_hyphens=False,
    )
    return wrapped or [first]
