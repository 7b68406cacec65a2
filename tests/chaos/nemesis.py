"""Does what the plan says, and heals it again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.chaos import disks
from tests.chaos.plan import Kind, resources

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.house import House
    from tests.chaos.plan import Fault, Resource
    from tests.chaos.programs import Program

MAX_CLOCK_STEP_SECONDS = 3600.0
DAMAGED_ALIVE = 0.5
"""The share of journals that are damaged under a running agent; the others are, while it is dead."""


@dataclass(frozen=True, slots=True)
class Wound:
    """A fault as it was done: from when to when, by the steady clock."""

    fault: Fault
    began: float
    healed: float


class Nemesis:
    """Breaks what is planned.

    Attributes:
        wounds: What was broken and is healed.
        open: What is broken now.

    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._locks: defaultdict[Resource, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.wounds: list[Wound] = []
        self.open: list[Fault] = []

    async def run(self, faults: Iterable[Fault], began: float) -> None:
        """Do each fault at its time after `began`; return when all are healed."""
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(began + fault.at - time.monotonic())
                group.create_task(self._hurt(fault), name=str(fault))

    async def _hurt(self, fault: Fault) -> None:
        async with AsyncExitStack() as stack:
            for resource in resources(fault, self._house.city):
                await stack.enter_async_context(self._locks[resource])
            began = time.monotonic()
            self.open.append(fault)
            try:
                await self._perform(fault)
            finally:
                self.open.remove(fault)
                self.wounds.append(Wound(fault, began, time.monotonic()))

    async def _perform(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.KILL_AGENT | Kind.KILL_HUB:
                await self._kill(self._program(fault), fault.seconds)
            case Kind.STOP_AGENT:
                await self._stop(self._program(fault), fault.seconds)
            case Kind.FREEZE_AGENT | Kind.FREEZE_HUB:
                await self._freeze(self._program(fault), fault.seconds)
            case Kind.CUT_AGENT | Kind.CUT_HUB | Kind.BLOCK_MQTT:
                await self._cut([fault.target], fault.seconds)
            case Kind.CUT_SITE:
                await self._cut([place.name for place in self._house.city.of_site(fault.target)], fault.seconds)
            case Kind.HUSH_AGENT:
                await self._hush(fault)
            case Kind.KILL_BROKER | Kind.WIPE_BROKER:
                await self._kill_broker(fault.seconds, wipes=fault.kind is Kind.WIPE_BROKER)
            case Kind.FREEZE_BROKER:
                await self._freeze_broker(fault.seconds)
            case _:
                await self._perform_within(fault)

    async def _perform_within(self, fault: Fault) -> None:
        """Do what is done to what a worker stands on: its disk, its clock."""
        folder, program = self._house.offline(fault.target), self._program(fault)
        match fault.kind:
            case Kind.STEP_CLOCK:
                self._house.set_clock(fault.target, (2 * fault.dice - 1) * MAX_CLOCK_STEP_SECONDS)
                await asyncio.sleep(fault.seconds)
            case Kind.FILL_DISK:
                await asyncio.to_thread(disks.fill, folder)
                await asyncio.sleep(fault.seconds)
                disks.clear(folder)
            case Kind.CORRUPT_JOURNAL if fault.dice < DAMAGED_ALIVE:
                disks.damage(folder / "journal.db", fault.dice)
                await asyncio.sleep(fault.seconds)
            case Kind.CORRUPT_JOURNAL:
                await program.kill()
                disks.damage(folder / "journal.db", fault.dice)
                await asyncio.sleep(fault.seconds)
                await program.start()
            case Kind.WIPE_AGENT:
                await program.kill()
                disks.wipe(folder)
                await asyncio.sleep(fault.seconds)
                await program.start()

    def _program(self, fault: Fault) -> Program:
        return self._house.agents.get(fault.target, self._house.hub)

    async def _kill(self, program: Program, seconds: float) -> None:
        await program.kill()
        await asyncio.sleep(seconds)
        await program.start()

    async def _stop(self, program: Program, seconds: float) -> None:
        await program.stop()
        await asyncio.sleep(seconds)
        await program.start()

    async def _freeze(self, program: Program, seconds: float) -> None:
        program.freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            program.thaw()

    async def _cut(self, names: list[str], seconds: float) -> None:
        for name in names:
            self._house.ways[name].cut()
        await asyncio.sleep(seconds)
        for name in names:
            self._house.ways[name].heal()

    async def _hush(self, fault: Fault) -> None:
        """Let a link hang; then what was on its way either arrives or never does."""
        way = self._house.ways[fault.target]
        way.hush()
        await asyncio.sleep(fault.seconds)
        if fault.dice < 0.5:
            way.drop()
        way.heal()

    async def _kill_broker(self, seconds: float, *, wipes: bool) -> None:
        broker = self._house.broker
        await asyncio.to_thread(broker.kill)
        if wipes:
            (broker.directory / "mosquitto.db").unlink(missing_ok=True)
        await asyncio.sleep(seconds)
        await self._house.start_broker()

    async def _freeze_broker(self, seconds: float) -> None:
        pid = self._house.broker.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
