"""What to do with each task that reached this worker: take it, decline it, reject it, or ignore it.

It is decided in two steps. `examine` looks at the message and at what this worker is; `recall` looks at what the worker
remembers, which only the transaction that commits the decision can know for certain.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from broker.messages import (
    MAX_TIMEOUT_SECONDS,
    Assignment,
    Injected,
    InputProblem,
    Outcome,
    Reply,
    TaskAccepted,
    TaskDeclined,
    TaskRejected,
    Via,
    digest,
    encode,
)
from broker.problems import Problem, shown
from broker.reading import Refused, excerpt, read_site_tasks, read_worker_tasks
from broker.requirements import unmet
from edge_agent.rules.attempts import Ending, Held, Known, Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pydantic import JsonValue

    from broker.messages import ReplyTo, Scalar, TaskRequest

FIRST_ATTEMPT = 1
STOPPING = "the worker is stopping"
FOR_THE_HUB = 'target is "all", which is the hub\'s to expand'


class Kind(Protocol):
    """What admission asks of a kind of task that runs here."""

    def problems(self, params: Mapping[str, JsonValue]) -> list[Problem]:
        """Return what is wrong with a task's params."""

    def refusal(self, params: Mapping[str, JsonValue]) -> str | None:
        """Return why the policy of this worker forbids a task, if it does."""


