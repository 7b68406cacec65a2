from __future__ import annotations

from broker.clock import now_ms
from edge_agent.context import TaskContext
from edge_agent.engine.sink import DRAIN_BYTES, Sink
from edge_agent.engine.threads import in_thread


class Log:
    def __init__(self) -> None:
        self.text = b""
        self.drains = 0

    def write(self, data: bytes) -> None:
        self.text += data

    async def drained(self) -> None:
        self.drains += 1

    async def size(self) -> int:
        return len(self.text)


def sink_for(log: Log, logged: int = 0) -> Sink:
    return Sink(TaskContext("t", 1, report=lambda _: None, clock=now_ms, log=log), logged)


async def test_what_comes_again_from_its_beginning_is_taken_once() -> None:
    log = Log()
    sink = sink_for(log)
    sink.take([b"one ", b"two "])
    sink.take([b"one two th", b"ree"])
    assert log.text == b"one two three"
    assert sink.result(0) == {"exit_code": 0, "output": "one two three", "truncated": False}


async def test_after_a_restart_the_log_goes_on_where_it_was_and_the_result_has_all() -> None:
    log = Log()
    sink = sink_for(log, logged=5)
    sink.take([b"one", b" two", b" three"])
    assert log.text == b"wo three"
    assert sink.result(1) == {"exit_code": 1, "output": "one two three", "truncated": False}


async def test_a_stream_that_another_has_taken_the_place_of_is_not_heard_any_more() -> None:
    log = Log()
    sink = sink_for(log)

    def first() -> object:
        yield b"one"
        sink.take([b"one", b"two"])
        yield b"late"

    sink.take(first())  # type: ignore[arg-type]
    assert log.text == b"onetwo"


async def test_who_writes_much_waits_for_the_log() -> None:
    log = Log()
    sink = sink_for(log)
    await in_thread(lambda: sink.take([b"x" * (DRAIN_BYTES // 2)] * 8), "taking")
    assert log.drains == 4
    assert len(log.text) == 4 * DRAIN_BYTES
