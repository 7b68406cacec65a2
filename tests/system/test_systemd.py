"""Agent, hub and broker as services of a real systemd, installed by deploy/install.sh as a person does.

One machine is the host of all three, from the first test to the last: it is installed, loses its power, is upgraded and
emptied. So these tests are in order, and a `pytest -k` for one of them installs first.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest

from tests.support.guide import section
from tests.support.machine import Machine, running_machine
from tests.support.wheelhouse import SOURCES, make_other_version, make_wheels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import TestEngine

pytestmark = [pytest.mark.systemd, pytest.mark.slow, pytest.mark.timeout(300)]

INSTALL = "/src/deploy/install.sh"
AGENT, HUB = "edge-agent.service", "edge-hub.service"
EVERYTHING = 1000
KILLS = 8
"""More than systemd lets a service fail in 10 s, by default: 5."""

STUCK_PLUGIN = """
import time
from edge_agent import Agent, TaskContext

agent = Agent()

@agent.task("hang")
async def hang(ctx: TaskContext) -> None:
    time.sleep(3600)
"""


@pytest.fixture(scope="module")
def machine(lasting_engine: TestEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Yield a host with broker, hub and an agent on it."""
    folder = tmp_path_factory.mktemp("wheels")
    first = make_wheels(folder / "first")
    broken = {"edge_agent/app.py": "def _broken(self): raise OSError('broken')\nApp.open = _broken"}
    wheels = {
        "/wheels/first": first,
        "/wheels/second": make_other_version(first, folder / "second", "0.1.1"),
        "/wheels/broken": make_other_version(first, folder / "broken", "0.1.2", edit=broken),
    }
    with running_machine(lasting_engine, "site-a-01", wheels) as machine:
        with section("docs/deployment.md", "Where everybody is trusted") as steps:
            for step in steps:
                machine.type(step.text, wheels="/wheels/first")
        is_online(machine)
        yield machine


def is_online(machine: Machine) -> None:
    machine.until('curl -s http://localhost:8000/api/workers | grep -q \'"state":"online"\'')


def is_active(machine: Machine, unit: str) -> None:
    machine.until(f"systemctl --quiet is-active {unit}")


def restarted(machine: Machine, unit: str, pid: str) -> str:
    """Return the process id of the next start, once it is ready."""
    machine.until(f'p=$(systemctl show --value -p MainPID {unit}) && [ "$p" != 0 ] && [ "$p" != {pid} ]')
    is_active(machine, unit)
    return machine.show(unit, "MainPID")


def test_the_units_are_right_and_give_away_little(machine: Machine) -> None:
    assert machine.run(f"systemd-analyze verify {AGENT} {HUB}").strip() == ""
    for unit, most in ((HUB, 2.0), (AGENT, 2.0)):
        told = machine.run(f"systemd-analyze security --no-pager {unit}")
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", told)
        assert found
        assert float(found[1]) <= most, told


def test_the_units_watch_and_never_give_up(machine: Machine) -> None:
    for unit, watchdog in ((AGENT, "1min"), (HUB, "30s")):
        told = {
            name: machine.show(unit, name) for name in ("Type", "WatchdogUSec", "Restart", "StartLimitIntervalUSec")
        }
        assert told == {"Type": "notify", "WatchdogUSec": watchdog, "Restart": "always", "StartLimitIntervalUSec": "0"}


def test_systemctl_status_says_how_it_fares(machine: Machine) -> None:
    assert machine.show(HUB, "StatusText") == "serving http://0.0.0.0:8000"
    machine.until(f"systemctl show --value -p StatusText {AGENT} | grep -q 'online by mqtt: .* at home-lab, 0 running'")


def test_each_program_is_a_user_of_its_own_and_shares_nothing(machine: Machine) -> None:
    for unit, user in ((AGENT, "holdfast-agent"), (HUB, "holdfast-hub")):
        assert machine.run(f"stat -c %U /proc/{machine.show(unit, 'MainPID')}").strip() == user
    for folder in ("agent", "hub"):
        assert machine.run(f"stat -c '%U %a' /var/lib/holdfast/{folder}").split() == [f"holdfast-{folder}", "700"]


