"""What the commands show, in terminals of any width."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest

from hub.commands.screen import explain_screen, task_screen, tasks_table
from hub.terminal import console, detail

if TYPE_CHECKING:
    from rich.console import RenderableType

LONG = "every worker that can run it is busy, and has been so for as long as anybody can remember, or longer"
TASK: dict[str, Any] = {
    "id": "019ab2c3d4e5f60718293a4b5c6d7e8f",
    "kind": "container",
    "site": "site-a",
    "worker": "rack-7-node-12",
    "state": "running",
    "reason": LONG,
    "requires": {"docker": True, "memory_mb": {"min": 512}},
    "labels": {},
    "priority": 5,
    "params": {"image": "busybox:1", "command": ["echo", "hi"]},
    "result": None,
    "error": None,
    "created_at": "2026-11-25T21:37:06.123Z",
    "attempts": [{"attempt": 1, "worker": "w1", "state": "declined", "error": LONG}],
    "timeline": [{"at": "2026-11-25T21:37:06.123Z", "event": "created", "via": "http"}],
    "explain": {
        "note": "by the fleet as it is now",
        "workers": [{"worker": "w1", "site": "site-a", "verdict": "busy", "why": LONG}],
        "counts": {"busy": 1, "misfit": 300},
        "not_shown": 101,
    },
}


def drawn(screen: RenderableType, width: int = 80) -> list[str]:
    terminal = console(file=StringIO(), width=width, no_color=True)
    terminal.print(screen)
    assert isinstance(terminal.file, StringIO)
    return [line.rstrip() for line in terminal.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
def test_an_id_is_always_whole_and_a_task_is_one_line(width: int) -> None:
    lines = drawn(tasks_table([TASK], width=width), width)
    (row,) = [line for line in lines if TASK["id"] in line]
    assert "running" in row
    assert row.endswith("…")
    assert max(map(len, lines)) <= width


def test_a_wide_table_says_more() -> None:
    assert "container" not in "".join(drawn(tasks_table([TASK], width=80)))
    assert "container" in "".join(drawn(tasks_table([TASK], width=120), 120))


def test_a_task_is_shown_as_people_write_it_and_nothing_is_cut() -> None:
    text = "\n".join(drawn(task_screen(TASK)))
    assert 'docker=true, memory_mb={"min":512}' in text
    assert "labels" not in text
    assert "2026-11-25 21:37:06" in text
    assert " ".join(text.split()).count("or longer") == 2


def test_an_explanation_says_what_is_not_shown() -> None:
    text = " ".join(" ".join(drawn(explain_screen(TASK))).split())
    assert text.startswith(f"{TASK['id']} is running: every worker")
    assert "w1 site-a busy every worker" in text
    assert "1 busy, 300 misfit; 101 of them not shown (by the fleet as it is now)" in text


def test_what_tasks_and_workers_say_is_no_markup() -> None:
    said = "no such file: [/etc/x] [red]a[/red] :warning:"
    task = {**TASK, "reason": None, "error": said, "attempts": [{**TASK["attempts"][0], "error": said}]}
    task["explain"] = {**TASK["explain"], "workers": [{**TASK["explain"]["workers"][0], "why": said}]}
    for screen in (tasks_table([task], width=120), task_screen(task), explain_screen(task)):
        assert said in " ".join(" ".join(drawn(screen, 200)).split())


def test_long_names_leave_room_for_what_there_is_to_say() -> None:
    long = {**TASK, "id": "i" * 128, "site": "s" * 63, "worker": "w" * 63, "reason": "why it waits"}
    told = {**TASK["explain"]["workers"][0], "worker": long["worker"], "site": long["site"]}
    long["explain"] = {**TASK["explain"], "workers": [told]}
    listed = drawn(tasks_table([long], width=80))
    (row,) = [line for line in listed if "running" in line]
    assert row.endswith("running   why it waits")
    assert "".join(line[:40] for line in listed[2:]).replace(" ", "").startswith("i" * 128)
    lines = drawn(explain_screen(long))
    assert len(lines) < 20
    assert sum(line.count("w") for line in lines if set(line[:24].strip()) == {"w"}) >= 63
    assert max(map(len, lines + listed)) <= 80


def test_what_a_task_has_written_does_not_move_the_terminal() -> None:
    said = "a\x1b[2Jb\x9bc\rd"
    task = {**TASK, "reason": None, "error": said, "attempts": [{**TASK["attempts"][0], "error": said}]}
    task["explain"] = {**TASK["explain"], "workers": [{**TASK["explain"]["workers"][0], "why": said}]}
    for screen in (task_screen(task), explain_screen({**task, "reason": said})):
        text = "\n".join(drawn(screen))
        assert r"a\x1b[2Jb\x9bc\x0dd" in text
        assert not set(text) & {"\x1b", "\x9b", "\r"}
    assert detail({"reason": None, "error": None, "result": {"output": "x\x1b[31my\n"}}) == r"x\x1b[31my"
