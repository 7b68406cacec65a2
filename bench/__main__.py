"""`make bench`: every figure beside what the same machine does otherwise, in one run and one table.

`python -m bench drain journal` runs only those.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from bench import access, backup, drain, fleet, idle, journal, output, placement, tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.rows import Row

BENCHMARKS: dict[str, Callable[[], Iterator[Row]]] = {
    "tasks": tasks.rows,
    "idle": idle.rows,
    "drain": drain.rows,
    "journal": journal.rows,
    "output": output.rows,
    "placement": placement.rows,
    "access": access.rows,
    "backup": backup.rows,
    "fleet": fleet.rows,
}
"""Each in a house of its own, so that none finds what another has left."""


def main(names: list[str]) -> int:
    """Measure, and print one table."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"{unknown[0]!r} is no benchmark: expected {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    table = Table(title="Holdfast, everything on this machine, every step committed with fsync", show_lines=True)
    for column in ("what", "figure", "beside it, in the same run"):
        table.add_column(column)
    table.add_column("ratio", justify="right")
    console = Console(width=150)
    for name in names or BENCHMARKS:
        with console.status(f"measuring: {name}"):
            for row in BENCHMARKS[name]():
                table.add_row(*row)
    console.print(table)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of what ends the programs that were started
    sys.exit(main(sys.argv[1:]))
