"""A real database file for whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hub.store.engine import open_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database in a file, with the newest schema."""
    opened = open_engine(f"sqlite:///{tmp_path}/hub.db")
    yield opened
    opened.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A connection that may write, in a transaction that is thrown away."""
    with engine.connect().execution_options(writes=True) as opened:
        yield opened
