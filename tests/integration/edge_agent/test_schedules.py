"""What a worker fires by itself: from its file, pushed by a hub, alone, and while the last run is in the way."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from broker.clock import wall_ms
from broker.local import PrivateBroker
from broker.messages import (
    NO_REVISION,
    Outcome,
    ScheduleJob,
    Schedules,
    ScheduleSkipped,
    TaskAccepted,
    Via,
    revision_of,
)
from broker.topics import Control
from edge_agent import Agent, TaskContext
from edge_agent.errors import StorageError
from edge_agent.rules.schedule import OVERLAP
from edge_agent.store import schedules as store
from edge_agent.store.aside import begin_anew
from edge_agent.store.database import Database, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edge_agent.app import App
    from tests.integration.edge_agent.stage import Stage

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 40.0


@dataclass
class Runs:
    """A handler whose runs the test sees, and ends."""

    began: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    ends: asyncio.Event = field(default_factory=asyncio.Event)
    agent: Agent = field(default_factory=Agent)

    def __post_init__(self) -> None:
        @self.agent.task("work")
        async def work(ctx: TaskContext, n: int = 0) -> int:
            self.began.put_nowait(ctx.task_id)
            await self.ends.wait()
            return n

    async def next(self) -> str:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.began.get()


def pushed(*jobs: dict[str, Any]) -> Schedules:
    read = tuple(ScheduleJob.model_validate(job) for job in jobs)
    return Schedules(revision=revision_of(read), jobs=read)


def each_second(**more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"name": "tick", "every_seconds": 1, "task": {"kind": "work"}, **more}


def written(folder: Path, text: str) -> Path:
    file = folder / "schedule.toml"
    file.write_text(text)
    return file


EACH_SECOND = """
[[job]]
name = "tick"
every_seconds = 1
overlap = "{overlap}"
task = {{ kind = "work", params = {{ n = 7 }}, priority = 3, labels = {{ team = "infra" }} }}
"""


async def test_a_firing_is_a_task_like_any_other_and_the_hub_hears_all_of_it(stage: Stage) -> None:
    runs = Runs()
    runs.ends.set()
    async with stage.synced(agents=[runs.agent], schedule=written(stage.directory, EACH_SECOND.format(overlap="skip"))):
        task = await runs.next()
        ended = await stage.hub.ended(task)

    assert (ended.outcome, ended.result) == (Outcome.SUCCEEDED, 7)
    injected = stage.hub.accepted()[task].injected
    assert injected
    assert injected.via is Via.SCHEDULE
    assert (injected.spec.kind, injected.spec.priority) == ("work", 3)
    assert injected.spec.labels == {"schedule": "file:tick", "team": "infra"}
    assert task.startswith("file:tick:20")
    assert task.endswith(f"Z:{stage.site}-w")


async def test_a_run_that_goes_on_lets_firings_pass_which_the_hub_hears(stage: Stage) -> None:
    runs = Runs()
    async with stage.synced(agents=[runs.agent], schedule=written(stage.directory, EACH_SECOND.format(overlap="skip"))):
        first = await runs.next()
        skipped = await stage.hub.until(lambda: [one for one in stage.hub.events() if isinstance(one, ScheduleSkipped)])
        assert runs.began.empty()
        runs.ends.set()
        assert (await stage.hub.ended(first)).outcome is Outcome.SUCCEEDED
        assert await runs.next() != first

    assert (skipped[0].job, skipped[0].reason) == ("file:tick", OVERLAP)
    assert skipped[0].planned_from == skipped[0].planned_to


async def test_a_firing_waits_for_the_end_of_the_last_run_and_comes_at_once_then(stage: Stage) -> None:
    runs = Runs()
    file = written(stage.directory, EACH_SECOND.format(overlap="queue"))
    async with stage.synced(agents=[runs.agent], schedule=file) as app:
        first = await runs.next()
        await waits(app)
        assert runs.began.empty()
        runs.ends.set()
        await runs.next()
        assert (await stage.hub.ended(first)).outcome is Outcome.SUCCEEDED


async def test_a_firing_ends_the_last_run_and_takes_its_place(stage: Stage) -> None:
    runs = Runs()
    file = written(stage.directory, EACH_SECOND.format(overlap="replace"))
    async with stage.synced(agents=[runs.agent], schedule=file):
        first = await runs.next()
        assert await runs.next() != first
        ended = await stage.hub.ended(first)

    assert ended.outcome is Outcome.CANCELLED
    assert ended.error
    assert "file:tick fires again" in ended.error


async def test_a_firing_that_cannot_run_now_is_the_hubs_no_longer_than_until_the_next(stage: Stage) -> None:
    text = '[[job]]\nname = "tick"\nevery_seconds = 2\ntask = { kind = "nowhere" }\n'
    async with stage.synced(schedule=written(stage.directory, text)):
        declined = next(iter((await stage.hub.until(stage.hub.declined)).values()))

    assert declined.injected
    assert (declined.injected.via, declined.injected.spec.kind) == (Via.SCHEDULE, "nowhere")
    assert declined.injected.spec.expires_in_seconds == 2
    assert declined.reason == "nowhere does not run here"


async def test_alone_a_firing_waits_until_the_worker_can_do_it_again(stage: Stage) -> None:
    runs = Runs()
    agent = Agent()

    @agent.task("camera", requires={"camera": True})
    async def camera(ctx: TaskContext) -> None:
        runs.began.put_nowait(ctx.task_id)

    file = written(stage.directory, '[[job]]\nname = "shot"\nevery_seconds = 1\ntask = { kind = "camera" }\n')
    with PrivateBroker() as gone:
        gone.stop()
        async with stage.agent(
            agents=[agent], schedule=file, broker_url=gone.url, capabilities={"camera": True}, wait=False
        ) as app:
            app.abilities.withdraw("camera", "it was unplugged")
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not app.runner.queued:  # noqa: ASYNC110  it tells nobody
                    await asyncio.sleep(0.01)
            assert runs.began.empty()
            app.abilities.restore("camera")
            await runs.next()


async def test_a_job_rests_while_what_it_requires_is_not_there(stage: Stage) -> None:
    runs = Runs()
    runs.ends.set()
    jobs = [each_second(requires={"camera": True}), each_second(name="other")]
    async with stage.synced(agents=[runs.agent], capabilities={"camera": True}) as app:
        app.abilities.withdraw("camera", "it was unplugged")
        await stage.hub.publish(Control(stage.site, app.name.worker), pushed(*jobs))
        assert {(await runs.next()).split(":")[1] for _ in range(3)} == {"other"}
        app.abilities.restore("camera")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "hub:tick" not in await runs.next():
                pass


async def test_wrong_params_are_rejected_at_each_firing_and_the_hub_hears_why(stage: Stage) -> None:
    runs = Runs()
    async with stage.synced(agents=[runs.agent]) as app:
        order = pushed(each_second(task={"kind": "work", "params": {"m": 1}}))
        await stage.hub.publish(Control(stage.site, app.name.worker), order)
        rejected = (await stage.hub.until(stage.hub.rejected))[0]

    assert rejected.topic == "schedule hub:tick"
    assert rejected.reason == "params.m is 1: there is no such field"


# -- pushed by the hub ----------------------------------------------------------------------------------------------


async def test_what_is_pushed_is_kept_over_a_restart_with_nobody_there_and_told_in_each_birth(stage: Stage) -> None:
    runs = Runs()
    runs.ends.set()
    order = pushed(each_second())
    async with stage.synced(agents=[runs.agent]) as app:
        worker = app.name.worker
        assert stage.hub.births(worker)[-1].schedules == NO_REVISION
        await stage.hub.publish(Control(stage.site, worker), order)
        await has_taken(stage, worker, order.revision)
        assert (await runs.next()).startswith("hub:tick:")

    with PrivateBroker() as gone:
        gone.stop()
        async with stage.agent(agents=[runs.agent], broker_url=gone.url, wait=False):
            while not runs.began.empty():
                runs.began.get_nowait()
            assert (await runs.next()).startswith("hub:tick:")

    async with stage.synced(agents=[runs.agent]) as app:
        assert stage.hub.births(worker)[-1].schedules == order.revision
        await stage.hub.publish(Control(stage.site, worker), pushed())
        await has_taken(stage, worker, NO_REVISION)
        assert app.clockwork.revision == NO_REVISION
    with sqlite3.connect(app.settings.database) as kept:
        assert kept.execute("SELECT * FROM pushed_schedules").fetchall() == []
        assert kept.execute("SELECT * FROM schedule_marks").fetchall() == []


async def test_a_job_of_the_file_and_one_of_the_hub_may_have_one_name(stage: Stage) -> None:
    runs = Runs()
    runs.ends.set()
    file = written(stage.directory, EACH_SECOND.format(overlap="skip"))
    async with stage.synced(agents=[runs.agent], schedule=file) as app:
        await stage.hub.publish(Control(stage.site, app.name.worker), pushed(each_second()))
        seen: set[str] = set()
        while seen != {"file:tick", "hub:tick"}:
            seen.add(":".join((await runs.next()).split(":")[:2]))


async def test_a_set_that_is_pushed_anew_leaves_the_rhythm_of_what_stays(stage: Stage) -> None:
    runs = Runs()
    runs.ends.set()
    stays = each_second(every_seconds=2)
    async with stage.synced(agents=[runs.agent]) as app:
        for number in range(5):
            order = pushed(stays, each_second(name=f"other-{number}", every_seconds=3600))
            await stage.hub.publish(Control(stage.site, app.name.worker), order)
            await has_taken(stage, app.name.worker, order.revision)
        first, second = await runs.next(), await runs.next()

    assert planned_ms(second) - planned_ms(first) == 2000


async def test_a_firing_that_waits_goes_on_waiting_when_the_set_is_pushed_anew(stage: Stage) -> None:
    runs = Runs()
    job = each_second(overlap="queue", misfire_grace_seconds=1)
    async with stage.synced(agents=[runs.agent]) as app:
        await stage.hub.publish(Control(stage.site, app.name.worker), pushed(job))
        await runs.next()
        await waits(app)
        order = pushed(job, each_second(name="other", every_seconds=3600))
        await stage.hub.publish(Control(stage.site, app.name.worker), order)
        await has_taken(stage, app.name.worker, order.revision)
        await waits(app)
        runs.ends.set()
        await runs.next()


async def test_what_the_disk_does_not_take_is_fired_and_taken_when_it_does(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.schedule.firing.RETRY_SECONDS", 0.05)
    monkeypatch.setattr("edge_agent.intake.RETRY_SECONDS", 0.05)
    runs, refused = Runs(), 0
    runs.ends.set()
    order = pushed(each_second())
    async with stage.synced(agents=[runs.agent]) as app:
        commit = app.database.commit

        async def commit_at_last(work: Any, *, durable: bool = False) -> Any:  # noqa: ANN401
            nonlocal refused
            if refused < 5:
                refused += 1
                raise StorageError(app.settings.database, "database or disk is full")
            return await commit(work, durable=durable)

        monkeypatch.setattr(app.database, "commit", commit_at_last)
        await stage.hub.publish(Control(stage.site, app.name.worker), order)
        await has_taken(stage, app.name.worker, order.revision)
        assert refused == 5
        refused = 0
        first, second = await runs.next(), await runs.next()

    assert refused == 5
    assert planned_ms(second) > planned_ms(first)


async def test_what_is_kept_and_cannot_be_read_is_as_if_nothing_was_and_is_pushed_again(stage: Stage) -> None:
    settings = stage.settings()
    database = connect(settings.database)
    database.execute("INSERT INTO pushed_schedules VALUES ('r1', '[{\"name\": \"of a later release\"}]')")
    database.close()

    async with stage.agent() as app:
        birth = (await stage.hub.until(lambda: stage.hub.births(app.name.worker)))[-1]
        assert birth.schedules == NO_REVISION


async def test_a_file_that_is_set_aside_leaves_its_schedules_to_the_new_one(stage: Stage) -> None:
    runs = Runs()
    runs.ends.set()
    order = pushed(each_second())
    async with stage.synced(agents=[runs.agent]) as app:
        await stage.hub.publish(Control(stage.site, app.name.worker), order)
        await runs.next()
    begin_anew(app.settings.database, "malformed")

    async with stage.agent(agents=[runs.agent]) as app:
        assert app.clockwork.revision == order.revision
        await runs.next()


# -- over restarts --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def opened(file: Path) -> AsyncIterator[Database]:
    database = Database(file)
    database.open()
    try:
        yield database
    finally:
        await database.close()


async def test_the_mark_of_a_job_is_on_the_disk_with_its_task(stage: Stage) -> None:
    runs = Runs()
    file = written(stage.directory, EACH_SECOND.format(overlap="skip"))
    async with stage.agent(agents=[runs.agent], schedule=file) as app:
        task = await runs.next()
        marks = await app.database.read(store.marks)

    assert marks["file:tick"].task == task
    assert marks["file:tick"].base >= planned_ms(task)
    held = [one for one in stage.hub.events() if isinstance(one, TaskAccepted)]
    assert [one.task for one in held] in ([], [task])


async def test_a_mark_that_is_behind_its_task_does_not_fire_that_again(stage: Stage) -> None:
    """As if the two were not in one transaction: the id of a firing is known, whatever the mark says."""
    runs = Runs()
    runs.ends.set()
    text = '[[job]]\nname = "j"\nevery_seconds = 5\ntask = { kind = "work" }\n'
    file = written(stage.directory, text)
    async with stage.agent(agents=[runs.agent], schedule=file) as app:
        task = await runs.next()
        await app.runner.idle()
    async with opened(app.settings.database) as database:
        marks = await database.read(store.marks)
        behind = marks["file:j"]._replace(base=planned_ms(task) - 5000, task=None)
        await database.commit(lambda transaction: store.save_marks(transaction, [behind]))

    async with stage.agent(agents=[runs.agent], schedule=file) as app:
        await come_to(app, planned_ms(task))
        assert runs.began.empty()
        assert planned_ms(await runs.next()) == planned_ms(task) + 5000


async def test_an_interval_goes_on_in_its_rhythm_after_a_restart(stage: Stage) -> None:
    runs = Runs()
    runs.ends.set()
    text = '[[job]]\nname = "tick"\nevery_seconds = 3\ntask = { kind = "work" }\n'
    async with stage.agent(agents=[runs.agent], schedule=written(stage.directory, text)):
        first = await runs.next()
    async with stage.agent(agents=[runs.agent], schedule=written(stage.directory, text)):
        second = await runs.next()

    assert (planned_ms(second) - planned_ms(first)) % 3000 == 0


async def test_a_job_that_has_other_times_now_has_missed_nothing(stage: Stage) -> None:
    settings = stage.settings()
    long_ago = wall_ms() - 3_600_000
    async with opened(settings.database) as database:
        kept = store.KeptMark("file:tick", "of other times", long_ago, "last")
        await database.commit(lambda transaction: store.save_marks(transaction, [kept]))
    text = '[[job]]\nname = "tick"\nevery_seconds = 3600\nmisfire = "once"\ntask = { kind = "noop" }\n'

    async with stage.agent(schedule=written(stage.directory, text)) as app:
        mark = (await app.database.read(store.marks))["file:tick"]

    assert mark.base > long_ago + 3_000_000
    assert mark.task == "last"


@pytest.mark.parametrize(("misfire", "fires"), [("skip", False), ("once", True)])
async def test_what_was_missed_is_skipped_or_made_up_for_once(stage: Stage, misfire: str, fires: bool) -> None:  # noqa: FBT001
    runs = Runs()
    runs.ends.set()
    text = f'[[job]]\nname = "j"\nevery_seconds = 3600\nmisfire = "{misfire}"\ntask = {{ kind = "work" }}\n'
    file = written(stage.directory, text)
    async with stage.agent(agents=[runs.agent], schedule=file) as app:
        marks = await app.database.read(store.marks)
    before = wall_ms() - 5 * 3_600_000 - 600_000
    async with opened(app.settings.database) as database:
        old = marks["file:j"]._replace(base=before)
        await database.commit(lambda transaction: store.save_marks(transaction, [old]))

    async with stage.synced(agents=[runs.agent], schedule=file):
        skipped = (await stage.hub.until(lambda: [e for e in stage.hub.events() if isinstance(e, ScheduleSkipped)]))[0]
        if fires:
            assert planned_ms(await runs.next()) == before + 5 * 3_600_000
        assert runs.began.empty()

    assert skipped.planned_from == before + 3_600_000
    assert skipped.planned_to == before + (4 if fires else 5) * 3_600_000


async def test_a_clock_that_is_set_back_does_not_fire_again_what_has_fired_and_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes of a calendar are fired by a clock that the test sets, as fast as it likes."""
    runs = Runs()
    runs.ends.set()
    clock = Clock(1_795_607_970_000)
    monkeypatch.setattr("edge_agent.schedule.clockwork.wall_ms", lambda: clock.at)
    text = '[[job]]\nname = "j"\ncron = "* * * * *"\ntask = { kind = "work" }\n'
    async with stage.agent(agents=[runs.agent], schedule=written(stage.directory, text)) as app:
        for minutes in (1, 2, 3):
            clock.set(app, clock.began + minutes * 60_000)
            task = await runs.next()
            assert planned_ms(task) == clock.began + minutes * 60_000 - 30_000
            await app.runner.idle()
        clock.set(app, clock.began + 20_000)  # before all that has fired
        await come_to(app, clock.began + 20_000)
        for minutes in (1, 2, 3):
            clock.set(app, clock.began + minutes * 60_000)
            await come_to(app, clock.began + minutes * 60_000 - 30_000)
        assert runs.began.empty()
        clock.set(app, clock.began + 4 * 60_000)
        assert planned_ms(await runs.next()) == clock.began + 4 * 60_000 - 30_000