def test_a_secret_is_the_services_and_nobody_elses(machine: Machine) -> None:
    machine.run("umask 077 && echo s3cret >/etc/holdfast/agent.secrets/password && systemctl restart edge-agent")
    given = "/run/credentials/edge-agent.service/agent_password"

    def read_as(user: str, path: str) -> int:
        return machine.try_run(f"setpriv --reuid {user} --regid {user} --clear-groups cat {path}").code

    assert read_as("holdfast-agent", given) == 0
    for user in ("holdfast-hub", "nobody", "mosquitto"):
        group = "nogroup" if user == "nobody" else user
        assert machine.try_run(f"setpriv --reuid {user} --regid {group} --clear-groups cat {given}").code != 0
    assert read_as("holdfast-agent", "/etc/holdfast/agent.secrets/password") != 0
    assert read_as("holdfast-agent", "/var/lib/holdfast/hub/hub.db") != 0
    machine.run("rm /etc/holdfast/agent.secrets/password")


def test_what_crashes_again_and_again_is_started_each_time_and_loses_nothing(machine: Machine) -> None:
    machine.set(AGENT, RestartSec="100ms")
    machine.set(HUB, RestartSec="100ms")
    for unit in (AGENT, HUB):
        pid = machine.show(unit, "MainPID")
        for number in range(KILLS):
            machine.run(f"""echo '{{"id": "{unit}-{number}", "kind": "noop"}}' | mosquitto_pub -l -q 1 \
                -t edge/v1/sites/home-lab/tasks && kill -KILL {pid}""")
            pid = restarted(machine, unit, pid)
    machine.unset(AGENT)
    machine.unset(HUB)
    machine.until("curl -sf http://localhost:8000/health")
    for unit in (AGENT, HUB):
        for number in range(KILLS):
            machine.until(f"curl -sf http://localhost:8000/api/tasks/{unit}-{number} >/dev/null")
            assert machine.ended(f"{unit}-{number}")["state"] == "succeeded"


def test_an_agent_whose_event_loop_hangs_is_killed_and_started_and_tells_where_it_hung(machine: Machine) -> None:
    machine.run(f"cat >/opt/holdfast/site/site_that_hangs.py <<'END'\n{STUCK_PLUGIN}\nEND\n")
    machine.set(AGENT, WatchdogSec="3s", Environment="WORKER_PLUGINS=site_that_hangs")
    machine.run(f"systemctl restart {AGENT}")
    is_online(machine)
    pid = machine.show(AGENT, "MainPID")
    machine.submit({"id": "hang", "kind": "hang", "idempotent": False, "site": "home-lab"})
    restarted(machine, AGENT, pid)
    log = machine.journal(AGENT)
    assert "Watchdog timeout" in log
    assert "site_that_hangs.py" in log
    machine.unset(AGENT)
    machine.run(f"rm -r /opt/holdfast/site/*; systemctl restart {AGENT}")
    is_online(machine)


def test_a_hub_that_stands_still_is_killed_and_started(machine: Machine) -> None:
    machine.set(HUB, WatchdogSec="3s", TimeoutAbortSec="1s")
    machine.run(f"systemctl restart {HUB}")
    pid = machine.show(HUB, "MainPID")
    machine.run(f"kill -STOP {pid}")
    restarted(machine, HUB, pid)
    assert "Watchdog timeout" in machine.journal(HUB)
    machine.unset(HUB)
    machine.run(f"systemctl restart {HUB}")
    is_online(machine)


def test_a_program_that_is_well_is_left_alone_by_the_watchdog(machine: Machine) -> None:
    for unit in (AGENT, HUB):
        machine.set(unit, WatchdogSec="3s")
        machine.run(f"systemctl restart {unit}")
    pids = [machine.show(unit, "MainPID") for unit in (AGENT, HUB)]
    machine.submit({"id": "well", "kind": "sleep", "params": {"seconds": 7}, "site": "home-lab"})
    assert machine.ended("well")["state"] == "succeeded"
    assert [machine.show(unit, "MainPID") for unit in (AGENT, HUB)] == pids
    for unit in (AGENT, HUB):
        machine.unset(unit)


