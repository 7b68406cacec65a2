"""The compose files on a real engine: from nothing to work at three sites, and through everything that ends."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from tests.support.compose import AGAIN, BUSYBOX_IMAGE, SERVICES, ComposeHost, compose_host
from tests.support.guide import section

if TYPE_CHECKING:
    from collections.abc import Iterator

# The first that asks for the host waits until the images are built.
pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

WORKERS = {"worker-site-a-01": "site-a", "worker-site-b-01": "site-b", "worker-site-c-01": "site-c"}
RETRY = {"max_attempts": 9, "backoff_seconds": 0.1}
UP = "docker-compose -f worker-compose.yml up -d"


@pytest.fixture(scope="module")
def host() -> Iterator[ComposeHost]:
    with compose_host() as made:
        yield made


VERSION = version("holdfast")
IMAGES = ("holdfast-agent", "holdfast-hub")


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_that_is_built_twice_has_the_same_files(host: ComposeHost, image: str) -> None:
    once, again = (files_of(host, f"{image}:{tag}") for tag in (VERSION, AGAIN))
    assert len(once) > 1000
    assert {name for name in once.keys() | again.keys() if once.get(name) != again.get(name)} == set()


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_what_its_program_needs_and_no_tools(host: ComposeHost, image: str) -> None:
    names = set(files_of(host, f"{image}:{VERSION}"))
    program = {"holdfast-agent": "edge_agent", "holdfast-hub": "hub"}[image]
    packages = {
        name.split("/")[3] for name in names if name.startswith("opt/holdfast/program/") and name.count("/") > 3
    }
    assert packages == {"bin", "broker", program, f"holdfast-{VERSION}.dist-info"}
    assert not [name for name in names if name.endswith(("site-packages/pip", "site-packages/setuptools", "bin/gcc"))]
    sources = {name for name in names if name.startswith("opt/holdfast/") and name.endswith(".py")}
    assert sources
    assert {cached(name) for name in sources if "/templates/" not in name} <= names


def cached(source: str) -> str:
    folder, _, name = source.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-311.pyc"  # the Python of the tests' base


def test_images_say_what_they_are(host: ComposeHost) -> None:
    for image in (*IMAGES, "holdfast-broker"):
        with contextlib.closing(host.engine.api()) as api:
            config = api.inspect_image(f"{image}:{VERSION}")["Config"]  # type: ignore[no-untyped-call]
        assert config["Labels"]["org.opencontainers.image.version"] == VERSION
        assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
        assert config["StopSignal"] == "SIGTERM"
        assert config["Healthcheck"]["Test"]
        assert config["User"] == ("" if image == "holdfast-agent" else "10001:10001")


def files_of(host: ComposeHost, image: str) -> dict[str, tuple[object, ...]]:
    """Return every file of an image: kind, mode, owner and content, and of ours the time too."""
    with contextlib.closing(host.engine.api()) as api:
        made = api.create_container(image, entrypoint=["none"])["Id"]
        try:
            data = io.BytesIO(b"".join(api.export(made)))
        finally:
            api.remove_container(made)
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(fileobj=data) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            content = hashlib.sha256(file.read()).hexdigest() if file else member.linkname
            dated = member.name.startswith(("opt/holdfast/libraries/", "opt/holdfast/program/"))
            time = member.mtime if dated else None
            found[member.name] = (member.type, member.mode, member.uid, member.gid, content, time)
    return found


@pytest.fixture(scope="module")
def stack(host: ComposeHost) -> Iterator[ComposeHost]:
    """Bring up everything from nothing, once; each test leaves it as it found it."""
    host.run(UP)
    host.until(lambda: host.online() == WORKERS, "three workers are not online")
    yield host
    host.run("docker-compose -f worker-compose.yml down --volumes --remove-orphans")


def container(site: str, script: str, **more: object) -> dict[str, object]:
    return {
        "kind": "container",
        "site": site,
        "params": {"image": BUSYBOX_IMAGE, "command": ["sh", "-c", script]},
        **more,
    }


def sleep(site: str, **more: object) -> dict[str, object]:
    return {"kind": "sleep", "site": site, "params": {"seconds": 0.5}, **more}


def test_tasks_run_at_three_sites(stack: ComposeHost) -> None:
    tasks: list[dict[str, object]] = [
        container("site-a", "echo at a"),
        container("site-b", "echo at b"),
        {"kind": "noop", "site": "site-c", "params": {"at": "c"}},
    ]
    ended = [stack.ended(task) for task in stack.submit(*tasks)]
    assert [task["state"] for task in ended] == ["succeeded"] * 3, ended
    assert [task["result"].get("output") for task in ended] == ["at a\n", "at b\n", None]


def test_what_no_worker_may_do_waits_and_says_why(stack: ComposeHost) -> None:
    alpine: dict[str, object] = {"kind": "container", "site": "site-a", "params": {"image": "alpine:3"}}
    ids = stack.submit(container("site-c", "echo no engine"), alpine)

    def reasons() -> str:
        return " ".join(stack.api(f"/api/tasks/{task}")["reason"] or "" for task in ids)

    stack.until(
        lambda: "site-c runs container" in reasons() and "WORKER_ALLOW_IMAGES does not allow" in reasons(), "why"
    )
    for task in ids:
        stack.run(f"curl --fail --silent -X POST http://localhost:8000/api/tasks/{task}/cancel")


def test_nobody_outside_this_host_reaches_a_port(stack: ComposeHost) -> None:
    published = {service: stack.container(service)["NetworkSettings"]["Ports"] for service in SERVICES}
    reachable = {service: [port for port in ports.values() if port] for service, ports in published.items()}
    assert reachable.pop("hub") == [[{"HostIp": "127.0.0.1", "HostPort": "8000"}]]
    assert not any(reachable.values())


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_can_do_little_more_than_its_program(stack: ComposeHost, service: str) -> None:
    state = stack.run(f"docker-compose exec -T {service} sh -c 'cat /proc/[0-9]*/status'")
    programs = [block for block in state.split("Name:\t") if block.startswith(("edge-", "mosquitto", "python3"))]
    assert programs
    for one in programs:
        fields = dict(line.split(":\t", 1) for line in one.splitlines()[1:] if ":\t" in line)
        assert set(fields["Uid"].split() + fields["Gid"].split()) == {"10001"}
        assert int(fields["CapEff"], 16) == 0
        assert int(fields["CapPrm"], 16) == 0
        assert fields["NoNewPrivs"] == "1"
    written = stack.attempt(f"docker-compose exec -T {service} touch /usr/local/bin/x")
    assert "Read-only file system" in written.stderr
    assert stack.container(service)["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert stack.container(service)["HostConfig"]["LogConfig"]["Config"] == {"max-file": "3", "max-size": "10m"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_becomes_healthy(stack: ComposeHost, service: str) -> None:
    def healthy() -> bool:
        return bool(stack.container(service)["State"]["Health"]["Status"] == "healthy")

    stack.until(healthy, f"{service} is not healthy: {stack.container(service)['State']['Health']}")


def test_workers_of_every_example_are_online(stack: ComposeHost) -> None:
    examples = ("custom-worker", "home-lab", "cloud-and-edge", "several-per-site")
    files = " ".join(f"-f examples/{name}.yml" for name in examples)
    started = WORKERS | {
        "my-worker-01": "my-site",
        "worker-home-01": "home-lab",
        "worker-dc-01": "datacenter-1",
        "worker-cloud-01": "aws-us-east-1",
        "worker-edge-01": "edge-location-1",
        "worker-site-a-02": "site-a",
        "worker-site-a-03": "site-a",
    }
    stack.run(f"docker-compose -f worker-compose.yml {files} up -d")
    stack.until(lambda: stack.online() == started, "not all workers of the examples are online")
    found = {worker: stack.api(f"/api/workers/{worker}")["capabilities"] for worker in started}
    assert (found["my-worker-01"]["docker"], found["my-worker-01"]["gpu"]) == (True, False)
    assert found["worker-home-01"]["docker"] is True
    assert (found["worker-cloud-01"]["docker"], found["worker-cloud-01"]["network_access"]) == (False, True)
    assert (found["worker-edge-01"]["docker"], found["worker-edge-01"]["network_access"]) == (True, False)
    stack.run("docker-compose -f worker-compose.yml up -d --remove-orphans")
    stack.until(lambda: stack.online() == WORKERS, "others than the first three are online")


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_is_lost_when_a_container_dies_at_work(stack: ComposeHost, service: str) -> None:
    sites = ("site-a", "site-b", "site-c")
    tasks = [sleep(site, retry=RETRY) for site in sites] * 8
    tasks += [container(site, "sleep 1; echo done", retry=RETRY) for site in sites[:2]] * 2
    ids = stack.submit(*tasks)
    stack.until(lambda: stack.api("/api/tasks?state=running")["items"], "nothing runs")
    stack.crash(service)
    stack.until(lambda: stack.container(service)["RestartCount"] > 0, f"{service} was not started again")
    stack.until(lambda: stack.online() == WORKERS, f"not all are online after {service} died")
    ended = [stack.ended(task) for task in ids]
    assert {task["state"] for task in ended} == {"succeeded"}, ended


def test_down_and_up_again_keeps_what_the_hub_has_not_had(stack: ComposeHost) -> None:
    kept = stack.submit({"kind": "noop", "site": "site-a", "params": {"n": 1}})
    stack.ended(kept[0])
    stack.run("docker-compose stop hub")
    task = json.dumps({"id": "made-alone", "kind": "noop", "params": {"alone": True}})
    stack.run(f"docker-compose exec -T broker mosquitto_pub -q 1 -t edge/v1/sites/site-c/tasks -m '{task}'")

    def waits() -> bool:
        return "task.finished" in stack.run("docker-compose exec -T worker-site-c edge-agent buffer export")

    stack.until(waits, "the worker has not run it")
    stack.run("docker-compose -f worker-compose.yml down")
    assert stack.run("docker ps --all --quiet") == ""
    stack.run(UP)
    stack.until(lambda: stack.online() == WORKERS, "not all are online again")
    stack.until(lambda: stack.attempt("curl --fail http://localhost:8000/api/tasks/made-alone").returncode == 0, "lost")
    assert stack.ended("made-alone")["result"] == {"alone": True}
    assert stack.ended(kept[0])["result"] == {"n": 1}


def test_the_guides_backup_brings_the_hub_back(stack: ComposeHost) -> None:
    (before,) = stack.submit({"kind": "noop", "site": "site-a"})
    stack.ended(before)
    with section("docs/deployment.md", "Backup with compose") as steps:
        stack.run(steps.take("backup -").text)
        (since,) = stack.submit({"kind": "noop", "site": "site-a"})
        stack.ended(since)
        for words in ("stop hub", "restore -", "start hub"):
            stack.run(steps.take(words).text)
    stack.until(lambda: stack.online() == WORKERS, "not all are online after the restore")
    assert stack.ended(before)["state"] == "succeeded"
    assert stack.attempt(f"curl --fail http://localhost:8000/api/tasks/{since}").returncode != 0
    stack.until(lambda: stack.api("/api/gaps")["items"], "nobody says that something is gone")


EXPECTED = [
    '"output":"hello\\n"',
    "worker-site-a-03",
    "control_plane_url",
    "/app/offline/journal.db",
    "sqlite:////var/lib/holdfast/hub.db",
    '"status":"ok"',
    "worker-site-c-01 at site-c is enrolled",
    "worker.enrolled",
    "worker.revoked",
]
REMOTE = {
    "COMPOSE_PROJECT_NAME": "remote",
    "HOLDFAST_HUB": "https://hub.example:8443",
    "HOLDFAST_WORKER": "worker-home-01",
}
NAMES = {"services": {"worker": {"extra_hosts": ["hub.example:172.17.0.1"]}}}
"""What a name server says on another host: there is the host of the engine, as its containers see it."""


@pytest.fixture
def fresh(host: ComposeHost) -> Iterator[ComposeHost]:
    """Return the host with nothing on it, and clear up what a test has made there."""
    before = (host.deploy / ".env").read_text(encoding="utf-8")
    host.run("docker-compose -f worker-compose.yml down --volumes --remove-orphans")
    (host.clone / "names.yml").write_text(json.dumps(NAMES))
    yield host
    host.hub, host.options = "http://localhost:8000", ""
    host.run("docker-compose -f remote-worker.yml down --volumes", REMOTE)
    host.run("docker-compose down --volumes --remove-orphans")
    (host.deploy / ".env").write_text(before, encoding="utf-8")


def test_every_command_of_the_guide_does_what_it_says(fresh: ComposeHost) -> None:
    shown: list[str] = []
    with section("docs/deployment.md", "With docker compose") as steps:
        assert steps.take("cd deploy").text == "cd deploy"
        for step in steps:
            if "logs -f" in step.text:
                fresh.follow(step.text, "worker-site-a")
            elif step.where == "edge":
                shown.append(_on_another_host(fresh, step.text, token=shown[-1].strip()))
            else:
                shown.append(fresh.run(step.text) if "exec -T" in step.text else fresh.type(step.text))
            _settle(fresh, step.text)
    assert [text for text in EXPECTED if text not in "".join(shown)] == [], "\n".join(shown)
    assert fresh.online() == WORKERS  # those that were let in and not thrown out
    tasks = fresh.submit(container("site-a", "echo safe"), {"kind": "noop", "site": "site-c"})
    assert {fresh.ended(task)["state"] for task in tasks} == {"succeeded"}
    _nobody_comes_in(fresh)


def _on_another_host(host: ComposeHost, script: str, *, token: str) -> str:
    assert token.startswith("hfe_")
    there = script.replace("hfe_TOKEN", token).replace("remote-worker.yml", "remote-worker.yml -f ../names.yml")
    return host.run(there, REMOTE)


def _settle(host: ComposeHost, script: str) -> None:
    """Wait for what a reader would see before he goes on."""
    secured = "production" in (host.deploy / ".env").read_text(encoding="utf-8")
    if "me.token" in script:
        host.hub, host.options = "https://localhost:8000", '--cacert ca.crt -H "Authorization: Bearer $(cat me.token)"'
    if "remote-worker" in script:
        host.until(lambda: host.online().get("worker-home-01") == "home-lab", "the remote worker is not online")
    elif "several-per-site" in script and " up " in script:
        host.until(lambda: "worker-site-a-03" in host.online(), "the third worker of site-a is not online")
    elif "enrol site-c" in script or (" up " in script and (not secured or host.options)):
        host.until(lambda: set(WORKERS) <= set(host.online()), "three workers are not online")
    elif " up " in script:
        health = "docker-compose exec -T hub curl --fail --cacert /etc/holdfast/broker/ca.crt https://hub:8000/health"
        host.until(lambda: host.attempt(health).returncode == 0, "the hub does not answer over TLS")


def _nobody_comes_in(host: ComposeHost) -> None:
    """See that a stranger is refused by hub and broker, and that nothing listens without TLS."""
    assert '"status":401' in host.run("curl --silent --cacert ca.crt https://localhost:8000/api/workers")
    assert host.attempt("curl --silent --max-time 5 http://localhost:8000/health").returncode != 0
    publish = "docker-compose exec -T broker mosquitto_pub -h broker -t edge/v1/sites/site-a/tasks -m '{}'"

    def is_refused() -> bool:
        stranger = host.attempt(f"{publish} -p 8883 --cafile /etc/holdfast/broker/mosquitto/ca.crt")
        assert stranger.returncode != 0
        return "not authorised" in stranger.stderr  # which a broker that closes at once may cut short

    host.until(is_refused, "the broker does not say why")
    assert host.attempt(f"{publish} -p 1883").returncode != 0
    assert host.attempt("docker-compose exec -T broker ls /etc/holdfast/broker/ca.key").returncode != 0
