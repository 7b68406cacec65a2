"""Fixtures for all tests."""

import pytest


@pytest.fixture(scope="session")  # so that async fixtures of every scope can have it
def anyio_backend() -> str:
    """Run async tests on asyncio alone: aiomqtt and uvicorn know no other."""
    return "asyncio"
