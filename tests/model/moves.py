"""What each part of a world can do next without a fault and without time: a move has a name, and something to do."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from broker.messages import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.model.broker import Broker, Delivery, Line
    from tests.model.hub import Hub
    from tests.model.worker import Worker
    from tests.model.world import World

Move = tuple[str, "Callable[[], object]"]

WINDOW = 3
"""How many messages the broker hands a client before it waits for an acknowledgement."""


def of_line(broker: Broker, line: Line) -> list[Move]:
    return [("reaches the broker", partial(broker.route_next, line))] if line.up else []


def of_hub(world: World, hub: Hub) -> list[Move]:
    found: list[Move] = []
    if hub.writer.can_commit:
        found.append(("commits", hub.writer.commit))
    if hub.writer.can_go_on:
        found.append(("goes on", hub.writer.go_on))
    if hub.can_place:
        found.append(("places", hub.place))
    if hub.line is None:
        if world.broker.up:
            found.append(("connects", hub.connect))
    elif not hub.line.client_believes:
        found.append(("notices that its link is down", hub.on_link_down))
    else:
        found += _receipt_of(world, hub.line, hub.receive)
    return found


def of_worker(world: World, worker: Worker) -> list[Move]:
    runner = worker.runner
    found: list[Move] = []
    if worker.writer.can_commit:
        found.append(("commits", worker.writer.commit))
    if worker.writer.can_go_on:
        found.append(("goes on", worker.writer.go_on))
    if runner.can_begin:
        found.append(("begins", runner.begin_next))
    if runner.executing:
        found += [("stops one", partial(runner.finish, ref, Outcome.CANCELLED)) for ref in runner.stopped]
    if worker.stopping:
        found += _of_stopping(world, worker)
    if worker.main is None:
        if worker.can_connect:
            found.append(("connects", worker.connect))
    elif not worker.main.client_believes:
        found.append(("notices that its link is down", worker.on_main_down))
    else:
        found += _receipt_of(world, worker.main, worker.receive)
        found += _of_session(world, worker)
    return found


def _of_stopping(world: World, worker: Worker) -> list[Move]:
    if worker.can_wind_down:
        return [("winds down", worker.wind_down)]
    return [("leaves", partial(world.leave, worker))] if worker.can_leave else []


def _of_session(world: World, worker: Worker) -> list[Move]:
    found: list[Move] = []
    if worker.can_send:
        found.append(("sends a batch", worker.send_batch))
    if worker.can_open_intake:
        found.append(("opens its intake", worker.open_intake))
    if worker.can_renew:
        found.append(("renews", worker.renew))
    if worker.intake is not None:
        if worker.intake.client_believes:
            found += _receipt_of(world, worker.intake, worker.receive)
        else:
            found.append(("notices that its intake is down", worker.on_intake_down))
    return found


def _receipt_of(world: World, line: Line, receive: Callable[[Line, Delivery], None]) -> list[Move]:
    if not line.session.queue or not line.whole or line in world.silent:
        return []
    for number, delivery in enumerate(line.session.queue):
        if number == WINDOW:
            break
        if not delivery.delivered:
            return [("receives", partial(_receive, world, line, delivery, receive))]
    return []


def _receive(world: World, line: Line, delivery: Delivery, receive: Callable[[Line, Delivery], None]) -> None:
    delivery.delivered = True
    world.witness.story.tell("  %s hears %s", line.name, delivery.letter)
    receive(line, delivery)