@dataclass(frozen=True, slots=True)
class Host:
    """What this worker is.

    Attributes:
        kinds: The kinds of which tasks can run.
        capabilities: What it has.
        lacking: Why kinds that there is code for are none of these.
        has_room: Whether it can take more tasks of the site, which another worker could take.

    """

    kinds: Mapping[str, Kind]
    capabilities: Mapping[str, Scalar]
    lacking: Mapping[str, str] = field(default_factory=dict)
    has_room: bool = True


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a tasks topic, as it came.

    Attributes:
        via: Which tasks topic.
        reply: Where the sender wants its answer.
        wrong_reply: The response topic that the sender gave, where it may not be published to.

    """

    topic: str
    via: Via
    payload: bytes
    at: int
    reply: ReplyTo | None = None
    wrong_reply: str | None = None


@dataclass(frozen=True, slots=True)
class Take:
    """Hold the attempt and run it; with an `ending` it has ended before it began."""

    held: Held
    ending: Ending | None = None

    @property
    def injected(self) -> Injected | None:
        """What the hub must hear of a task that it did not assign."""
        one = self.held
        return Injected(spec=one.spec, via=one.via, reply=one.reply) if one.via else None

    @property
    def event(self) -> TaskAccepted:
        """What the journal says of it."""
        ref = self.held.ref
        return TaskAccepted(at=self.held.accepted_at, task=ref.task, attempt=ref.attempt, injected=self.injected)


@dataclass(frozen=True, slots=True)
class Decline:
    """Somebody else must run it."""

    event: TaskDeclined


@dataclass(frozen=True, slots=True)
class Reject:
    """It is no task."""

    event: TaskRejected

    @property
    def reply(self) -> Reply:
        """What the sender hears."""
        return Reply(task=self.event.task, outcome="rejected", error=self.event.reason)


@dataclass(frozen=True, slots=True)
class Ignore:
    """It is known: a repeated delivery, or an attempt that was superseded."""

    ref: Ref


Verdict = Take | Decline | Reject | Ignore


def examine(message: Message, host: Host, new_id: Callable[[], str]) -> list[Verdict]:
    """Return what to do with each task of a message, as far as the message says; `new_id` names those without an id."""
    if message.wrong_reply is not None:
        problem = Problem("response topic", shown(message.wrong_reply), "a topic under replies/")
        return [_rejection(message, Refused((problem,), excerpt(message.payload)))]
    read = read_worker_tasks if message.via is Via.WORKER else read_site_tasks
    is_array = message.payload.lstrip()[:1] == b"["
    return [
        _judge(one, message, host, new_id, number if is_array else None)
        for number, one in enumerate(read(message.payload))
    ]


def assigned(assignments: Iterable[Assignment], host: Host, at: int) -> list[Verdict]:
    """Return what to do with what the hub assigned, whichever way it came."""
    return [_judge_assignment(one, host, at) for one in assignments]


def fired(request: TaskRequest, job: str, worth_seconds: float | None, host: Host, at: int) -> Verdict:
    """Return what to do with a firing of one of this worker's own jobs.

    One that cannot run now is the hub's to give back when it can; but no longer than the next firing comes, or a day
    without docker would end in a day's firings at once.
    """
    message = Message(f"schedule {job}", Via.SCHEDULE, encode(request), at)
    verdict = _judge(request, message, host, lambda: "", None)
    if not isinstance(verdict, Decline) or request.expires_in_seconds is not None or worth_seconds is None:
        return verdict
    lasting = request.model_copy(update={"expires_in_seconds": min(worth_seconds, MAX_TIMEOUT_SECONDS)})
    return _judge(lasting, message, host, lambda: "", None)


def recall(verdicts: Sequence[Verdict], known: Mapping[str, Known], message: Message | None) -> list[Verdict]:
    """Return `verdicts` in the light of what is known of their ids."""
    memory = dict(known)
    recalled: list[Verdict] = []
    for verdict in verdicts:
        final = _recall(verdict, memory, message) if isinstance(verdict, Take) else verdict
        if isinstance(final, Take):
            memory[final.held.ref.task] = Known(final.held.ref.attempt, final.held.digest)
        recalled.append(final)
    return recalled


def _judge(
    one: Assignment | TaskRequest | Refused,
    message: Message,
    host: Host,
    new_id: Callable[[], str],
    position: int | None,
) -> Verdict:
    if isinstance(one, Refused):
        return _rejection(message, one)
    if isinstance(one, Assignment):
        return _judge_assignment(one, host, message.at)
    spec = one.spec()
    kind = host.kinds.get(spec.kind)
    is_ours = spec.target == "one"  # of one for all workers there is nothing to judge here: each will judge its own
    problems = kind.problems(spec.params) if kind and is_ours else []
    if problems:
        return _rejection(message, Refused(_within(problems, position), excerpt(message.payload), one.id))
    held = Held(
        ref=Ref(one.id or new_id(), FIRST_ATTEMPT),
        spec=spec,
        digest=digest(spec),
        accepted_at=message.at,
        via=message.via,
        reply=message.reply,
    )
    if not is_ours:
        return _declined(held, FOR_THE_HUB)
    is_full = message.via is Via.SITE and not host.has_room
    full = _declined(held, "no room: the queue is full", busy=True) if is_full else None
    return _declined_by(host, held) or full or Take(held)


def _judge_assignment(one: Assignment, host: Host, at: int) -> Verdict:
    held = Held(ref=Ref(one.id, one.attempt), spec=one, digest=digest(one), accepted_at=at, reply=one.reply)
    kind = host.kinds.get(one.kind)
    problems = kind.problems(one.params) if kind else []
    if problems:  # no other worker could run it either, so it has failed
        return Take(held, Ending(Outcome.FAILED, error="; ".join(map(str, problems))))
    return _declined_by(host, held) or Take(held)  # what the policy says is asked of params that can be read


def _declined_by(host: Host, held: Held) -> Decline | None:
    """Decline what this worker cannot run, or may not.

    What it cannot run the hub learns from its births, so it is to go by those: it may offer it again when they say so.
    """
    kind = host.kinds.get(held.spec.kind)
    if kind is None:
        reason = host.lacking.get(held.spec.kind)
        return _declined(held, f"{held.spec.kind} does not run here{f': {reason}' if reason else ''}", busy=True)
    lacking = unmet(held.spec.requires, host.capabilities)
    if lacking:
        return _declined(held, "; ".join(lacking), busy=True)
    refusal = kind.refusal(held.spec.params)
    return _declined(held, refusal) if refusal else None


def _recall(take: Take, memory: Mapping[str, Known], message: Message | None) -> Verdict:
    ref = take.held.ref
    known = memory.get(ref.task)
    if known is None:
        return take
    if take.held.via is None:
        return take if ref.attempt > known.attempt else Ignore(ref)
    if known.digest == take.held.digest or message is None:
        return Ignore(ref)
    problem = Problem("id", shown(ref.task), "an id that no other task has")
    refused = Refused((problem,), excerpt(message.payload), ref.task)
    return _rejection(message, refused, reason=f"clashing id: {problem}")


def _within(problems: Iterable[Problem], position: int | None) -> tuple[Problem, ...]:
    """Name the element of the array that the problems are in."""
    prefix = "" if position is None else f"[{position}]."
    return tuple(Problem(f"{prefix}{one.field}", one.value, one.expected) for one in problems)


def _declined(held: Held, reason: str, *, busy: bool = False) -> Decline:
    task, attempt = held.ref
    injected = Take(held).injected
    event = TaskDeclined(at=held.accepted_at, task=task, attempt=attempt, reason=reason, busy=busy, injected=injected)
    return Decline(event)


def _rejection(message: Message, refused: Refused, *, reason: str | None = None) -> Reject:
    return Reject(
        TaskRejected(
            at=message.at,
            topic=message.topic,
            reason=reason or refused.reason,
            problems=tuple(
                InputProblem(field=one.field, value=one.value, expected=one.expected) for one in refused.problems
            ),
            payload=refused.payload,
            task=refused.task,
        )
    )
