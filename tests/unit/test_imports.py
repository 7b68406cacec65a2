"""The import rule: who may import whom, what a pure module may reach, and where a topic may be written.

It is read from the source text, so an import inside a function or under TYPE_CHECKING counts like any other.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    House = Mapping[str, ast.Module]  # by the modules' names

ROOT = Path(__file__).parents[2]

MAY_NOT_IMPORT = {"broker": {"edge_agent", "hub"}, "edge_agent": {"hub"}, "hub": {"edge_agent"}}
MQTT_CLIENTS = {"aiomqtt", "paho"}
LINK = "broker.link"
ENGINE_CLIENT = "edge_agent.engine.client"
TOPICS = "broker.topics"
PURE = re.compile(r"broker\.topics|(edge_agent|hub)\.rules(\..+)?")

IMPURE = re.compile(
    r"""(
    aiomqtt | alembic | anyio | apscheduler | asyncio | concurrent | ctypes | docker | fcntl | glob
    | http\.client | httpx | importlib | io | logging | mmap | multiprocessing | os | paho | pathlib
    | platform | psutil | pydantic_settings | queue | random | rich | secrets | select | selectors
    | shutil | signal | socket | sqlalchemy | sqlite3 | sqlite_utils | ssl | starlette | structlog
    | subprocess | sys | tempfile | threading | time | typer | urllib\.request | uuid | uvicorn | uvloop
    )(\..+)?""",
    re.VERBOSE,
)
IMPURE_CALLS = {"open", "input", "print", "now", "today", "utcnow"}
"""As a function or as a method: `now()` reads a clock, whatever it is called on."""

TOPIC = re.compile(r"edge/v1|\$share/|(?<=.)(?<!/api)/(sites|workers)/")
"""A topic has something before its `/workers/`; an HTTP path starts there, or has `/api` before it."""


def parse(sources: Iterable[tuple[str, str]]) -> House:
    return {name: ast.parse(text, name) for name, text in sources}


@cache
def the_house() -> House:
    files = [path for package in MAY_NOT_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]
    return parse((module_name(path.relative_to(ROOT)), path.read_text("utf-8")) for path in files)


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield what is imported, in full: `broker.topics.Topics`. Relative imports are ruff's to forbid."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def prefixes(name: str) -> Iterator[str]:
    """Yield `a.b.c`, `a.b`, `a`."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def forbidden_imports(house: House) -> Iterator[str]:
    for name, tree in house.items():
        forbidden = MAY_NOT_IMPORT[name.partition(".")[0]] | (MQTT_CLIENTS if name != LINK else set())
        forbidden |= {"docker"} if name != ENGINE_CLIENT else set()
        yield from (f"{name} imports {target}" for target in imports(tree) if forbidden & {*prefixes(target)})


