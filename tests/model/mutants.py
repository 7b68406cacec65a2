"""Rules that are broken on purpose: the model must notice each of them, or it would notice nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from broker.messages import Receipt, encode
from broker.topics import Control
from edge_agent.rules import flow, handshake
from hub.inbound import Inbound
from hub.rules import batches, ends, hello, life, offers, restored
from hub.rules.hello import Memory
from hub.rules.reading import Source
from tests.model.broker import Broker
from tests.model.disk import Disk, Gaps
from tests.model.journal import Journal
from tests.model.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from broker.link import Incoming
    from broker.messages import AnyEvent, Batch, Event
    from broker.topics import Events
    from edge_agent.rules.eviction import Class
    from edge_agent.rules.flow import Flow
    from edge_agent.rules.handshake import Handshake
    from hub.rules.hello import Answer
    from hub.rules.task import Attempt, Case
    from tests.model.broker import Line

    Wrongly = Callable[[], AbstractContextManager[object]]

_PLACES = ("hub.", "edge_agent.", "tests.model.")


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is done wrongly.

    Attributes:
        name: What, in words.
        outline: The rules of schedules of which one shows it.
        apply: Does it wrongly, while it lasts.

    """

    name: str
    outline: str
    apply: Wrongly


@contextlib.contextmanager
def _everywhere(right: object, wrong: object) -> Iterator[None]:
    """Put a wrong rule in the place of a right one, by whatever name it is known."""
    with contextlib.ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith(_PLACES) and name != __name__:
                for known_as, value in list(vars(module).items()):
                    if value is right:
                        stack.enter_context(patch.object(module, known_as, wrong))
        yield


def _always(answer: object) -> Callable[..., Any]:
    return lambda *_, **__: answer


# -- at the worker -------------------------------------------------------------------------------------------------


def _evict_silently(gaps: Gaps, disk: Disk, kind: Class, at: int) -> list[tuple[int, Event]]:
    gone = _EVICT(gaps, disk, kind, at)
    if gone:
        disk.rows[disk.newest] = gone[0][1]  # what stands there tells of no gap
    return gone


_EVICT = Gaps.evict


def _take_any_receipt(known: Flow, through: int, now: float) -> Flow:
    taken = _ON_RECEIPT(dataclasses.replace(known, open=True), through, now)
    return known if taken.settled == known.settled else dataclasses.replace(taken, open=known.open)


_ON_RECEIPT = flow.on_receipt


def _expect_no_answer(state: Handshake, session: str, *, was_there: bool, now: float) -> Handshake:
    found = _ON_HUB_ONLINE(state, session, was_there=was_there, now=now)
    return dataclasses.replace(found, hello_at=None) if was_there and not found.synced else found


_ON_HUB_ONLINE = handshake.on_hub_online


# -- at the hub ----------------------------------------------------------------------------------------------------


async def _receipt_before_commit(inbound: Inbound, address: Events, incoming: Incoming) -> None:
    batch = batches.read_batch(incoming.payload, 0)
    receipt = Receipt(stream=batch.stream, through=batch.last)
    inbound._wire.send(Control(address.site, address.worker), encode(receipt))  # noqa: SLF001
    await _ON_EVENTS(inbound, address, incoming)


_ON_EVENTS = Inbound.on_events


def _take_with_holes(batch: Batch, mark: int) -> list[tuple[int, AnyEvent]]:
    return [one for one in batch.numbered() if one[0] > mark]


def _take_again(batch: Batch, mark: int) -> list[tuple[int, AnyEvent]]:
    return list(batch.numbered()) if batch.follows <= mark else []


def _unaccepted_goes_elsewhere(case: Case, number: int, why: str, now: int) -> Case:
    as_idempotent = dataclasses.replace(case, task=case.task._replace(idempotent=True))
    moved = _ON_UNACCEPTED(as_idempotent, number, why, now)
    return case if moved is as_idempotent else _as_it_was(moved, case)


_ON_UNACCEPTED = life.on_unaccepted


def _lost_goes_elsewhere(case: Case, number: int, why: str, now: int) -> Case:
    as_idempotent = dataclasses.replace(case, task=case.task._replace(idempotent=True))
    moved = _ON_LOST(as_idempotent, number, why, now)
    return case if moved is as_idempotent else _as_it_was(moved, case)


_ON_LOST = life.on_lost


def _as_it_was(moved: Case, case: Case) -> Case:
    return dataclasses.replace(moved, task=moved.task._replace(idempotent=case.task.idempotent))


def _never_forget(*args: Any, **more: Any) -> Answer:  # noqa: ANN401
    case, worker, held, _, now = args
    return _ANSWER(case, worker, held, Memory.WHOLE, now, **more)


_ANSWER = hello.answer


