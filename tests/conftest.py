"""Fixtures for all tests."""

import pytest

from tests.support.needs import find_faketime


@pytest.fixture(scope="session")  # so that async fixtures of every scope can have it
def anyio_backend() -> str:
    """Run async tests on asyncio alone: aiomqtt and uvicorn know no other."""
    return "asyncio"


@pytest.fixture(scope="session")
def faketime() -> str:
    """Return the library that gives a process a clock of its own."""
    return find_faketime()
