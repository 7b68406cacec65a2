"""A hundred kinds of bad input, by MQTT and HTTP: each is answered with its field and its value, and stops nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from broker.link import Link
from broker.topics import SiteTasks, Topics, WorkerTasks
from tests.support.programs import House, Hub, make_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GOOD = {"kind": "noop"}


def with_field(**fields: object) -> dict[str, object]:
    return {**GOOD, **fields}


TASKS: dict[str, tuple[object, str, str]] = {
    # what it is: (the task, the field that is named, what of its value is shown)
    "kind missing": ({"id": "x"}, "kind", "missing"),
    "kind of a wrong type": ({"kind": 5}, "kind", "5"),
    "kind null": ({"kind": None}, "kind", "null"),
    "kind empty": ({"kind": ""}, "kind", '""'),
    "kind in capitals": ({"kind": "NOOP"}, "kind", "NOOP"),
    "kind with a space": ({"kind": "no op"}, "kind", "no op"),
    "kind with a newline": ({"kind": "noop\n"}, "kind", "noop"),
    "kind too long": ({"kind": "k" * 64}, "kind", "kkk"),
    "kind that nobody runs": ({"kind": "camera.sing"}, "kind", "camera.sing"),
    "unknown field": (with_field(timeout_secs=5), "timeout_secs", "5"),
    "attempt, which is the hub's": (with_field(attempt=1), "attempt", "1"),
    "id of a wrong type": (with_field(id=7), "id", "7"),
    "id empty": (with_field(id=""), "id", '""'),
    "id with a slash": (with_field(id="a/b"), "id", "a/b"),
    "id with a space": (with_field(id="a b"), "id", "a b"),
    "id too long": (with_field(id="i" * 129), "id", "iii"),
    "id with a null byte": (with_field(id="a\0"), "id", "a"),
    "params a list": (with_field(params=[1]), "params", "[1]"),
    "params a text": (with_field(params="x"), "params", "x"),
    "params null": (with_field(params=None), "params", "null"),
    "priority a text": (with_field(priority="5"), "priority", '"5"'),
    "priority a fraction": (with_field(priority=1.5), "priority", "1.5"),
    "priority too high": (with_field(priority=101), "priority", "101"),
    "priority too low": (with_field(priority=-101), "priority", "-101"),
    "priority a flag": (with_field(priority=True), "priority", "true"),
    "timeout of -1": (with_field(timeout_seconds=-1), "timeout_seconds", "-1"),
    "timeout of 0": (with_field(timeout_seconds=0), "timeout_seconds", "0"),
    "timeout a text": (with_field(timeout_seconds="5"), "timeout_seconds", '"5"'),
    "timeout too long": (with_field(timeout_seconds=1e12), "timeout_seconds", "1000000000000"),
    "expiry negative": (with_field(expires_in_seconds=-0.5), "expires_in_seconds", "-0.5"),
    "expiry a list": (with_field(expires_in_seconds=[]), "expires_in_seconds", "[]"),
    "retry a number": (with_field(retry=3), "retry", "3"),
    "retry with no attempt": (with_field(retry={"max_attempts": 0}), "retry.max_attempts", "0"),
    "retry too often": (with_field(retry={"max_attempts": 101}), "retry.max_attempts", "101"),
    "retry misspelt": (with_field(retry={"attempts": 3}), "retry.attempts", "3"),
    "retry with a negative wait": (with_field(retry={"backoff_seconds": -1}), "retry.backoff_seconds", "-1"),
    "idempotent a text": (with_field(idempotent="no"), "idempotent", "no"),
    "idempotent a number": (with_field(idempotent=0), "idempotent", "0"),
    "target unknown": (with_field(target="some"), "target", "some"),
    "requires a list": (with_field(requires=["docker"]), "requires", "docker"),
    "requires a list of values": (with_field(requires={"docker": [True]}), "requires.docker", "[true]"),
    "requires null": (with_field(requires={"docker": None}), "requires.docker", "null"),
    "requires a misspelt bound": (with_field(requires={"memory_mb": {"mim": 1}}), "requires.memory_mb.mim", "1"),
    "requires a bound of texts": (with_field(requires={"memory_mb": {"min": "1"}}), "requires.memory_mb.min", '"1"'),
    "requires one of nothing": (with_field(requires={"arch": {"in": []}}), "requires.arch.in", "[]"),
    "labels a list": (with_field(labels=["a"]), "labels", "a"),
    "labels with a number": (with_field(labels={"team": 5}), "labels.team", "5"),
    "labels too long": (with_field(labels={"team": "t" * 257}), "labels.team", "ttt"),
    "sleep with no seconds": ({"kind": "sleep"}, "params.seconds", "missing"),
    "sleep of a text": ({"kind": "sleep", "params": {"seconds": "1"}}, "params.seconds", '"1"'),
    "sleep backwards": ({"kind": "sleep", "params": {"seconds": -1}}, "params.seconds", "-1"),
    "command with no argv": ({"kind": "command"}, "params.argv", "missing"),
    "command as a line": ({"kind": "command", "params": {"argv": "uptime"}}, "params.argv", "uptime"),
    "command with a number": ({"kind": "command", "params": {"argv": ["echo", 1]}}, "params.argv[1]", "1"),
    "command of nothing": ({"kind": "command", "params": {"argv": []}}, "params.argv", "[]"),
    "handler without its argument": ({"kind": "trace"}, "params.path", "missing"),
    "handler with a wrong argument": ({"kind": "trace", "params": {"path": 5}}, "params.path", "5"),
    "handler with one too many": (
        {"kind": "trace", "params": {"path": "/dev/null", "mode": 1}},
        "params.mode",
        "1",
    ),
}

PAYLOADS: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "message", ""),
    "not JSON": (b"restart the dns, please", "message", "restart"),
    "half of it": (b'{"kind": "noop"', "message", "noop"),
    "two of them": (b'{"kind":"noop"} {"kind":"noop"}', "message", "noop"),
    "a number": (b"5", "message", "5"),
    "a text": (b'"noop"', "message", "noop"),
    "null": (b"null", "message", "null"),
    "an empty array": (b"[]", "message", "[]"),
    "an array of arrays": (b'[[{"kind":"noop"}]]', "[0]", "noop"),
    "arrays, a thousand deep": (b"[" * 1000 + b"]" * 1000, "message", "[[["),
    "objects, a thousand deep": (b'{"params":' * 1000 + b"1" + b"}" * 1000, "message", "params"),
    "one bad in an array": (b'[{"kind":"noop"},{"kind":"noop","timeout_seconds":-1}]', "[1].timeout_seconds", "-1"),
    "invalid UTF-8": (b'{"kind":"noop","params":{"x":"\xff\xfe"}}', "message", "noop"),
    "UTF-16": ('{"kind":"noop"}'.encode("utf-16"), "message", "k"),
    "a byte order mark": (b'\xef\xbb\xbf{"kind":"noop"}', "message", "noop"),
    "half a surrogate": (b'{"kind":"noop","params":{"x":"\\ud800"}}', "message", "noop"),
    "NaN": (b'{"kind":"noop","params":{"x":NaN}}', "params.x", "NaN"),
    "infinity": (b'{"kind":"noop","params":{"x":[1e999]}}', "params.x", "Infinity"),
    "a number of 5,000 digits": (b'{"kind":"noop","params":{"x":' + b"9" * 5000 + b"}}", "message", "noop"),
    "1 MiB": (b'{"kind":"noop","params":{"x":"' + b"x" * 1024 * 1024 + b'"}}', "message", "1048609 bytes"),
    "1 MiB of nothing": (bytes(1024 * 1024), "message", "1048576 bytes"),
    "comments": (b'{"kind":"noop" /* why not */}', "message", "noop"),
    "single quotes": (b"{'kind':'noop'}", "message", "kind"),
}

TOPICS: dict[str, tuple[str, str, str]] = {
    "a site with a slash": ("edge/v1/sites/site/a/tasks", "topic", "site/a"),
    "a site in capitals": ("edge/v1/sites/SITE-A/tasks", "site", "SITE-A"),
    "a site with a space": ("edge/v1/sites/site a/tasks", "site", "site a"),
    "an empty site": ("edge/v1/sites//tasks", "site", '""'),
    "a worker in capitals": ("edge/v1/sites/site-a/workers/W1/tasks", "worker", "W1"),
    "a leaf that is none": ("edge/v1/sites/site-a/workers/w1/task", "topic", "w1/task"),
}

HTTP: dict[str, tuple[object, str, str]] = {
    "site with a slash": (with_field(site="a/b"), "site", "a/b"),
    "site with a plus": (with_field(site="a+b"), "site", "a+b"),
    "site with a hash": (with_field(site="#"), "site", "#"),
    "site a number": (with_field(site=1), "site", "1"),
    "site with a newline": (with_field(site="site-a\n"), "site", "site-a"),
    "worker with a dollar": (with_field(worker="$share"), "worker", "$share"),
    "worker too long": (with_field(worker="w" * 64), "worker", "www"),
}


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[House, Hub]]:
    async with make_house(tmp_path_factory.mktemp("bad-input")) as house:
        hub = await house.hub()
        await house.agent(
            "w1", "site-a", WORKER_PLUGINS="tests.support.site_handlers", WORKER_ALLOW_COMMANDS='["echo **"]'
        )
        await hub.program.logged("worker=w1.*state=online")
        yield house, hub


@pytest.fixture(scope="module")
async def refused(place: tuple[House, Hub]) -> dict[str, dict[str, Any]]:
    """Publish every bad input, then a good task; return what became of each bad one, by its name."""
    house, hub = place
    worker_topic = Topics().build(WorkerTasks("site-a", "w1"))
    bad = {name: json.dumps(task).encode() for name, (task, *_) in TASKS.items()}
    bad |= {name: payload for name, (payload, *_) in PAYLOADS.items()}
    strays = {name: topic for name, (topic, *_) in TOPICS.items()}
    answers: dict[str, dict[str, Any]] = {}
    async with Link(url=house.broker.url, client_id="bad").connect() as connection:
        await connection.subscribe("edge/v1/replies/bad/#")
        sent = [(Topics().build(SiteTasks("site-a")), name, payload) for name, payload in bad.items()]
        sent += [(topic, name, b'{"kind":"noop"}') for name, topic in strays.items()]
        sent += [(worker_topic, "to one worker", b'{"kind":"noop","timeout_secs":5}')]
        for topic, name, payload in sent:
            await connection.publish(topic, payload, reply_topic="edge/v1/replies/bad/all", correlation=name.encode())
        async for answer in connection.messages():
            answer.ack()
            reply = json.loads(answer.payload)
            if reply["outcome"] == "rejected":
                answers[(answer.correlation or b"").decode()] = reply
            if len(answers) == len(sent):
                break
    await house.inject("site-a", '{"id":"good","kind":"noop"}')
    assert (await hub.task("good"))["state"] == "succeeded"
    listed = await hub.items("/api/rejections", limit="500")
    assert len(listed) == len(sent)
    return {name: {**answers[name], "listed": listed} for name in answers}


def check(refusal: dict[str, Any], field: str, value: str) -> None:
    """The answer names field and value, and the same refusal is listed."""
    assert refusal["error"].startswith(f"{field} is "), refusal["error"]
    assert value in refusal["error"]
    (entry, *_) = [one for one in refusal["listed"] if one["reason"] == refusal["error"]]
    problem = entry["problems"][0]
    assert problem["field"] == field
    assert problem["message"] == refusal["error"].split("; ")[0]
    assert len(entry["payload"].encode()) <= 4 * 1024


@pytest.mark.parametrize("name", TASKS)
async def test_a_bad_task_by_mqtt_is_refused(name: str, refused: dict[str, dict[str, Any]]) -> None:
    check(refused[name], *TASKS[name][1:])


@pytest.mark.parametrize("name", PAYLOADS)
async def test_a_bad_payload_by_mqtt_is_refused(name: str, refused: dict[str, dict[str, Any]]) -> None:
    check(refused[name], *PAYLOADS[name][1:])


@pytest.mark.parametrize("name", TOPICS)
async def test_a_task_on_a_topic_of_nobody_is_refused(name: str, refused: dict[str, dict[str, Any]]) -> None:
    check(refused[name], *TOPICS[name][1:])


async def test_a_bad_task_for_one_worker_is_refused(refused: dict[str, dict[str, Any]]) -> None:
    check(refused["to one worker"], "timeout_secs", "5")


@pytest.mark.parametrize(
    "name", [*(name for name in TASKS if "handler" not in name and TASKS[name][1][:6] != "params"), *HTTP]
)
async def test_a_bad_task_by_http_is_a_problem_document(name: str, place: tuple[House, Hub]) -> None:
    _, hub = place
    task, field, value = {**TASKS, **HTTP}[name]
    answer = await hub.http.post("/api/tasks", json=task)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()["problems"][0]
    assert problem["field"] == field
    assert value in problem["message"]


@pytest.mark.parametrize("name", PAYLOADS)
async def test_a_bad_payload_by_http_is_a_problem_document(name: str, place: tuple[House, Hub]) -> None:
    _, hub = place
    answer = await hub.http.post("/api/tasks", content=PAYLOADS[name][0])

    assert answer.status_code == (413 if name.startswith("1 MiB") else 422)
    assert answer.json()["problems"][0]["field"]


async def test_worker_and_hub_are_still_at_work(place: tuple[House, Hub], refused: dict[str, dict[str, Any]]) -> None:
    _, hub = place
    assert refused
    assert len(TASKS) + len(PAYLOADS) + len(TOPICS) + len(HTTP) >= 90
    await hub.post({"id": "last", "kind": "noop", "worker": "w1"})
    assert (await hub.task("last"))["state"] == "succeeded"
    (worker,) = await hub.items("/api/workers")
    assert worker["state"] == "online"