def reachable(name: str, house: House) -> set[str]:
    """Return the modules of the house that `name` brings in, itself included."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += filter(None, (owner(target, house) for target in imports(house[module])))
    return seen


def owner(target: str, house: House) -> str | None:
    """Return the module that an import loads: `broker.topics` for `broker.topics.Topics`."""
    return next((name for name in prefixes(target) if name in house), None)


def impurities(house: House) -> Iterator[str]:
    for name in filter(PURE.fullmatch, house):
        for module in sorted(reachable(name, house)):
            yield from (f"{name} is pure, but {module} {fault}" for fault in impure_acts(house[module]))


def impure_acts(tree: ast.Module) -> Iterator[str]:
    yield from (f"imports {target}" for target in imports(tree) if IMPURE.fullmatch(target))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.rpartition(".")[2] in IMPURE_CALLS:
                yield f"calls {called}"


def stray_topics(house: House) -> Iterator[str]:
    for name, tree in house.items():
        if name != TOPICS:
            yield from (f"{name} has {text!r}" for text in strings(tree) if TOPIC.search(text))


def strings(tree: ast.Module) -> Iterator[str]:
    """Yield each string but docstrings; the fields of an f-string as `{}`."""
    nodes = list(ast.walk(tree))
    seen = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:  # an f-string comes before its pieces
        if isinstance(node, ast.JoinedStr):
            seen |= {id(piece) for piece in node.values}
            yield "".join(str(piece.value) if isinstance(piece, ast.Constant) else "{}" for piece in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in seen:
            yield node.value


@pytest.mark.parametrize("package", MAY_NOT_IMPORT)
def test_every_package_is_looked_at(package: str) -> None:
    assert package in the_house()


def test_neither_side_imports_the_other_and_only_the_link_knows_mqtt() -> None:
    assert list(forbidden_imports(the_house())) == []


def test_pure_modules_reach_no_clock_socket_file_or_randomness() -> None:
    assert list(impurities(the_house())) == []


def test_topics_are_written_in_one_place() -> None:
    assert list(stray_topics(the_house())) == []


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("hub.api", "import edge_agent.runner", "hub.api imports edge_agent.runner"),
        ("edge_agent.session", "def f():\n    from hub import cli", "edge_agent.session imports hub.cli"),
        ("broker.settings", "import hub", "broker.settings imports hub"),
        ("hub.ingest", "from paho.mqtt import client", "hub.ingest imports paho.mqtt.client"),
        ("edge_agent.app", "import docker.errors", "edge_agent.app imports docker.errors"),
    ],
)
def test_the_checker_sees_a_forbidden_import(name: str, text: str, fault: str) -> None:
    assert list(forbidden_imports(parse([(name, text)]))) == [fault]


def test_the_checker_allows_what_is_allowed() -> None:
    sources = [
        ("broker.link", "import aiomqtt\nfrom paho.mqtt.properties import Properties"),
        ("hub.rules.leases", "from dataclasses import dataclass\nfrom broker.topics import Topics"),
        ("broker.topics", "from datetime import datetime\nROOT = 'edge/v1'"),
        ("hub.hubbub", "import hub.store"),
    ]
    house = parse(sources)
    assert [*forbidden_imports(house), *impurities(house), *stray_topics(house)] == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("import time", "imports time"),
        ("from os.path import join", "imports os.path.join"),
        ("from datetime import datetime\nnow = datetime.now()", "calls datetime.now"),
        ("import datetime\nnow = datetime.datetime.now(datetime.UTC)", "calls datetime.datetime.now"),
        ("text = open('lease').read()", "calls open"),
    ],
)
@pytest.mark.parametrize("name", ["broker.topics", "edge_agent.rules.flow", "hub.rules"])
def test_the_checker_sees_what_is_not_pure(name: str, text: str, fault: str) -> None:
    assert list(impurities(parse([(name, text)]))) == [f"{name} is pure, but {name} {fault}"]


def test_the_checker_sees_a_clock_at_second_hand() -> None:
    house = parse([("hub.rules.leases", "from broker.clock import now_ms"), ("broker.clock", "import time")])
    assert list(impurities(house)) == ["hub.rules.leases is pure, but broker.clock imports time"]


@pytest.mark.parametrize(
    "text",
    [
        "topic = 'edge/v1/hub/status'",
        "topic = f'{root}/v1/sites/{site}/tasks'",
        "topic = f'{root}/workers/{worker}/control'",
        "topic = '$share/workers/' + topic",
    ],
)
def test_the_checker_sees_a_stray_topic(text: str) -> None:
    assert len(list(stray_topics(parse([("hub.dispatch", text)])))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "route = '/workers/{id}'",
        "url = f'{hub}/api/workers/{worker}/tasks'",
        'def f():\n    """Answer on `edge/v1/replies/`."""',
        'TASKS = 1\n"""Seen on edge/v1/sites/{site}/tasks."""',
    ],
)
def test_a_route_or_a_docstring_is_no_topic(text: str) -> None:
    assert list(stray_topics(parse([("hub.api", text)]))) == []