def test_a_stop_lets_tasks_end_also_when_they_need_longer_than_the_units_limit(machine: Machine) -> None:
    machine.set(AGENT, TimeoutStopSec="2s", WatchdogSec="3s")
    machine.run(f"systemctl restart {AGENT}")
    is_online(machine)
    machine.submit({"id": "drains", "kind": "sleep", "params": {"seconds": 6}, "site": "home-lab"})
    machine.until('curl -s http://localhost:8000/api/tasks/drains | grep -q \'"state":"running"\'')
    machine.run(f"systemctl stop {AGENT}")
    assert machine.show(AGENT, "Result") == "success"
    task = machine.ask("/api/tasks/drains")
    assert task["state"] == "succeeded"
    assert [attempt["state"] for attempt in task["attempts"]] == ["succeeded"]
    machine.unset(AGENT)
    machine.run(f"systemctl start {AGENT}")
    is_online(machine)


def test_all_of_it_comes_up_by_itself_after_a_power_cut(machine: Machine) -> None:
    machine.submit({"id": "before", "kind": "noop", "site": "home-lab"})
    machine.cut_power()
    machine.boot()
    for unit in (HUB, AGENT, "mosquitto.service"):
        is_active(machine, unit)
    is_online(machine)
    machine.submit({"id": "after", "kind": "noop", "site": "home-lab"})
    assert [machine.ended(task)["state"] for task in ("before", "after")] == ["succeeded", "succeeded"]


def test_the_guides_backup_is_made_by_a_timer_and_brings_the_hub_back(machine: Machine) -> None:
    with section("docs/deployment.md", "Backup of a service") as steps:
        for words in ("install -d", "edge-hub backup"):
            machine.run(steps.take(words).text)
        for name, text in steps.files.items():
            machine.run(f"cat >/etc/systemd/system/{name} <<'END'\n{text}END\n")
        for words in ("daemon-reload", "enable --now", "start holdfast-backup"):
            machine.run(steps.take(words).text)
        assert "holdfast-backup.timer" in machine.run(steps.take("list-timers").text)
        made = machine.run("stat -c '%U %a' /var/backups/holdfast/*").splitlines()
        assert made == ["holdfast-hub 600"] * 2
        machine.submit({"id": "since-the-backup", "kind": "noop", "site": "home-lab"})
        assert machine.ended("since-the-backup")["state"] == "succeeded"
        for words in ("stop edge-hub", "edge-hub restore", "start edge-hub"):
            machine.run(steps.take(words).text)
        machine.until("""curl -sf http://localhost:8000/health | grep -q '"status":"ok"'""")
        is_online(machine)
        assert machine.run(steps.take("edge-hub doctor").text).endswith(" ok.\n")
    assert machine.try_run("curl -sf http://localhost:8000/api/tasks/since-the-backup").code != 0
    machine.until("curl -sf http://localhost:8000/api/gaps | grep -q 'has lost what its worker told of it'")
    machine.submit({"id": "after-the-restore", "kind": "noop", "site": "home-lab"})
    assert machine.ended("after-the-restore")["state"] == "succeeded"


def test_an_upgrade_loses_nothing_of_what_waits(machine: Machine) -> None:
    machine.run(f"systemctl stop {HUB}")
    machine.run(
        f"""seq {EVERYTHING} | sed 's/.*/{{"id": "waits-&", "kind": "noop"}}/' \
        | mosquitto_pub -l -q 1 -t edge/v1/sites/home-lab/tasks"""
    )
    count = "edge-agent buffer export --config /etc/holdfast/agent.toml | grep -c '\"task.finished\"'"
    machine.until(f'[ "$({count})" -ge {EVERYTHING} ]')
    machine.run(f"{INSTALL} agent --wheels /wheels/second")
    assert machine.run("edge-agent --version").split() == ["edge-agent", "0.1.1"]
    machine.run(f"systemctl start {HUB}")
    for number in (1, EVERYTHING):
        machine.until(f"curl -sf http://localhost:8000/api/tasks/waits-{number} >/dev/null")
    is_online(machine)
    for number in range(1, EVERYTHING + 1):
        if number % 100 == 0:
            assert machine.ended(f"waits-{number}")["state"] == "succeeded"
    found = ended_tasks(machine, "waits-")
    assert len(found) == EVERYTHING
    assert set(found.values()) == {"succeeded"}


