from __future__ import annotations

import pytest

from edge_agent.rules.containers.ends import End, State, end_of, read_time

UNWATCHED = "the container was killed while nobody watched it"
INTERRUPTED = "the container was stopped by the engine or by somebody else"


def state(exit_code: int, *, oom: bool = False) -> State:
    return State("id", "exited", exit_code, oom, "", began_at=1)


@pytest.mark.parametrize(
    ("code", "oom", "was_killed", "was_watched", "end"),
    [
        (0, False, False, True, End("succeeded")),
        (3, False, False, True, End("failed", "exit code 3")),
        (137, False, False, True, End("failed", "exit code 137 (SIGKILL)")),
        (137, True, False, True, End("failed", "out of memory: limit 64 MB")),
        (1, True, True, False, End("failed", "out of memory: limit 64 MB")),
        (0, True, False, True, End("succeeded")),  # a child of it was killed, and it coped
        (0, False, True, True, End("interrupted", INTERRUPTED)),
        (143, False, True, True, End("interrupted", INTERRUPTED)),
        (0, False, False, False, End("succeeded")),
        (3, False, False, False, End("failed", "exit code 3")),
        (143, False, False, False, End("interrupted", f"{UNWATCHED} (exit code 143 (SIGTERM))")),
        (255, False, False, False, End("interrupted", f"{UNWATCHED} (exit code 255)")),
    ],
)
def test_how_an_end_is_called(code: int, oom: bool, was_killed: bool, was_watched: bool, end: End) -> None:  # noqa: FBT001
    assert end_of(state(code, oom=oom), memory_mb=64, was_killed=was_killed, was_watched=was_watched) == end


def test_a_state_is_read_as_the_engine_shows_it() -> None:
    shown = {
        "Id": "abc",
        "State": {
            "Status": "created",
            "ExitCode": 0,
            "OOMKilled": False,
            "Error": "",
            "StartedAt": "0001-01-01T00:00:00Z",
        },
    }
    created = State.read(shown)
    assert (created.has_begun, created.has_ended, created.began_at) == (False, False, None)
    shown["State"] |= {"Status": "exited", "StartedAt": "2026-11-25T21:57:11.54910981Z"}  # type: ignore[operator]
    ended = State.read(shown)
    assert (ended.has_begun, ended.has_ended, ended.began_at) == (True, True, 1795643831549)


@pytest.mark.parametrize("text", ["2026-11-25T21:57:11Z", "2026-11-25T21:57:11.000000001Z"])
def test_a_time_with_few_digits_is_read(text: str) -> None:
    assert read_time(text) == 1795643831000
