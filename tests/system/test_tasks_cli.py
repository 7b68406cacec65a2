"""`edge-hub tasks`, as people type it: a real hub, a real agent, and the command as a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.programs import House, Hub, clean_environment, make_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@dataclass
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401
        return json.loads(self.out)


async def tasks(hub: Hub | str, *arguments: str, stdin: str = "") -> Said:
    """Run `edge-hub tasks` in a terminal of 80 columns."""
    url = hub if isinstance(hub, str) else str(hub.http.base_url)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "hub", "tasks", *arguments),
        env=clean_environment({"HUB_URL": url, "COLUMNS": "80"}),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return Said(process.returncode, out.decode(), err.decode())


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with make_house(tmp_path) as made:
        yield made


@pytest.fixture
async def hub(house: House) -> Hub:
    hub = await house.hub()
    await house.agent("w1", "site-a")
    await hub.program.logged(r"worker=w1.*state=online")
    return hub


async def test_a_task_is_submitted_waited_for_listed_and_shown(hub: Hub) -> None:
    done = await tasks(
        hub, "submit", "noop", "--id", "t1", "--site", "site-a", "--param", "n=1", "--param", "s=x", "--wait"
    )
    assert (done.code, done.out, done.err) == (0, 't1 is succeeded: {"n":1,"s":"x"}\n', "")
    listed = await tasks(hub, "list", "--state", "succeeded")
    assert listed.code == 0
    assert listed.out.splitlines()[2].split() == ["t1", "succeeded", '{"n":1,"s":"x"}']
    assert (await tasks(hub, "list", "--kind", "sleep", "--json")).json == {"items": [], "next": None}
    shown = await tasks(hub, "show", "t1")
    assert shown.code == 0
    assert "n=1, s=x" in shown.out
    assert "started" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    assert (await tasks(hub, "show", "t1", "--json")).json["result"] == {"n": 1, "s": "x"}


async def test_what_comes_of_a_task_is_the_exit_code(hub: Hub) -> None:
    failed = await tasks(hub, "submit", "sleep", "--id", "t1", "--param", "seconds=-1", "--wait")
    assert failed.code == 1
    assert failed.out.startswith("t1 is failed: ")
    assert (await tasks(hub, "wait", "t1")).code == 1
    assert (await tasks(hub, "submit", "noop", "--id", "t2", "--wait", "--json")).json["state"] == "succeeded"
    assert (await tasks(hub, "wait", "t2")).code == 0
    await tasks(hub, "submit", "noop", "--id", "t3", "--worker", "nobody")
    pending = await tasks(hub, "wait", "t3", "--timeout", "0.1")
    assert (pending.code, pending.out) == (1, "t3 is pending: no worker nobody is known\n")


async def test_why_a_task_waits_is_explained_worker_by_worker(hub: Hub) -> None:
    body = {"id": "t1", "kind": "noop", "site": "site-a", "labels": {"team": "infra"}}
    submitted = await tasks(hub, "submit", "--body", "-", "--require", "forklift=true", stdin=json.dumps(body))
    assert (submitted.code, submitted.out) == (0, "t1\n")
    told = await tasks(hub, "explain", "t1")
    assert told.code == 0
    assert told.out.startswith("t1 is pending: no online worker at site-a has forklift\n")
    (row,) = [line for line in told.out.splitlines() if line.startswith("w1")]
    assert row.rstrip().split(maxsplit=3) == ["w1", "site-a", "misfit", "forklift is missing, expected true"]
    assert max(map(len, told.out.splitlines())) <= 80
    assert (await tasks(hub, "explain", "t1", "--json")).json["counts"] == {"misfit": 1}


async def test_a_task_is_cancelled_tried_again_and_resolved(hub: Hub) -> None:
    await tasks(hub, "submit", "noop", "--id", "t1", "--worker", "nobody")
    cancelled = await tasks(hub, "cancel", "t1", "--reason", "no need")
    assert (cancelled.code, cancelled.out) == (0, "t1 is cancelled: cancelled: no need\n")
    again = await tasks(hub, "retry", "t1", "--json")
    assert again.json["state"] == "pending"
    refused = await tasks(hub, "resolve", "t1", "succeeded", "--result", '{"n": 1}')
    assert refused.code == 2
    assert "pending" in refused.err


async def test_a_task_shows_what_it_has_written(hub: Hub, house: House) -> None:
    await house.agent("w2", "site-b", WORKER_ALLOW_COMMANDS='["echo **"]')
    await tasks(hub, "submit", "command", "--id", "t1", "--site", "site-b", "--param", 'argv=["echo","hi"]', "--wait")
    assert (await tasks(hub, "log", "t1")).out == "hi\n"
    assert (await tasks(hub, "log", "t1", "--follow")).out == "hi\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "t9"], 'id is "t9": expected one that exists'),
        (["log", "t9"], 'id is "t9": expected one that exists'),
        (["show", "../sites"], "Not Found"),
        (["cancel", ""], 'TASK is "": expected the id of a task'),
        (["submit", "noop", "--param", "n"], '--param is "n": expected name=value'),
        (["submit", "noop", "--body", "[1]"], '--body is "[1]": expected a JSON object'),
        (["submit", "noop", "--body", "{"], "--body is"),
        (["submit", "noop", "--priority", "500"], "priority is 500: expected a whole number up to 100"),
        (["submit"], "kind is missing"),
        (["list", "--state", "done"], 'state is "done"'),
        (["resolve", "t9", "succeeded", "--result", "{"], "--result is"),
    ],
)
async def test_what_is_wrong_is_one_line_and_exit_code_2(hub: Hub, arguments: list[str], words: str) -> None:
    said = await tasks(hub, *arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(words)
    assert said.err.count("\n") == 1


async def test_a_hub_that_is_not_there_is_said_to_be() -> None:
    said = await tasks("http://127.0.0.1:1", "list")
    assert said.code == 2
    assert said.err.startswith("the hub at http://127.0.0.1:1 does not answer: ")
    assert (await tasks("no url", "list")).code == 2