def ended_tasks(machine: Machine, prefix: str) -> dict[str, str]:
    """Return the state of each task whose id begins so."""
    states: dict[str, str] = {}
    cursor: str | None = ""
    while cursor is not None:
        page = machine.ask(f"/api/tasks?limit=500{f'&cursor={cursor}' if cursor else ''}")
        states |= {task["id"]: task["state"] for task in page["items"] if task["id"].startswith(prefix)}
        cursor = page["next"]
    return states


def test_an_upgrade_that_does_not_become_ready_goes_back(machine: Machine) -> None:
    before = machine.run("readlink /opt/holdfast/agent")
    answer = machine.try_run(f"{INSTALL} agent --wheels /wheels/broken")
    assert answer.code == 1
    assert "Going back" in answer.text
    assert "broken" in answer.text
    assert machine.run("readlink /opt/holdfast/agent") == before
    assert machine.run("ls -d /opt/holdfast/agent-0.1.2* 2>/dev/null || true") == ""
    is_active(machine, AGENT)
    is_online(machine)
    assert machine.show(AGENT, "Restart") == "always"
    machine.submit({"id": "goes-on", "kind": "noop", "site": "home-lab"})
    assert machine.ended("goes-on")["state"] == "succeeded"


def test_a_command_has_the_rights_of_nobody_in_particular_and_ends_with_its_agent(machine: Machine) -> None:
    allowed = """WORKER_ALLOW_COMMANDS='["sh -c **", "sleep *"]'"""
    machine.run(f"echo {shlex.quote(allowed)} >>/etc/holdfast/agent.env; systemctl restart {AGENT}")
    is_online(machine)
    script = "id -un; touch /usr/x || cat /var/lib/holdfast/hub/hub.db || exit 3"
    machine.submit({"id": "walls", "kind": "command", "site": "home-lab", "params": {"argv": ["sh", "-c", script]}})
    result = machine.ended("walls")["result"]
    assert result["exit_code"] == 3
    assert result["output"].startswith("holdfast-agent\n")
    left = {"id": "left", "kind": "command", "site": "home-lab", "params": {"argv": ["sleep", "98765"]}}
    machine.submit({**left, "idempotent": False})
    machine.until("pgrep --exact --full 'sleep 98765'")
    pid = machine.show(AGENT, "MainPID")
    machine.run(f"kill -KILL {pid}")
    restarted(machine, AGENT, pid)
    assert machine.try_run("pgrep --exact --full 'sleep 98765'").code == 1
    assert machine.ended("left")["attempts"][0]["state"] == "interrupted"


def test_wheels_for_a_host_without_internet_are_collected_as_the_guide_says(machine: Machine) -> None:
    """On a host of the same kind; where the wheels come from is a folder here too, in the place of the internet."""
    machine.run(f"mkdir /tmp/collect && cd /src && cp -R {' '.join(SOURCES)} constraints.txt /tmp/collect")
    offline = "PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels/first"
    with section("docs/deployment.md", "A host without internet") as steps:
        for step in steps:
            machine.run(f"cd /tmp/collect && PATH=/opt/holdfast/hub/bin:$PATH {offline} {step.text}")
    collected = {wheel.split("-")[0] for wheel in machine.run("ls /tmp/collect/wheels").split()}
    assert {"holdfast", "aiomqtt", "sqlite_utils", "sqlalchemy", "cryptography"} <= collected


def test_install_again_changes_nothing_and_disturbs_nobody(machine: Machine) -> None:
    pids = [machine.show(unit, "MainPID") for unit in (AGENT, HUB)]
    assert "already" in machine.run(f"{INSTALL} agent --wheels /wheels/second")
    assert "already" in machine.run(f"{INSTALL} hub --wheels /wheels/first")
    assert [machine.show(unit, "MainPID") for unit in (AGENT, HUB)] == pids


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("agent --sight a", "'--sight': there is no such option"),
        ("agent --site", "--site has no value"),
        ("agent --purge", "--purge goes with --remove"),
        ("", "expected agent, hub or broker"),
        ("agent --site 'a b'", "--site is 'a b'"),
        ("agent --wheels /nowhere", "--wheels is '/nowhere'"),
    ],
)
def test_a_wrong_word_is_told_before_anything_is_done(machine: Machine, words: str, said: str) -> None:
    answer = machine.try_run(f"{INSTALL} {words}")
    assert answer.code != 0
    assert said in answer.text


