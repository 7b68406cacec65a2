"""What a token costs: tasks posted with one, and to a hub that asks for none, in turns in the same run."""

from __future__ import annotations

import json
import statistics
import time
from typing import TYPE_CHECKING

import httpx

from bench.house import House
from bench.rows import Row, ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 40
PER_ROUND = 50
"""Requests to one hub, before it is the other's turn: what else the machine does then meets both."""


def rows() -> Iterator[Row]:
    """Measure posts, which wait for the disk, and reads, which do not."""
    with House(workers=0, slots=1) as open_house, House(workers=0, slots=1) as closed_house:
        anonymous = httpx.Client(base_url=open_house.hub_url, timeout=60)
        known = httpx.Client(base_url=closed_house.hub_url, timeout=60)
        with anonymous, known:
            known.headers["Authorization"] = f"Bearer {_token(known)}"
            for what, ask in (("POST /api/tasks", _post), ("GET /api/workers", _get)):
                without, with_token = _in_turns(anonymous, known, ask)
                yield Row(
                    f"{what} with a token, one at a time",
                    f"{with_token:,.0f}/s",
                    f"without, to a hub that has none: {without:,.0f}/s",
                    ratio(with_token, without),
                )


def _in_turns(
    anonymous: httpx.Client, known: httpx.Client, ask: Callable[[httpx.Client, int], None]
) -> tuple[float, float]:
    """Return requests a second to each, by the median of its rounds."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for round_number in range(ROUNDS):
        for client, taken in zip((anonymous, known), seconds, strict=True):
            began = time.perf_counter()
            for number in range(PER_ROUND):
                ask(client, round_number * PER_ROUND + number)
            taken.append(time.perf_counter() - began)
    first, second = (PER_ROUND / statistics.median(taken) for taken in seconds)
    return first, second


def _post(client: httpx.Client, number: int) -> None:
    body = json.dumps({"kind": "noop", "id": f"a{number}", "worker": "nobody"})
    client.post("/api/tasks", content=body).raise_for_status()


def _get(client: httpx.Client, _number: int) -> None:
    client.get("/api/workers").raise_for_status()


def _token(client: httpx.Client) -> str:
    answer = client.post("/api/tokens", json={"name": "bench", "role": "operator"})
    answer.raise_for_status()
    return str(answer.json()["token"])
