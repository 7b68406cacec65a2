"""Containers on a real Docker Engine: what they get, how they end, and what is left of them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from broker.messages import Assignment, Outcome, Scalar, TaskProgress
from tests.support.engine import IMAGE
from tests.support.needs import missing
from tests.support.registry import running_registry

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from broker.messages import TaskDeclined, TaskFinished
    from edge_agent.app import App
    from tests.integration.edge_agent.stage import Stage
    from tests.support.engine import TestEngine

pytestmark = pytest.mark.docker

DOCKER: dict[str, Scalar] = {"docker": True}
FLOOD_MB = 1024


def agent(stage: Stage, engine: TestEngine, **more: Any) -> AbstractAsyncContextManager[App]:  # noqa: ANN401  any setting
    settings = {"docker_url": engine.url, "capabilities": DOCKER, "allow_images": ("holdfast-test-busybox:*",), **more}
    return stage.synced(**settings)


async def assign(stage: Stage, task: str, params: dict[str, Any], **more: Any) -> None:  # noqa: ANN401  any field
    one = Assignment(id=task, kind="container", params={"image": IMAGE, **params}, attempt=1, **more)
    await stage.hub.inject_to(f"{stage.site}-w", one)


async def ended(stage: Stage, task: str, params: dict[str, Any], **more: Any) -> TaskFinished:  # noqa: ANN401  any field
    await assign(stage, task, params, **more)
    return await stage.hub.ended(task)


async def patiently(stage: Stage, task: str) -> TaskFinished:
    """Wait for an end longer than is usual."""
    async with asyncio.timeout(150):
        while True:
            with contextlib.suppress(TimeoutError):
                return await stage.hub.ended(task)


async def declined(stage: Stage, task: str, params: dict[str, Any]) -> str:
    await assign(stage, task, params)

    def look() -> TaskDeclined | None:
        return stage.hub.declined().get(task)

    found = await stage.hub.until(look)
    assert found
    return found.reason


def sh(script: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401  any param
    return {"command": ["sh", "-c", script], **more}


def output(end: TaskFinished) -> str:
    assert isinstance(end.result, dict)
    text = end.result["output"]
    assert isinstance(text, str)
    return text


async def is_clean(engine: TestEngine) -> None:
    """Wait until nothing of ours is left: it goes after the end was committed."""
    await engine.until(lambda: not engine.containers())


async def test_a_container_runs_to_its_end_and_its_result_is_told(stage: Stage, engine: TestEngine) -> None:
    async with agent(stage, engine):
        end = await ended(stage, "hello", sh('echo "hi $NAME"; echo oops >&2; exit 3', env={"NAME": "there"}))
        assert (end.outcome, end.error) == (Outcome.FAILED, "exit code 3")
        assert isinstance(end.result, dict)
        assert sorted(output(end).splitlines()) == ["hi there", "oops"]
        assert (end.result["exit_code"], end.result["truncated"]) == (3, False)

        end = await ended(
            stage, "well", {"entrypoint": ["echo"], "command": ["well"], "user": "1000", "workdir": "/bin"}
        )
        assert end.outcome is Outcome.SUCCEEDED
        assert end.result == {"exit_code": 0, "output": "well\n", "truncated": False}
        await is_clean(engine)


async def test_a_container_gets_no_more_than_it_may_have(stage: Stage, engine: TestEngine) -> None:
    async with agent(stage, engine):
        seen = output(
            await ended(
                stage,
                "bounds",
                sh("ls /sys/class/net; grep -E 'CapEff|NoNewPrivs' /proc/self/status || cat /proc/self/status"),
            )
        )
        assert "eth0" not in seen
        status = dict(line.split(":", 1) for line in seen.splitlines() if ":" in line)
        assert status["NoNewPrivs"].strip() == "1"
        capabilities = int(status["CapEff"].strip(), 16)
        for number in (13, 27, 29):  # NET_RAW, MKNOD, AUDIT_WRITE: linux/capability.h
            assert not capabilities >> number & 1
        assert capabilities & 1  # CHOWN

        end = await ended(stage, "shut", sh("touch /x", read_only=True))
        assert end.outcome is Outcome.FAILED
        assert "Read-only file system" in output(end)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"image": "evil.example/holdfast-test-busybox:1"}, "WORKER_ALLOW_IMAGES does not allow 'evil.example/"),
        ({"image": "busybox"}, "WORKER_ALLOW_IMAGES does not allow 'docker.io/library/busybox:latest'"),
        ({"privileged": True}, "this worker has not the capability 'privileged'"),
        ({"network": True}, "this worker has not the capability 'network_access'"),
        ({"mounts": [{"source": "/etc", "target": "/x"}]}, "WORKER_ALLOW_MOUNTS does not allow '/etc'"),
        ({"mounts": [{"volume": "others", "target": "/x"}]}, "WORKER_ALLOW_MOUNTS does not allow the volume 'others'"),
        ({"devices": ["/dev/kmsg"]}, "WORKER_ALLOW_DEVICES does not allow '/dev/kmsg'"),
    ],
)
async def test_what_is_not_allowed_is_declined_with_the_reason(
    stage: Stage, engine: TestEngine, params: dict[str, Any], reason: str
) -> None:
    async with agent(stage, engine):
        assert reason in await declined(stage, "no", params)
        assert engine.containers() == []
        assert (await ended(stage, "yes", {"command": ["true"]})).outcome is Outcome.SUCCEEDED


async def test_dots_in_a_path_are_wrong_and_a_link_out_of_what_is_allowed_is_declined(
    stage: Stage, engine: TestEngine, tmp_path: Path
) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "note").write_text("here\n")
    (allowed / "out").symlink_to("/etc")
    (allowed / "engine").symlink_to(engine.folder)
    places = (f"{allowed}", f"{engine.folder}")
    async with agent(stage, engine, allow_mounts=places):
        end = await ended(stage, "dots", {"mounts": [{"source": f"{allowed}/../../etc", "target": "/x"}]})
        assert end.outcome is Outcome.FAILED
        assert end.error is not None
        assert end.error.startswith("params.mounts[0].source is ")
        assert end.error.endswith("expected an absolute path below '/', without '..'")

        reason = await declined(stage, "link", {"mounts": [{"source": f"{allowed}/out", "target": "/x"}]})
        assert reason == f"WORKER_ALLOW_MOUNTS does not allow '{allowed}/out', which leads to '/etc'"
        reason = await declined(stage, "socket", {"mounts": [{"source": f"{allowed}/engine", "target": "/x"}]})
        assert "holds the engine's socket, which is never mounted" in reason

        mounts = [{"source": str(allowed), "target": "/data"}]
        end = await ended(stage, "mounted", sh("cat /data/note; echo there > /data/answer", mounts=mounts))
        assert output(end) == "here\n"
        assert (allowed / "answer").read_text() == "there\n"


async def test_a_volume_keeps_what_was_written_and_a_place_that_may_be_read_only_is(
    stage: Stage, engine: TestEngine
) -> None:
    volume = {"volume": f"cache-{stage.site}", "target": "/cache"}
    async with agent(stage, engine, allow_mounts=("cache-*", "/usr:ro")):
        assert (await ended(stage, "write", sh("echo kept > /cache/x", mounts=[volume]))).outcome is Outcome.SUCCEEDED
        assert output(await ended(stage, "read", sh("cat /cache/x", mounts=[volume]))) == "kept\n"
        assert "with read_only only" in await declined(stage, "rw", {"mounts": [{"source": "/usr", "target": "/x"}]})
        read_only = [{"source": "/usr", "target": "/x", "read_only": True}]
        end = await ended(stage, "ro", sh("ls /x; touch /x/y", mounts=read_only))
        assert "Read-only file system" in output(end)
        await is_clean(engine)
    with contextlib.closing(engine.api()) as api:
        api.remove_volume(volume["volume"])


async def test_a_device_and_privileges_where_worker_and_task_both_say_so(stage: Stage, engine: TestEngine) -> None:
    capabilities = {**DOCKER, "privileged": True}
    async with agent(stage, engine, capabilities=capabilities, allow_devices=("/dev/kms*",)):
        end = await ended(stage, "device", sh("ls -l /dev/kmsg", devices=["/dev/kmsg"]))
        assert end.outcome is Outcome.SUCCEEDED
        assert (await ended(stage, "plain", sh("mount -t tmpfs x /tmp"))).outcome is Outcome.FAILED
        end = await ended(stage, "all", sh("mount -t tmpfs x /tmp", privileged=True))
        # Where the test's own root has not all privileges, the engine cannot give them.
        assert end.outcome is Outcome.SUCCEEDED or "unable to apply caps" in (end.error or "")


async def test_too_much_memory_is_told_apart_from_a_failure(stage: Stage, engine: TestEngine) -> None:
    async with agent(stage, engine):
        end = await ended(stage, "big", sh("dd if=/dev/zero of=/dev/null bs=64M count=1", memory_mb=16))
        assert (end.outcome, end.error) == (Outcome.FAILED, "out of memory: limit 16 MB")
        assert (await ended(stage, "next", {"command": ["true"]})).outcome is Outcome.SUCCEEDED


async def test_a_fork_bomb_meets_its_limit_and_its_time(stage: Stage, engine: TestEngine) -> None:
    async with agent(stage, engine, slots=1):
        bomb = sh("f() { f | f & }; f; while true; do sleep 1; done", pids=64, stop_seconds=1)
        end = await ended(stage, "bomb", bomb, timeout_seconds=3.0)
        assert (end.outcome, end.error) == (Outcome.TIMED_OUT, "not done within 3 s")
        assert (await ended(stage, "next", {"command": ["true"]})).outcome is Outcome.SUCCEEDED
        await is_clean(engine)


async def test_who_ignores_term_is_killed_and_what_it_has_started_as_well(stage: Stage, engine: TestEngine) -> None:
    async with agent(stage, engine, slots=1):
        deaf = sh("trap '' TERM; echo deaf; sleep 600 & while true; do sleep 1; done", stop_seconds=1)
        end = await ended(stage, "deaf", deaf, timeout_seconds=2.0)
        assert end.outcome is Outcome.TIMED_OUT
        assert end.result == {"exit_code": None, "output": "deaf\n", "truncated": False}
        await is_clean(engine)
        assert (await ended(stage, "next", {"command": ["true"]})).outcome is Outcome.SUCCEEDED


async def test_a_cancelled_container_is_stopped(stage: Stage, engine: TestEngine) -> None:
    async with agent(stage, engine) as app:
        await assign(stage, "long", sh("trap 'echo bye; exit 0' TERM; while true; do sleep 0.1; done"))
        await engine.until(engine.running)
        app.runner.cancel(app.runner.held[0], "enough")
        end = await stage.hub.ended("long")
        assert (end.outcome, end.error) == (Outcome.CANCELLED, "enough")
        await is_clean(engine)


async def test_one_that_somebody_else_stops_was_interrupted(stage: Stage, engine: TestEngine) -> None:
    async with agent(stage, engine):
        await assign(stage, "long", sh("trap 'exit 0' TERM; echo on; while true; do sleep 0.1; done"))
        await engine.until(engine.running)
        with contextlib.closing(engine.api()) as api:
            api.stop(engine.running()[0])
        end = await stage.hub.ended("long")
        assert (end.outcome, end.error) == (
            Outcome.INTERRUPTED,
            "the container was stopped by the engine or by somebody else",
        )


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_flood_of_output_costs_the_agent_no_memory(stage: Stage, engine: TestEngine, tmp_path: Path) -> None:
    async with agent(stage, engine, slots=1, log_max_mb=8):
        await ended(stage, "warm", {"command": ["true"]})
        before = psutil.Process().memory_info().rss
        flood = f"dd if=/dev/zero bs=1M count={FLOOD_MB} 2>/dev/null; echo the end"
        await assign(stage, "flood", sh(flood))
        end = await patiently(stage, "flood")
        assert end.outcome is Outcome.SUCCEEDED
        assert output(end).endswith("the end\n")
        assert isinstance(end.result, dict)
        assert end.result["truncated"] is True
        assert psutil.Process().memory_info().rss - before < 40e6
        kept = sum(file.stat().st_size for file in (tmp_path / "w" / "logs").rglob("*.log"))
        assert kept < 9e6
        assert (await ended(stage, "next", {"command": ["true"]})).outcome is Outcome.SUCCEEDED


async def test_what_cannot_be_started_says_why_and_leaves_nothing(stage: Stage, engine: TestEngine) -> None:
    async with agent(stage, engine, allow_images=("holdfast-test-busybox:*", "nowhere:*")):
        end = await ended(stage, "command", {"command": ["no-such-program"]})
        assert (end.outcome, end.error) == (Outcome.FAILED, "exit code 127")
        assert "no-such-program" in output(end)  # as the init in the container says

        end = await ended(stage, "bare", {"command": ["no-such-program"], "init": False})
        assert end.outcome is Outcome.FAILED
        assert end.error is not None
        assert end.error.startswith("the container cannot be started: ")
        assert "no-such-program" in end.error

        end = await ended(stage, "image", {"image": "nowhere:1", "pull": "never"})
        assert end.error == "the image 'docker.io/library/nowhere:1' is not here, and pull is 'never'"
        await is_clean(engine)


async def test_as_many_run_at_one_time_as_there_are_slots(stage: Stage, engine: TestEngine) -> None:
    count = 12
    async with agent(stage, engine, slots=count):
        for number in range(count):
            await assign(stage, f"t{number}", sh(f"echo {number}; sleep 600"))
        await engine.until(lambda: len(engine.running()) == count)
        with contextlib.closing(engine.api()) as api:
            for name in engine.running():
                await asyncio.to_thread(api.remove_container, name, force=True)
        for number in range(count):
            assert (await stage.hub.ended(f"t{number}")).outcome is Outcome.INTERRUPTED


async def test_the_fetching_of_an_image_is_told_as_it_goes(stage: Stage, engine: TestEngine) -> None:
    with running_registry() as registry:
        async with agent(stage, engine, allow_images=("127.0.0.1:*/**",)):
            await assign(stage, "pull", {"image": registry.image, "pull": "missing"})

            def told() -> list[TaskProgress]:
                return [one for one in stage.hub.events() if isinstance(one, TaskProgress) and one.task == "pull"]

            first = (await stage.hub.until(told))[0]  # while the rest of the layer is held back
            assert 0 < first.fraction < 1
            assert first.message.startswith(f"pulling {registry.image}: ")
            registry.go_on.set()
            assert output(await stage.hub.ended("pull")) == "pulled\n"
            assert told()[-1].fraction == 1

            served = registry.blobs_served
            assert output(await ended(stage, "again", {"image": registry.image})) == "pulled\n"
            assert registry.blobs_served == served

            nowhere = registry.image.replace("pulled", "absent")
            end = await ended(stage, "absent", {"image": nowhere})
            assert end.outcome is Outcome.FAILED
            assert (end.error or "").startswith(f"the image {nowhere!r} cannot be pulled: ")


async def test_a_cancelled_fetch_holds_no_slot(stage: Stage, engine: TestEngine) -> None:
    with running_registry() as registry:
        async with agent(stage, engine, slots=1, allow_images=("**",)) as app:
            await assign(stage, "pull", {"image": registry.image})
            await stage.hub.until(lambda: any(isinstance(one, TaskProgress) for one in stage.hub.events()))
            app.runner.cancel(app.runner.held[0], "enough")
            assert (await stage.hub.ended("pull")).outcome is Outcome.CANCELLED
            assert (await ended(stage, "next", {"command": ["true"]})).outcome is Outcome.SUCCEEDED
            await is_clean(engine)


async def test_a_network_where_worker_and_task_both_say_so(stage: Stage, engine: TestEngine) -> None:
    if engine.bridge is None:
        missing("ip, of iproute2, to make a network")
    capabilities = {**DOCKER, "network_access": True}
    async with agent(stage, engine, capabilities=capabilities):
        assert "eth0" in output(await ended(stage, "with", sh("ls /sys/class/net", network=True)))
        assert "eth0" not in output(await ended(stage, "without", sh("ls /sys/class/net")))


async def test_a_signal_that_only_tells_something_ends_nothing(stage: Stage, engine: TestEngine) -> None:
    async with agent(stage, engine):
        await assign(stage, "told", sh("trap 'echo heard; exit 0' HUP; echo on; while true; do sleep 0.1; done"))
        await engine.until(engine.running)
        await engine.until_written(engine.running()[0], b"on")
        with contextlib.closing(engine.api()) as api:
            api.kill(engine.running()[0], "SIGHUP")
        end = await stage.hub.ended("told")
        assert end.outcome is Outcome.SUCCEEDED
        assert output(end) == "on\nheard\n"


async def test_the_journal_is_what_says_that_a_container_may_go(stage: Stage, engine: TestEngine) -> None:
    """Its end is told by who finds it, as long as that is not committed: a crash may come at any moment."""
    async with agent(stage, engine) as app:
        app.runner.on_committed = lambda _: None  # as if the agent died before the commit
        assert (await ended(stage, "kept", sh("echo kept"))).outcome is Outcome.SUCCEEDED
        assert [one["State"] for one in engine.containers()] == ["exited"]
    async with agent(stage, engine):
        await is_clean(engine)
