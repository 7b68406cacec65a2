"""`edge-hub tokens` and `edge-hub audit` as people type them, beside a hub that runs, by HTTPS."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.certificates import Authority
from tests.support.programs import END_OF_LOG, House, clean_environment, make_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Said(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with make_house(tmp_path) as made:
        yield made


async def edge_hub(house: House, *arguments: str, **settings: str) -> Said:
    """Run `edge-hub`, with the house's database."""
    database = f"sqlite:///{house.folder / 'hub.db'}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "hub", *arguments),
        env=clean_environment({"HUB_DATABASE_URL": database, "COLUMNS": "120", **settings}),
        cwd=house.folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Said(process.returncode, out.decode(), err.decode())


async def test_the_first_token_lets_the_hub_listen_beyond_loopback_and_shuts_out_who_has_none(house: House) -> None:
    authority = Authority(house.folder)
    pair = authority.sign("hub")
    everywhere = {
        "HUB_HTTP_HOST": "0.0.0.0",  # noqa: S104
        "HUB_HTTP_TLS_CERTIFICATE": str(pair.certificate),
        "HUB_HTTP_TLS_KEY": str(pair.key),
    }
    refused = await edge_hub(house, "serve", HUB_HTTP_PORT="0", **everywhere)
    assert refused.code == 2
    assert 'HUB_HTTP_HOST is "0.0.0.0": expected a loopback address while there are no tokens' in refused.err
    made = await edge_hub(house, "tokens", "create", "--name", "ci", "--role", "operator", "--expires-days", "30")
    assert made.code == 0
    assert made.out.startswith("hft_")
    assert made.out.count("\n") == 1
    assert "from now on the hub takes nothing without a token" in made.err
    (house.folder / "token").write_text(made.out)
    hub = await house.hub(**everywhere)
    program, url = hub.program, str(hub.http.base_url).replace("0.0.0.0", "localhost")  # noqa: S104
    assert url.startswith("https://")
    assert all("unknown_setting" not in line for line in program.lines)
    trusting = {"HUB_URL": url, "HUB_CA": str(authority.path)}
    by_file = {**trusting, "HUB_TOKEN_FILE": "token"}

    nobody = await edge_hub(house, "tasks", "list", **trusting)
    assert (nobody.code, nobody.out) == (2, "")
    assert "HUB_TOKEN_FILE" in nobody.err
    submitted = await edge_hub(house, "tasks", "submit", "noop", "--id", "t1", **by_file)
    assert submitted == (0, "t1\n", "")
    listed = await edge_hub(house, "tasks", "list", "--json", "--token", made.out.strip(), **trusting)
    assert [task["id"] for task in json.loads(listed.out)["items"]] == ["t1"]
    assert (await edge_hub(house, "schedules", "list", **by_file)).code == 0
    doubted = await edge_hub(house, "tasks", "list", HUB_URL=url)
    assert (doubted.code, "CERTIFICATE_VERIFY_FAILED" in doubted.err) == (2, True)

    tokens = json.loads((await edge_hub(house, "tokens", "list", "--json")).out)["items"]
    assert [(one["name"], one["role"], one["state"]) for one in tokens] == [("ci", "operator", "valid")]
    assert "hft_" not in (await edge_hub(house, "tokens", "list")).out

    program.signal(signal.SIGHUP)
    await program.logged("certificate_renewed")
    seen = len(program.lines)
    assert (await edge_hub(house, "tokens", "revoke", "ci")).code == 0
    await program.logged("tokens_changed", after=seen)
    late = await edge_hub(house, "tasks", "list", **by_file)
    assert (late.code, late.err) == (2, "the token ci is revoked; here: --token, HUB_TOKEN or HUB_TOKEN_FILE\n")
    assert await program.stop() == 0
    assert program.lines[-1] == END_OF_LOG

    trail = [json.loads(line) for line in (await edge_hub(house, "audit", "--json")).out.splitlines()]
    told = [(line["who"].partition(":")[0], line["action"], line["target"], line["outcome"]) for line in trail]
    assert told == [
        ("local", "token.created", "ci", "done"),
        ("anonymous", "request.refused", "GET /api/tasks", "refused"),
        ("token", "task.submitted", "t1", "done"),
        ("local", "token.revoked", "ci", "done"),
        ("token", "request.refused", "GET /api/tasks", "refused"),
    ]
    words = (await edge_hub(house, "audit", "--action", "task")).out
    assert words.endswith("token:ci (127.0.0.1)  task.submitted  t1: noop\n")
    assert (await edge_hub(house, "audit", "--since", "2100-01-01")).out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tokens", "create", "--name", "CI", "--role", "viewer"], "--name is"),
        (["tokens", "create", "--name", "ci", "--role", "viewer", "--expires-days", "0"], "--expires-days is"),
        (["tokens", "list"], "HUB_DATABASE_URL is"),
        (["tokens", "revoke", "ci"], "HUB_DATABASE_URL is"),
        (["audit", "--since", "yesterday"], "--since is"),
        (["tasks", "list", "--token", "secret"], "HUB_TOKEN is no token: expected hft_"),
        (["tasks", "list", "--ca", "none.crt"], "HUB_CA is 'none.crt'"),
    ],
)
async def test_what_is_wrong_is_one_line_and_exit_code_2(house: House, arguments: list[str], words: str) -> None:
    said = await edge_hub(house, *arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(words)
    assert said.err.count("\n") == 1
    assert "secret" not in said.err