@dataclass
class Clock:
    began: int
    at: int = 0

    def __post_init__(self) -> None:
        self.at = self.began

    def set(self, app: App, at: int) -> None:
        self.at = at
        app.clockwork.look()


async def come_to(app: App, base: int) -> None:
    """Return when the only job has come to a time, or, where the clock was set back, to just before it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not base - 10_000 <= app.clockwork._book.marks[0].base <= base:  # noqa: ASYNC110, SLF001  it tells nobody
            await asyncio.sleep(0.01)


def planned_ms(task: str) -> int:
    """Return the time that a firing's id says."""
    stamp = task.split(":")[2]
    shape = "%Y%m%dT%H%M%S.%fZ" if "." in stamp else "%Y%m%dT%H%M%SZ"
    return round(datetime.strptime(f"{stamp}+0000", f"{shape}%z").timestamp() * 1000)


async def has_taken(stage: Stage, worker: str, revision: str) -> None:
    """Return when a worker says that it has a set of schedules."""
    await stage.hub.until(lambda: stage.hub.births(worker)[-1].schedules == revision)


async def waits(app: App) -> None:
    """Return when a firing waits for the last run."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not any(mark.waits for mark in app.clockwork._book.marks):  # noqa: ASYNC110, SLF001  it tells nobody
            await asyncio.sleep(0.01)
