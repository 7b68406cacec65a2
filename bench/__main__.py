"""`make bench`: every figure beside what the same machine does otherwise, in one run and one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
from rich.console import Console
from rich.table import Table

from bench import idle, tasks
from bench.house import House

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.rows import Row


def main() -> None:
    """Measure, and print one table."""
    table = Table(title="Holdfast, everything on this machine, every step committed with fsync")
    for column in ("what", "figure", "beside it, in the same run"):
        table.add_column(column)
    for row in _rows():
        table.add_row(*row)
    Console(width=150).print(table)


def _rows() -> Iterator[Row]:
    with House(workers=1, slots=4) as house, httpx.Client(base_url=house.hub_url, timeout=60) as http:
        idle.wait_online(http, 1)
        yield from tasks.rows(house, http)
        yield from idle.rows(house, http)


main()
