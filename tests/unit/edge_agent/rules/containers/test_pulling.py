from __future__ import annotations

from typing import Any

from edge_agent.rules.containers.pulling import Pulling


def layer(name: str, current: int, total: int) -> dict[str, Any]:
    return {"status": "Downloading", "id": name, "progressDetail": {"current": current, "total": total}}


def test_progress_is_that_of_all_layers_and_told_once_a_second() -> None:
    pulling = Pulling()
    assert pulling.hear({"status": "Pulling from library/busybox", "id": "1"}, 0.0) is None
    assert pulling.hear(layer("a", 1_000_000, 4_000_000), 0.0) == (0.25, "1.0 of 4.0 MB")
    assert pulling.hear(layer("b", 0, 4_000_000), 0.1) is None
    assert pulling.hear(layer("a", 2_000_000, 4_000_000), 0.9) is None
    assert pulling.hear(layer("a", 3_000_000, 4_000_000), 1.0) == (0.375, "3.0 of 8.0 MB")
    assert pulling.hear({"status": "Download complete", "id": "a"}, 2.0) == (0.5, "4.0 of 8.0 MB")
    assert pulling.hear({"status": "Pull complete", "id": "b"}, 2.1) == (1.0, "8.0 of 8.0 MB")


def test_what_says_nothing_of_a_size_is_not_told() -> None:
    pulling = Pulling()
    assert pulling.hear({"status": "Downloading", "id": "a", "progressDetail": {}}, 0.0) is None
    assert pulling.hear({"status": "Already exists", "id": "b"}, 0.0) is None
    assert pulling.hear({"status": "Status: Image is up to date"}, 0.0) is None


def test_the_same_is_not_told_twice() -> None:
    pulling = Pulling()
    assert pulling.hear(layer("a", 10, 10), 0.0) is not None
    assert pulling.hear(layer("a", 10, 10), 5.0) is None