def test_what_is_removed_leaves_nothing_running_and_keeps_what_is_the_operators(machine: Machine) -> None:
    machine.run(f"{INSTALL} agent --remove")
    assert machine.try_run("pgrep -u holdfast-agent").code == 1
    assert machine.show(AGENT, "LoadState") == "not-found"
    assert machine.run("ls /opt/holdfast").split()[0].startswith("hub")
    machine.run("test -s /var/lib/holdfast/agent/journal.db && test -s /etc/holdfast/agent.toml")
    machine.run(f"{INSTALL} agent --wheels /wheels/second")  # and it takes up what was kept
    is_online(machine)


def test_what_is_purged_is_gone(machine: Machine) -> None:
    for role in ("agent", "hub", "broker"):
        machine.run(f"{INSTALL} {role} --remove --purge")
    assert machine.try_run("pgrep -u holdfast-agent,holdfast-hub,mosquitto").code != 0
    ours = "/etc/holdfast /opt/holdfast /var/lib/holdfast /usr/local/bin/edge-*"
    assert machine.try_run(f"ls -d {ours} 2>/dev/null").text == ""
    assert machine.run("find /run/systemd /etc/systemd -name '*edge-*'") == ""
    assert machine.try_run("getent passwd holdfast-agent holdfast-hub").text == ""


def test_each_command_of_the_guide_does_what_it_says(machine: Machine) -> None:
    """With accounts and TLS, on the host that the test before has emptied."""
    machine.run("groupadd --force docker")

    def typed(text: str) -> str:
        return machine.type(text, wheels="/wheels/first")

    with section(
        "docs/deployment.md", "As a service", but=("Where everybody is trusted", "A host without internet")
    ) as steps:
        typed(steps.take("install.sh hub --with-broker").text)
        key = typed(steps.take("tokens create").text + " 2>/dev/null").strip()
        token = typed(steps.take("workers enrol").text + " 2>/dev/null").strip()
        told = typed(steps.take("install.sh agent --site").text.replace("hfe_...", token))
        assert "is enrolled with https://hub.example:8000" in told
        machine.until("edge-agent status --config /etc/holdfast/agent.toml | grep -q ': online'")
        assert "site-a" in typed(steps.take("edge-agent status").text)
        typed(steps.take("edge-agent doctor").text)  # which ends with 1 if anything is bad
        assert "online" in typed(steps.take("journalctl").text)
        typed(steps.take("--docker").text)
        assert machine.run("getent group docker | cut -d: -f3").strip() in groups(machine)
        typed(steps.take("systemctl stop").text)
        typed(steps.take("install.sh agent").text)
        is_active(machine, AGENT)
        for words in ("executors.conf", "daemon-reload", "systemctl restart"):
            typed(steps.take(words).text)
        assert as_another_user(machine, key) == "nobody\n"
        typed(steps.take("agent --remove").text)
        typed(steps.take("--purge").text)
    assert machine.show(AGENT, "LoadState") == "not-found"


def groups(machine: Machine) -> list[str]:
    return machine.run(f"grep Groups: /proc/{machine.show(AGENT, 'MainPID')}/status").split()


def as_another_user(machine: Machine, key: str) -> str:
    """Return who a command says that it runs as, where the agent may run it as somebody else."""
    for setting in ("WORKER_COMMAND_USER=nobody", "WORKER_ALLOW_COMMANDS='[\"id -un\"]'"):
        machine.run(f"echo {shlex.quote(setting)} >>/etc/holdfast/agent.env")
    machine.run(f"systemctl restart {AGENT}")
    machine.until("edge-agent status --config /etc/holdfast/agent.toml | grep -q ': online'")
    task = {"id": "who", "kind": "command", "site": "site-a", "params": {"argv": ["id", "-un"]}}
    machine.submit(task, token=key)
    output: str = machine.ended("who", token=key)["result"]["output"]
    return output
