"""A site alone: no hub to ask for the broker, no broker at all, and what the worker's own clock fires."""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from broker.local import PrivateBroker
from broker.messages import Bootstrap, Outcome, Via
from edge_agent import Agent, TaskContext
from tests.integration.edge_agent.stage import listening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.edge_agent.stage import Stage

pytestmark = pytest.mark.anyio


@contextmanager
def answering(first: bytes, *, then: bytes | None = None) -> Iterator[str]:
    """Serve one answer, and then the other to every request, as a hub would on /api/bootstrap."""
    bodies = itertools.chain([first], itertools.repeat(then or first))

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = next(bodies)
            self.send_response(200 if self.path == "/api/bootstrap" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def test_the_hub_says_where_the_broker_is_and_its_word_is_kept(stage: Stage) -> None:
    word = Bootstrap(broker_url=stage.broker_url, root="edge").model_dump_json().encode()
    with answering(word) as url:
        async with stage.agent(broker_url=None, control_plane_url=url):
            pass
    async with stage.agent(broker_url=None, control_plane_url=url):  # nobody is there any more
        pass


async def test_a_broker_that_has_moved_is_found_again_by_the_hub(stage: Stage) -> None:
    gone = Bootstrap(broker_url="mqtt://127.0.0.1:1", root="edge").model_dump_json().encode()
    settings = stage.settings()
    with answering(gone) as url:
        async with stage.agent(broker_url=None, control_plane_url=url, wait=False) as app:
            while app.connecting.session is None:
                await asyncio.to_thread(lambda: None)
    assert settings.offline_dir.joinpath("bootstrap.json").read_bytes() == gone
    here = Bootstrap(broker_url=stage.broker_url, root="edge").model_dump_json().encode()
    with answering(gone, then=here) as url:
        async with stage.agent(broker_url=None, control_plane_url=url, poll_interval_seconds=0.05):
            pass


async def test_it_asks_until_a_hub_answers_and_takes_no_other_answer(stage: Stage) -> None:
    with answering(b"<html>not a hub</html>") as url:
        async with stage.agent(wait=False, broker_url=None, control_plane_url=url, poll_interval_seconds=0.05) as app:
            await app.database.commit(lambda _: None)
            assert not app.online.is_set()


async def test_without_a_broker_it_starts_and_connects_when_one_comes(stage: Stage) -> None:
    with PrivateBroker() as other:
        other.stop()
        async with stage.agent(broker_url=other.url, wait=False) as app:
            await app.database.commit(lambda _: None)
            other.start()
            async with asyncio.timeout(15):
                await app.online.wait()


async def test_a_broker_that_is_killed_loses_nothing(stage: Stage) -> None:
    with PrivateBroker() as other:
        async with stage.agent(broker_url=other.url) as app:
            async with listening(other.url, stage.site) as hub:
                hub.receipts = False
                await hub.inject({"id": "before", "kind": "noop"})
                while app.journal.newest < 3:
                    app.journal.grown.clear()
                    await app.journal.grown.wait()
                other.kill()
            other.start()
            async with listening(other.url, stage.site) as hub:
                await hub.until(lambda: hub.births(app.name.worker))
                await hub.come_online()
                await hub.sync(app.name.worker)
                assert (await hub.ended("before")).outcome is Outcome.SUCCEEDED


async def test_a_timer_runs_its_handler_and_lets_a_run_that_is_late_pass(stage: Stage) -> None:
    agent, let_go, runs = Agent(), asyncio.Event(), []

    @agent.every(seconds=0.1)
    async def tick(ctx: TaskContext) -> None:
        runs.append(ctx.task_id)
        await let_go.wait()

    async with stage.synced(agents=[agent]):
        await stage.hub.until(stage.hub.accepted)
        task, accepted = next(iter(stage.hub.accepted().items()))
        assert accepted.injected
        assert (accepted.injected.via, accepted.injected.spec.kind) == (Via.SCHEDULE, "tick")
        assert runs == [task]
        let_go.set()
        assert (await stage.hub.ended(task)).outcome is Outcome.SUCCEEDED
        await stage.hub.until(lambda: len(stage.hub.finished()) > 1)
