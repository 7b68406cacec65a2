"""What a doctor shows, and with what it ends."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest

from broker.doctor import Area, Finding, Found, bad, diagnose, examine, in_json, lines, ok, show, summary, warn

if TYPE_CHECKING:
    from collections.abc import Sequence


def area(name: str, *findings: Finding) -> Area:
    async def look() -> Sequence[Finding]:
        return findings

    return Area(name, look)


FINE, DOUBTFUL, BROKEN = ok("12 MB are free"), warn("it is slow", "wait"), bad("it is gone", "make another")


@pytest.mark.parametrize(
    ("findings", "code"), [([FINE], 0), ([FINE, DOUBTFUL], 0), ([DOUBTFUL, BROKEN, FINE], 1), ([], 0)]
)
async def test_only_what_is_bad_makes_the_program_fail(
    findings: list[Finding], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for as_json in (True, False):
        assert await diagnose([area("disk", *findings)], as_json=as_json) == code
        assert capsys.readouterr().out


async def test_an_area_that_cannot_be_looked_at_keeps_no_other_from_it() -> None:
    async def fail() -> Sequence[Finding]:
        raise RuntimeError("no such luck")

    first, second = await examine([Area("hub", fail), area("disk", FINE)])
    assert first.findings[0].what == "this could not be looked at: RuntimeError: no such luck"
    assert first.findings[0].level == "bad"
    assert second.findings == (FINE,)


def test_json_has_each_finding_with_its_area() -> None:
    shown = json.loads(in_json([Found("disk", (FINE, BROKEN))]))
    assert shown == {
        "well": False,
        "findings": [
            {"area": "disk", "level": "ok", "what": "12 MB are free", "remedy": None},
            {"area": "disk", "level": "bad", "what": "it is gone", "remedy": "make another"},
        ],
    }


def test_a_long_line_is_wrapped_below_itself_and_a_path_is_not_broken() -> None:
    path = "/var/lib/holdfast/a-directory-with-a-rather-long-name/and-another"
    found = Found("disk", (bad(f"it cannot be written by you: {path} belongs to root", f"chown -R you {path}"),))
    shown = list(lines(found, columns=60))
    assert shown[0].startswith("disk         BAD   it cannot")
    assert all(line.startswith(" " * 19) for line in shown[1:])
    assert sum(path in line for line in shown) == 2


def test_what_is_no_terminal_gets_no_colours() -> None:
    out = io.StringIO()
    show(Found("disk", (BROKEN,)), out)
    assert "\x1b" not in out.getvalue()
    assert any("\x1b[1;31m" in line for line in lines(Found("disk", (BROKEN,)), columns=80, in_colour=True))


def test_the_last_line_counts() -> None:
    assert summary([Found("disk", (FINE,))]) == "Nothing is wrong."
    assert summary([Found("disk", (FINE, DOUBTFUL)), Found("hub", (BROKEN,))]) == "1 bad, 1 warning, 1 ok."