def _last_end(all_ends: Iterable[Attempt]) -> Attempt:
    return max(all_ends, key=lambda end: (end.finished_ms or 0, end.number, end.worker))


def _of_class(owner: type, name: str, new: object) -> Wrongly:
    return lambda: patch.object(owner, name, new)


def _of_rules(right: object, wrong: object) -> Wrongly:
    return partial(_everywhere, right, wrong)


YES, NO = _always(answer=True), _always(answer=False)

_connect = Broker.connect


def _keeps_the_session(broker: Broker, client: str, *, starts_clean: bool = False, **more: Any) -> Line:  # noqa: ANN401
    del starts_clean
    return _connect(broker, client, **more)


MUTANTS = (
    Mutant(
        "a hub from a backup takes up what may not run twice as it was",
        "crash_worker crash_worker settle submit settle back_up_hub start_worker settle finish settle "
        "crash_worker restore_hub start_worker settle finish",
        _of_rules(restored.restored, lambda case, _why, _now: case),
    ),
    Mutant(
        "a worker forgets what it has ended",
        "submit moves double_message settle finish settle time",
        _of_class(Disk, "known", _always({})),
    ),
    Mutant(
        "what may not run twice begins before its mark is stored",
        "submit moves moves moves crash_worker start_worker settle",
        _of_class(Runner, "waits_for_mark", NO),
    ),
    Mutant(
        "a worker goes on with its stream though the hub knows more of it",
        "back_up submit settle finish settle restore settle",
        _of_class(Journal, "is_outrun", NO),
    ),
    Mutant(
        "what is dropped leaves no gap",
        "crash_hub inject settle finish settle evict settle",
        _of_class(Gaps, "evict", _evict_silently),
    ),
    Mutant(
        "a batch is not sent again",
        "submit moves moves moves lose_message settle",
        _of_rules(flow.on_tick, lambda known, _: known),
    ),
    Mutant(
        "a receipt counts that the broker kept from before the sync",
        "submit moves moves back_up_hub moves moves crash_worker settle restore_hub",
        _of_rules(flow.on_receipt, _take_any_receipt),
    ),
    Mutant(
        "a hello that is not answered is not said again",
        "crash_worker start_worker moves moves moves moves lose_message settle",
        _of_rules(handshake.on_hub_online, _expect_no_answer),
    ),
    Mutant(
        "a hub whose coming was not heard hears no hello",
        "crash_hub settle start_hub moves lose_message settle",
        _of_rules(handshake.begin, lambda _: handshake.Handshake()),
    ),
    Mutant(
        "the receipt comes before the commit",
        "submit settle",
        _of_class(Inbound, "on_events", _receipt_before_commit),
    ),
    Mutant(
        "a lost batch is taken for a hole",
        "submit moves moves moves lose_message settle finish",
        _of_rules(batches.fresh, _take_with_holes),
    ),
    Mutant(
        "a batch counts again",
        "submit moves moves moves double_message settle",
        _of_rules(batches.fresh, _take_again),
    ),
    Mutant(
        "the numbers of attempts do not grow",
        "submit moves moves stall time unstall settle",
        _of_rules(life.last_number, _always(0)),
    ),
    Mutant(
        "what was not accepted goes elsewhere, whatever it is",
        "submit moves moves stall time unstall settle",
        _of_rules(life.on_unaccepted, _unaccepted_goes_elsewhere),
    ),
    Mutant(
        "what was lost goes elsewhere, whatever it is",
        "submit settle freeze time time time",
        _of_rules(life.on_lost, _lost_goes_elsewhere),
    ),
    Mutant(
        "the last of several ends counts",
        "submit moves moves stall time finish finish unstall settle",
        _of_rules(ends.better_end, _last_end),
    ),
    Mutant(
        "a new journal is taken for the old one",
        "submit moves moves moves finish moves lose_disk settle",
        _of_rules(hello.answer, _never_forget),
    ),
    Mutant(
        "what was lost is sent again to who comes back, whatever was heard of it",
        "submit settle finish moves lose_disk time time time time time start_worker settle cut settle",
        _of_rules(hello._is_untouched, YES),  # noqa: SLF001
    ),
    Mutant(
        "what was offered is placed at once",
        "inject moves moves stall time unstall settle",
        _of_rules(offers.judge, _always(offers.Place())),
    ),
    Mutant(
        "a gap hides no task",
        "crash_hub inject settle finish settle evict evict evict evict",
        _of_rules(offers.hides_tasks, NO),
    ),
    Mutant(
        "what one session declined the next may not have",
        "submit moves stop_worker settle start_worker settle",
        _of_class(Source, "is_behind_hello", YES),
    ),
    Mutant(
        "a new journal takes what the broker has kept for the old one",
        "submit submit moves moves half_open moves lose_disk start_worker settle finish settle",
        _of_class(Broker, "connect", _keeps_the_session),
    ),
)
