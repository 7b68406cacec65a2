"""What breaks: processes, disks, connections and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.topics import Heartbeat, SiteTasks
from hub.rules.restored import restored
from tests.model.broker import HUB, Delivery
from tests.model.disk import Disk

if TYPE_CHECKING:
    from edge_agent.rules.eviction import Class
    from tests.model.broker import Line
    from tests.model.world import World


def crash_worker(world: World, name: str) -> None:
    worker = world.workers[name]
    if worker is None:
        return
    world.workers[name] = None
    for line in (worker.main, worker.intake):
        if line is not None:
            _lose_end_of(world, line)


def crash_hub(world: World) -> None:
    if world.hub is not None:
        line, world.hub = world.hub.line, None
        if line is not None:
            _lose_end_of(world, line)


def _lose_end_of(world: World, line: Line) -> None:
    """A process is gone: the broker sees that at once, or believes in the connection for a while."""
    if world.dice.random() < 0.5:
        world.broker.cut(line)
    else:
        world.broker.half_open(line)
    world.silent.discard(line)


def lose_disk(world: World, name: str) -> None:
    crash_worker(world, name)
    world.witness.on_disk_lost(name)
    world.disks[name] = Disk(world.new_id("stream"))


def back_up(world: World, name: str) -> None:
    world.snapshots[name] = world.disks[name].copy()


def restore(world: World, name: str) -> None:
    """Put an old copy of a worker's disk in place."""
    if name in world.snapshots:
        crash_worker(world, name)
        world.witness.on_disk_lost(name)
        world.disks[name] = world.snapshots[name].copy()
        world.witness.on_rewound(name, world.disks[name])


def back_up_hub(world: World) -> None:
    world.backup = world.database.copy()


def restore_hub(world: World) -> None:
    """Put an old copy of the hub's database in place, as `edge-hub restore` does."""
    if world.backup is not None:
        crash_hub(world)
        world.witness.on_restored(world.backup)
        world.database = world.backup.copy()
        for task, case in world.database.cases.items():
            world.database.cases[task] = restored(case, "restored from a backup", world.now)


def beat(world: World, name: str) -> None:
    """Let a worker say how it fares, before its time: its disk is full, or is so no more."""
    worker = world.workers[name]
    if worker is not None and not worker.frozen:
        worker.beat()


def evict(world: World, name: str, kind: Class) -> None:
    """Let a journal reach its limit."""
    worker = world.workers[name]
    if worker is not None and not worker.frozen:
        worker.journal.evict(kind)


def stop_worker(world: World, name: str) -> None:
    worker = world.workers[name]
    if worker is not None and not worker.frozen:
        worker.stop()


def interrupt_worker(world: World, name: str) -> None:
    """Let a worker that stops lose its patience with what runs."""
    worker = world.workers[name]
    if worker is not None and not worker.frozen and worker.runner.closed:
        worker.runner.interrupt()


def crash_broker(world: World, *, wipe: bool) -> None:
    world.broker.crash(wipe=wipe)
    world.silent.clear()


def stall(world: World, line: Line) -> None:
    """Let nothing through a connection, in either direction."""
    world.silent.add(line)


def lose_message(world: World, line: Line) -> None:
    """The broker drops what it queued for a client, as it does when a queue is full."""
    waiting = [one for one in line.session.queue if not one.delivered]
    if waiting:
        lost = waiting[world.dice.randrange(len(waiting))]
        world.witness.story.tell("  lost: %s", lost.letter)
        line.session.queue.remove(lost)


def double_message(world: World, line: Line) -> None:
    """A message comes twice. One for a whole site never does: its publisher would have to have sent it twice."""
    queue = line.session.queue
    waiting = [number for number, one in enumerate(queue) if not isinstance(one.letter.address, SiteTasks)]
    if waiting:
        number = waiting[world.dice.randrange(len(waiting))]
        world.witness.story.tell("  twice: %s", queue[number].letter)
        queue.insert(number + 1, Delivery(queue[number].letter))


def delay_heartbeat(world: World) -> None:
    """A heartbeat is overtaken by what its worker sent after it."""
    queue = world.broker.sessions[HUB].queue if HUB in world.broker.sessions else ()
    heartbeats = [one for one in queue if isinstance(one.letter.address, Heartbeat) and not one.delivered]
    if queue and heartbeats:
        world.witness.story.tell("  late: %s", heartbeats[0].letter)
        queue.remove(heartbeats[0])
        queue.append(heartbeats[0])
