"""What the next agent makes of the container that another has left, on an engine that does what the test says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from broker.clock import now_ms
from edge_agent.context import TaskContext
from edge_agent.engine import Engine
from edge_agent.engine.owned import Owned
from edge_agent.engine.run import Run
from edge_agent.engine.sink import Sink
from edge_agent.errors import CannotRunHere, EngineGone, EngineRefused, NotAllowedHere
from edge_agent.executors.container import Container
from edge_agent.rules.containers.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydantic import JsonValue

PARAMS: dict[str, JsonValue] = {"image": "busybox"}
EXITED = {"Id": "i", "State": {"Status": "exited", "ExitCode": 0, "StartedAt": "2026-11-25T21:57:11.5Z"}}
CREATED = {"Id": "i", "State": {"Status": "created", "ExitCode": 0, "StartedAt": "0001-01-01T00:00:00Z"}}


class Client:
    """An engine's client that has one container, cannot show its output, and goes when an image is asked for."""

    def __init__(self, shown: dict[str, Any]) -> None:
        self._shown = shown

    def inspect(self, _name: str) -> dict[str, Any]:
        return self._shown

    def replay(self, _name: str) -> list[bytes]:
        raise EngineRefused(409, "can not get logs from container which is dead or marked for removal")

    def has_image(self, _image: object) -> bool:
        raise EngineGone("it went")


class Scripted(Engine):
    """An engine that is there, as `Client` says."""

    def __init__(self, shown: dict[str, Any]) -> None:
        super().__init__("unix:///nowhere")
        self.client = Client(shown)
        self._there.set()

    async def call(self, work: Callable[[Any], Any]) -> Any:  # noqa: ANN401  whatever is asked for
        return work(self.client)


class Kept:
    """A task's context, and the handles that were kept for it."""

    def __init__(self) -> None:
        self.handles: list[JsonValue] = []
        self.context = TaskContext("t", 1, report=lambda _: None, clock=now_ms, keep=self._keep)

    async def _keep(self, handle: JsonValue) -> None:
        self.handles.append(handle)


def container_on(engine: Engine, *, allow_mounts: tuple[str, ...] = ()) -> Container:
    policy = Policy.of(allow_images=["busybox"], allow_mounts=allow_mounts, allow_devices=[], socket=None)
    return Container(engine, policy, capabilities=dict, owned=Owned(engine, "/home", name=lambda: "w"))


async def test_output_that_cannot_be_had_of_what_has_ended_holds_no_slot() -> None:
    run = Run(Scripted(EXITED), "c")
    run.track.died.set()
    async with asyncio.timeout(10):
        state = await run.see_through(Sink(Kept().context), is_new=False)
    assert state.exit_code == 0
    assert run.lacks_output


async def test_what_was_not_created_yet_does_not_wait_for_an_engine_in_a_slot() -> None:
    engine, kept = Engine("unix:///nowhere/docker.sock"), Kept()
    watch = asyncio.create_task(engine.run())
    async with asyncio.timeout(10):
        work = await container_on(engine).reattach(PARAMS, kept.context, {"name": "c", "created": False})
        assert work is not None
        with pytest.raises(CannotRunHere, match="does not answer"):
            await work
    watch.cancel()
    await asyncio.wait([watch])


async def test_what_is_begun_anew_is_not_known_as_created_until_it_is() -> None:
    kept = Kept()
    work = await container_on(Scripted(CREATED)).reattach(PARAMS, kept.context, {"name": "c", "created": True})
    assert work is not None
    with pytest.raises(CannotRunHere):
        await work
    assert kept.handles == [{"name": "c", "created": False}]


async def test_what_waits_for_an_engine_outlives_an_agent_that_stops() -> None:
    kept = Kept()
    taking_up = asyncio.create_task(
        container_on(Engine("unix:///nowhere")).reattach(PARAMS, kept.context, {"name": "c", "created": True})
    )
    await asyncio.sleep(0)
    assert kept.context.outlives_agent
    taking_up.cancel()
    await asyncio.wait([taking_up])


async def test_what_fetches_its_image_outlives_an_agent_that_stops() -> None:
    kept = Kept()
    with pytest.raises(CannotRunHere, match="it went"):
        await container_on(Scripted(CREATED)).run(PARAMS, kept.context)
    assert len(kept.handles) == 1
    assert kept.context.outlives_agent


async def test_a_path_that_the_agent_cannot_see_to_its_end_is_not_mounted(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    for hidden in (loop, tmp_path / "absent"):
        container, kept = container_on(Scripted(CREATED), allow_mounts=(str(tmp_path),)), Kept()
        mounts: list[JsonValue] = [{"source": f"{hidden}/x", "target": "/x"}]
        with pytest.raises(NotAllowedHere, match=f"cannot see where the source '{hidden}/x' of a mount leads: "):
            await container.run({**PARAMS, "mounts": mounts}, kept.context)


class Ending(Client):
    """A client of an engine that stops after it was attached to, and is back at once; its container has ended."""

    def attach(self, _name: str) -> Output:
        return Output(b"done\n")

    def replay(self, _name: str) -> Output:
        return Output(b"done\n")

    def start(self, _name: str) -> None:
        self.is_cut_off = True

    def wait(self, _name: str) -> None:
        if self.is_cut_off:
            self.is_cut_off = False
            raise EngineGone("it stops")


class Output(list[bytes]):
    """What a container has written."""

    def __init__(self, data: bytes) -> None:
        super().__init__([data])

    def close(self) -> None:
        """Take note that nobody reads it."""


@pytest.mark.parametrize(("died_at", "lacks_output"), [(5, False), (None, True)])
async def test_an_engine_that_has_told_the_end_has_read_all_output(died_at: int | None, lacks_output: bool) -> None:  # noqa: FBT001
    engine = Scripted(EXITED)
    engine.client = Ending(EXITED)
    run = Run(engine, "c")
    run.track.died_at = died_at
    run.track.died.set()
    async with asyncio.timeout(10):
        await run.see_through(Sink(Kept().context), is_new=True)
    assert run.lacks_output is lacks_output
