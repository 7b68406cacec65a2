"""A real broker for all tests of the agent, and a site of its own for each."""

from __future__ import annotations

import itertools
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from broker.local import PrivateBroker
from tests.integration.edge_agent.stage import Stage, listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

_sites = itertools.count(1)


@pytest.fixture(scope="session")
def broker() -> Iterator[PrivateBroker]:
    with PrivateBroker() as private:
        yield private


@pytest.fixture
async def stage(broker: PrivateBroker, tmp_path: Path) -> AsyncIterator[Stage]:
    """A site with nobody in it yet, and a listener that plays the hub."""
    async with AsyncExitStack() as stack:
        site = f"site-{next(_sites)}"
        listener = await stack.enter_async_context(listening(broker.url, site))
        yield Stage(broker.url, site, tmp_path, listener)
