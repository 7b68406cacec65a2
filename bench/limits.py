"""What this disk does without us: SQLite's own commits, each with an fsync."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 2_000
GROUPED_ROWS = 10_000
GROUP = 100
ROW = "x" * 200


def commits_per_second(folder: Path) -> tuple[float, float]:
    """Return commits of one row a second, and rows a second in commits of `GROUP`."""
    connection = sqlite3.connect(folder / "limit.db", isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (id INTEGER PRIMARY KEY, v)"
    )
    began = time.perf_counter()
    for _ in range(ROWS):
        connection.execute("INSERT INTO t (v) VALUES (?)", (ROW,))
    single = ROWS / (time.perf_counter() - began)
    began = time.perf_counter()
    for _ in range(GROUPED_ROWS // GROUP):
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t (v) VALUES (?)", [(ROW,)] * GROUP)
        connection.execute("COMMIT")
    grouped = GROUPED_ROWS / (time.perf_counter() - began)
    connection.close()
    return single, grouped
