"""Fixtures for all tests."""

from collections.abc import Iterator

import pytest

from tests.support.engine import TestEngine, running_engine
from tests.support.needs import find_faketime


@pytest.fixture(scope="session")  # so that async fixtures of every scope can have it
def anyio_backend() -> str:
    """Run async tests on asyncio alone: aiomqtt and uvicorn know no other."""
    return "asyncio"


@pytest.fixture(scope="session")
def faketime() -> str:
    """Return the library that gives a process a clock of its own."""
    return find_faketime()


@pytest.fixture(scope="session")
def lasting_engine() -> Iterator[TestEngine]:
    """Run a Docker Engine for all tests that leave it running."""
    with running_engine() as engine:
        yield engine


@pytest.fixture
def engine(lasting_engine: TestEngine) -> Iterator[TestEngine]:
    """Return the Docker Engine; what is left on it is removed."""
    yield lasting_engine
    lasting_engine.clear()


@pytest.fixture
def mortal_engine() -> Iterator[TestEngine]:
    """Run a Docker Engine for one test, which may stop it."""
    with running_engine() as engine:
        yield engine
