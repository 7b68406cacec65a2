"""The sample handlers, tried as the guide says: with no broker."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from edge_agent import Agent
from edge_agent.errors import PluginError
from edge_agent.samples import agent
from edge_agent.testing import Outcome, run_task

if TYPE_CHECKING:
    from pathlib import Path


async def test_the_checksum_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"hold fast")
    run = await run_task(agent, "sample.checksum", {"path": str(file)})

    expected = hashlib.sha256(b"hold fast").hexdigest()
    assert (run.outcome, run.result) == (Outcome.SUCCEEDED, {"path": str(file), "sha256": expected})
    assert [(fact.name, fact.value) for fact in run.facts] == [("sha256", expected)]


async def test_what_is_free_on_a_disk_is_a_fact(tmp_path: Path) -> None:
    run = await run_task(agent, "sample.disk", {"path": str(tmp_path)})

    assert run.outcome is Outcome.SUCCEEDED
    assert [fact.name for fact in run.facts] == ["free_bytes"]


def test_a_handler_that_forgets_the_context_is_told() -> None:
    with pytest.raises(PluginError, match="its first parameter is 'path': expected one for the TaskContext"):

        @Agent().task("forgetful")
        def forgetful(path: str) -> None: ...
