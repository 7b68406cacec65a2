"""`edge-agent doctor`: each of the usual troubles, brought about with real parts, is found and has its remedy."""

from __future__ import annotations

import asyncio
import gc
import grp
import json
import os
import shutil
import socket
import sqlite3
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from broker.doctor import Level, examine
from broker.messages import Bootstrap, encode
from edge_agent import doctor, status_file
from edge_agent.offline import OfflineDir
from edge_agent.status import State, Status
from tests.support.guarded import GuardedBroker, password_of
from tests.support.http_server import answer, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from broker.doctor import Finding

SITE = "edge/v1/sites/site-a"
RULES = {
    "w1": [f"readwrite {SITE}/workers/w1/#", f"readwrite {SITE}/tasks", "readwrite edge/v1/replies/#"],
    "mute": [f"read {SITE}/#"],
}

# paho 2 drops the socket of a handshake that failed without closing it
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedBroker]:
    with GuardedBroker(tmp_path_factory.mktemp("guarded"), RULES) as guarded:
        yield guarded


@dataclass
class Patient:
    """An edge host as its settings describe it."""

    folder: Path
    patch: pytest.MonkeyPatch
    found: dict[str, list[Finding]] = field(default_factory=dict)

    def set(self, **variables: object) -> None:
        for name, value in variables.items():
            self.patch.setenv(f"WORKER_{name.upper()}", str(value))

    async def look(self) -> dict[str, list[Finding]]:
        found = await examine(doctor.areas(None))
        self.found = {one.area: list(one.findings) for one in found}
        return self.found

    async def troubles(self, area: str) -> list[Finding]:
        """Return what is not ok in an area; each must have a remedy."""
        found = [one for one in (await self.look())[area] if one.level is not Level.OK]
        assert all(one.remedy for one in found)
        return found

    async def trouble(self, area: str) -> Finding:
        (found,) = await self.troubles(area)
        return found


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Patient:
    for name in [one for one in os.environ if one.startswith("WORKER_") or one.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    host = Patient(tmp_path, monkeypatch)
    host.set(offline_dir=tmp_path / "offline", control_plane_url="http://127.0.0.1:1", site="site-a", id="w1")
    return host


@asynccontextmanager
async def hub(patient: Patient, broker_url: str, *, seconds_ahead: float = 0, **more: bytes) -> AsyncIterator[None]:
    """Play a hub that is asked for the broker, for its health, and for its sites."""
    date = formatdate(time.time() + seconds_ahead, usegmt=True)
    body = encode(Bootstrap(broker_url=broker_url, root="edge"))
    answers: Mapping[str, bytes] = {
        "/api/bootstrap": answer(body=body, date=date),
        "/health": answer(body=b'{"status": "ok"}', date=date),
        "/api/sites": answer(body=b'{"items": [{"site": "site-a"}, {"site": "plant"}]}', date=date),
        **{f"/{name.replace('__', '/')}": one for name, one in more.items()},
    }
    async with serving(answers) as server:
        patient.set(control_plane_url=server.url)
        yield


async def test_a_host_on_which_all_is_well(patient: Patient, broker: GuardedBroker) -> None:
    patient.set(username="w1", password=password_of("w1"))
    (patient.folder / "offline").mkdir()
    async with hub(patient, broker.url):
        found = await patient.look()
    wrong = [one for findings in found.values() for one in findings if one.level is not Level.OK]
    assert [one for one in wrong if "is on " not in one.what] == [], "a test's directory may well be in memory"
    assert list(found) == ["settings", "disk", "hub", "clock", "broker", "site", "capabilities", "code", "service"]
    assert found["broker"][0].what == f"{broker.url} (as the hub says) lets the account 'w1' in, at site-a"


# -- settings ----------------------------------------------------------------------------------------------------------


async def test_a_wrong_setting_is_all_that_is_said(patient: Patient) -> None:
    patient.set(slots="-3", buffer_mode="bold")
    found = await patient.look()
    assert list(found) == ["settings"]
    assert [one.what for one in found["settings"]] == [
        "WORKER_SLOTS is '-3': expected a whole number from 1",
        "WORKER_BUFFER_MODE is 'bold': expected 'durable' or 'gentle'",
    ]


async def test_a_misspelt_variable_is_found(patient: Patient) -> None:
    patient.set(capabilites="{}")
    found = await patient.trouble("settings")
    assert found.what == "WORKER_CAPABILITES is no setting; did you mean WORKER_CAPABILITIES?: it is not used"


async def test_credentials_of_another_site_are_found(patient: Patient) -> None:
    text = {"worker": "w1", "site": "site-b", "username": "w1", "password": "p", "broker_url": "mqtt://b"}
    folder = patient.folder / "offline"
    folder.mkdir()
    (folder / "credentials.json").write_text(json.dumps({**text, "root": "edge", "hub": "https://hub.example"}))
    found = await patient.trouble("settings")
    assert found.what.startswith("WORKER_SITE is 'site-a': expected 'site-b', of which ")
    patient.set(site="site-b")
    (folder / "credentials.json").chmod(0o644)
    found = await patient.trouble("settings")
    assert found.what.startswith("others may read the password: ")
    assert found.remedy == f"chmod 600 {folder}/credentials.json"


# -- the disk ----------------------------------------------------------------------------------------------------------


async def test_a_directory_that_cannot_be_made_is_found(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may everything
    found = await patient.trouble("disk")
    assert found.level is Level.BAD
    assert "is not there, and " in found.what
    assert found.remedy.startswith("as root: install -d -o ")


async def test_a_directory_that_cannot_be_written_is_found_with_whose_it_is(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    (patient.folder / "offline").mkdir(mode=0o700)
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = await patient.trouble("disk")
    assert "cannot be written by " in found.what
    assert found.what.endswith("mode 0700")
    assert "chown -R" in found.remedy


async def test_a_file_of_somebody_else_is_found(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = patient.folder / "offline"
    folder.mkdir()
    (folder / "journal.db-wal").touch()
    owner = folder.stat().st_uid
    real = type(folder).stat

    def stat(path: Path, **how: Any) -> os.stat_result:  # noqa: ANN401
        found = real(path, **how)
        return os.stat_result((*found[:4], owner + 1, *found[5:])) if path.name == "journal.db-wal" else found

    monkeypatch.setattr(type(folder), "stat", stat)
    (found,) = [one for one in await patient.troubles("disk") if "belongs to" in one.what]
    assert found.level is Level.BAD
    assert found.what.startswith(f"{folder}/journal.db-wal belongs to ")


@pytest.mark.parametrize(
    ("free", "level", "said"), [(1_000_000, Level.BAD, "the disk is full"), (40_000_000, Level.WARN, "only 40 MB")]
)
async def test_a_disk_without_room_is_found(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, free: int, level: Level, said: str
) -> None:
    (patient.folder / "offline").mkdir()
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    (found,) = [one for one in await patient.troubles("disk") if said in one.what]
    assert found.level is level


async def test_a_damaged_journal_is_found(patient: Patient) -> None:
    folder = patient.folder / "offline"
    folder.mkdir()
    with sqlite3.connect(folder / "journal.db") as connection:
        connection.execute("CREATE TABLE t (a TEXT)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 100)
    connection.close()
    text = bytearray((folder / "journal.db").read_bytes())
    text[5000:9000] = b"\xff" * 4000
    (folder / "journal.db").write_bytes(text)
    (found,) = [one for one in await patient.troubles("disk") if "damaged" in one.what]
    assert found.level is Level.BAD


async def test_what_another_worker_has_left_is_found(patient: Patient) -> None:
    directory = OfflineDir(patient.folder / "offline")
    directory.make()
    directory.belongs_to("site-b", "w9")
    (found,) = [one for one in await patient.troubles("disk") if "left by" in one.what]
    assert found.what.endswith("has what was left by w9 at site-b, and this is w1 at site-a")


# -- the hub and the clock ---------------------------------------------------------------------------------------------


async def test_nobody_there_and_no_such_host_are_told_apart(patient: Patient) -> None:
    found = await patient.trouble("hub")
    assert found.what == "http://127.0.0.1:1: connection refused: nothing listens at 127.0.0.1:1"
    patient.set(control_plane_url="http://no-such-host.invalid:8000")
    assert "'no-such-host.invalid'" in (await patient.trouble("hub")).what


@pytest.mark.parametrize(
    ("sent", "said", "remedy"),
    [
        (answer("200 OK", b"<!DOCTYPE html><html>Please log in"), "is no hub: status 200", "a page for people"),
        (answer("404 Not Found", b"no such thing"), "is no hub: status 404", "check WORKER_CONTROL_PLANE_URL"),
        (answer("200 OK", b'{"hello": "world"}'), "is no hub: status 200", "check WORKER_CONTROL_PLANE_URL"),
    ],
)
async def test_who_answers_and_is_no_hub_is_found(patient: Patient, sent: bytes, said: str, remedy: str) -> None:
    async with hub(patient, "mqtt://broker.example", api__bootstrap=sent):
        found = await patient.trouble("hub")
    assert said in found.what
    assert remedy in found.remedy


async def test_a_proxy_that_is_in_the_way_is_named(patient: Patient) -> None:
    page = answer("200 OK", b"<html>blocked</html>")
    async with serving({"http://hub.example:8000/api/bootstrap": page}) as proxy:
        patient.patch.setenv("http_proxy", proxy.url)
        patient.set(control_plane_url="http://hub.example:8000")
        found = await patient.trouble("hub")
    assert found.remedy.endswith("http_proxy is set: add the hub to no_proxy")


async def test_a_hub_by_https_of_an_unknown_authority_is_found(patient: Patient, broker: GuardedBroker) -> None:
    patient.set(control_plane_url=broker.tls["good"].replace("mqtts", "https"))
    found = await patient.trouble("hub")
    assert "is signed by nobody whom this system vouches for" in found.what
    assert found.remedy == "set WORKER_TLS_CA to the authority that signed it"


@pytest.mark.parametrize(
    ("seconds", "level", "said"),
    [
        (10, Level.WARN, "10 s behind the hub's"),
        (-10, Level.WARN, "10 s before the hub's"),
        (4000, Level.BAD, "behind the hub's: certificates may seem to have ended"),
    ],
)
async def test_a_clock_that_is_wrong_is_found(
    patient: Patient, broker: GuardedBroker, seconds: float, level: Level, said: str
) -> None:
    async with hub(patient, broker.url, seconds_ahead=seconds):
        found = await patient.trouble("clock")
    assert found.level is level
    assert said.replace("10 s", "") in found.what.replace("10 s", "").replace("9 s", "").replace("11 s", "")


async def test_a_site_that_looks_like_another_is_found(patient: Patient, broker: GuardedBroker) -> None:
    patient.set(site="plnt")
    async with hub(patient, broker.url):
        found = await patient.trouble("site")
    assert found.remedy == "if that is meant, set WORKER_SITE=plant"


# -- the broker --------------------------------------------------------------------------------------------------------


async def test_a_broker_that_refuses_the_account_is_found(patient: Patient, broker: GuardedBroker) -> None:
    patient.set(broker_url=broker.url, username="w1", password="wrong")  # noqa: S106  an example
    found = await patient.trouble("broker")
    assert found.level is Level.BAD
    assert found.what.endswith("the broker refuses the account 'w1' with the client id 'w1'")
    assert "WORKER_USERNAME" in found.remedy
    patient.set(username="mute", password=password_of("mute"))
    assert (await patient.trouble("broker")).what.endswith("refuses to take edge/v1/replies/doctor/w1: not authorized")


@pytest.mark.parametrize(("listener", "said"), [("ended", "has expired"), ("elsewhere", "is not for 'localhost'")])
async def test_a_broker_with_a_wrong_certificate_is_found(
    patient: Patient, broker: GuardedBroker, listener: str, said: str
) -> None:
    patient.set(broker_url=broker.tls[listener], tls_ca=broker.authority.path)
    assert said in (await patient.trouble("broker")).what
    gc.collect()  # the socket goes here, and not in a later test


async def test_a_broker_that_is_blocked_is_a_warning_where_the_hub_answers(patient: Patient) -> None:
    async with hub(patient, "mqtt://127.0.0.1:1"):
        found = await patient.trouble("broker")
    assert found.level is Level.WARN
    assert found.what.endswith("nothing listens at 127.0.0.1:1. The agent goes by HTTP meanwhile")


async def test_a_broker_of_which_nobody_knows_where_it_is(patient: Patient) -> None:
    found = await patient.trouble("broker")
    assert found.remedy == "see above, or set WORKER_BROKER_URL"


# -- a running agent ---------------------------------------------------------------------------------------------------


async def test_a_running_agent_is_taken_at_its_word_and_not_disturbed(patient: Patient, broker: GuardedBroker) -> None:
    patient.set(broker_url=broker.url, status_file=patient.folder / "status.json")
    directory = OfflineDir(patient.folder / "offline")
    directory.open()
    try:
        connections = sum("New connection" in line for line in broker.log)
        fares = Status(
            worker="w1",
            site="site-a",
            state=State.CONNECTING,
            transport="mqtt",
            hub="h",
            running=0,
            queued=0,
            journal_rows=0,
            reason="the broker refuses the account 'w1'",
            remedy="enrol again",
        )
        status_file.write(patient.folder / "status.json", asdict(fares))
        found = await patient.trouble("broker")
        assert found.what.endswith("is not connected with " + broker.url + ": the broker refuses the account 'w1'")
        assert found.remedy == "enrol again"
        assert sum("New connection" in line for line in broker.log) == connections
        assert f"used by process {os.getpid()}" in patient.found["disk"][0].what
    finally:
        directory.close()


async def test_where_a_running_agent_tells_nothing_only_the_way_is_tried(
    patient: Patient, broker: GuardedBroker
) -> None:
    patient.set(broker_url=broker.url, username="w1", password=password_of("w1"))
    directory = OfflineDir(patient.folder / "offline")
    directory.open()
    try:
        found = await patient.trouble("broker")
    finally:
        directory.close()
    assert found.remedy.startswith("set WORKER_STATUS_FILE")
    assert not any("as w1 (" in line for line in broker.log[-2:])


# -- capabilities and code ---------------------------------------------------------------------------------------------


async def test_a_capability_in_quotes_is_found(patient: Patient) -> None:
    patient.set(capabilities='{"docker": "true", "memory_mb": "512", "gpu": "yes", "model": "pi-4"}')
    found = await patient.troubles("capabilities")
    assert [(one.level, one.remedy) for one in found] == [
        (Level.BAD, 'write it without quotes: {"docker": true}'),
        (Level.WARN, 'write it without quotes: {"memory_mb": 512}'),
        (Level.WARN, 'write it without quotes: {"gpu": true}'),
    ]


async def test_no_engine_and_no_permission_are_told_apart(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    path = patient.folder / "docker.sock"
    patient.set(capabilities='{"docker": true}', docker_url=f"unix://{path}")
    found = await patient.trouble("capabilities")
    assert found.remedy.startswith("start it (systemctl start docker)")
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(path))
    assert (await patient.trouble("capabilities")).remedy == "start it: systemctl start docker"
    monkeypatch.setattr(os, "access", lambda *_: False)
    group = grp.getgrgid(path.stat().st_gid).gr_name
    found = await patient.trouble("capabilities")
    assert f"is for the group {group}: usermod -aG {group} " in found.remedy
    assert "group_add" in found.remedy


async def test_an_engine_that_answers_is_no_trouble_but_may_run_nothing(patient: Patient, engine: Any) -> None:  # noqa: ANN401
    patient.set(capabilities='{"docker": true}', docker_url=engine.url)
    assert "WORKER_ALLOW_IMAGES" in (await patient.trouble("capabilities")).remedy
    patient.set(allow_images='["busybox:*"]')
    assert await patient.troubles("capabilities") == []


async def test_plugins_schedules_and_users_that_cannot_be_used_are_found(patient: Patient) -> None:
    patient.set(plugins="no_such_module")
    assert "no_such_module" in (await patient.trouble("code")).what
    patient.set(plugins="", allow_commands='["uptime"]', command_user="nobody-of-this-name")
    assert (await patient.trouble("code")).what.startswith('WORKER_COMMAND_USER is "nobody-of-this-name"')
    schedule = patient.folder / "schedule.toml"
    schedule.write_text("[[job]]\nname = 'a'\ncron = 'never'\n")
    patient.set(allow_commands="[]", schedule=schedule)
    assert all(one.remedy == f"correct it in {schedule}" for one in await patient.troubles("code"))


async def test_a_handler_that_needs_what_the_worker_has_not_is_found(patient: Patient) -> None:
    (patient.folder / "site_tasks_of_this_test.py").write_text(
        "from edge_agent import Agent\nagent = Agent()\n"
        "@agent.task('camera.look', requires={'camera': True})\n"
        "def look(ctx) -> None: ...\n"
        "@agent.task('lamp.on')\n"
        "def on(ctx) -> None: ...\n"
    )
    patient.patch.chdir(patient.folder)
    patient.patch.syspath_prepend(str(patient.folder))
    patient.set(plugins="site_tasks_of_this_test")
    found = await patient.trouble("code")
    assert found.what == "camera.look is not offered: camera is missing, expected true"
    assert patient.found["code"][0].what == "1 handlers: lamp.on"


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
async def test_the_command_ends_with_1_and_json_can_be_read() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge_agent", "doctor", "--json"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ},
    )
    out, _ = await process.communicate()
    told = json.loads(out)
    assert process.returncode == 1
    assert told["well"] is False
    assert {"area", "level", "what", "remedy"} == set(told["findings"][0])
