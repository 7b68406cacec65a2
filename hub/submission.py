"""Tasks in: by HTTP, and those that the hub adopts from the tasks topics that it watches."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from broker.clock import new_id, now_ms
from broker.log import get_logger
from broker.messages import Assignment, Reply, TaskRequest, Via
from broker.problems import Problem, shown
from broker.reading import Refused, excerpt, read_site_tasks, read_worker_tasks
from broker.topics import SiteTasks, WorkerTasks
from hub.replies import reply_to
from hub.rules.admission import refusals
from hub.rules.adoption import Adopt, Leave, Watch, who_answers
from hub.rules.kept import Rejection
from hub.rules.task import ONE, VIA_HTTP, Task, new_task
from hub.store import tasks as store
from hub.store.reports import add_rejections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from broker.errors import TopicError
    from broker.link import Incoming
    from broker.messages import ReplyTo, TaskSpec, TaskSubmission
    from hub.feed import Feed
    from hub.fleet import Fleet
    from hub.replies import Replies
    from hub.rules.callers import Caller
    from hub.store.cases import Change
    from hub.store.ledger import Ledger
    from hub.store.tasks import Submitted
    from hub.wire import Wire

log = get_logger(__name__)

HUB = "hub"
"""Who reports what the hub itself refuses."""


class Submissions:
    """Takes tasks in, however they come."""

    def __init__(self, ledger: Ledger, feed: Feed, fleet: Fleet, wire: Wire, replies: Replies) -> None:
        self._ledger = ledger
        self._feed = feed
        self._fleet = fleet
        self._wire = wire
        self._replies = replies

    def problems(self, spec: TaskSpec) -> list[Problem]:
        """Return why `spec` is refused."""
        return refusals(spec, self._fleet.kinds())

    async def post(self, submissions: Sequence[TaskSubmission], by: Caller) -> list[Submitted]:
        """Commit tasks that somebody has posted, who answers for `problems` being empty."""
        now = now_ms()
        new = [
            new_task(one.spec(), one.id or new_id(), via=VIA_HTTP, site=one.site, pinned=one.worker, now=now)
            for one in submissions
        ]
        results, changes = await self._ledger.commit(partial(store.submit_by, new=new, by=by))
        self._feed.publish(changes)
        return results

    async def on_tasks(self, address: SiteTasks | WorkerTasks, incoming: Incoming, *, away: bool) -> None:
        """See a message of a tasks topic pass by; take what no worker answers for."""
        if incoming.retained:  # the broker repeats it to every new subscriber: it ran when it was published
            log.warning("retained_task_ignored", topic=incoming.topic)
            incoming.ack()
            return
        sighting = _Sighting(address, incoming, self, away=away)
        for one in sighting.read():
            sighting.judge(one)
        changes = await self._ledger.commit(sighting.write)
        incoming.ack()
        self._feed.publish(changes)
        if changes:
            log.debug("adopted", tasks=[change.after.id for change in changes])
        for refusal in sighting.rejections:
            self._answer(refusal, sighting.reply)

    async def on_stray(self, incoming: Incoming, error: TopicError) -> None:
        """Refuse a message on a topic that is none of ours, such as that of a site with an impossible name."""
        if incoming.retained:  # it was refused when it was published
            incoming.ack()
            return
        rejection = Rejection(
            now_ms(), incoming.topic, None, HUB, None, str(error), [error.problem], excerpt(incoming.payload)
        )
        await self._ledger.commit(partial(add_rejections, rows=[rejection]))
        incoming.ack()
        self._answer(rejection, reply_to(incoming))

    def answerer(self, address: SiteTasks | WorkerTasks, *, has_id: bool, away: bool) -> Adopt | Watch | Leave:
        """Return who answers for a task that passes by now."""
        return who_answers(address, self._fleet.witnesses(), has_id=has_id, away=away, now=now_ms())

    def may_answer_on(self, topic: str) -> bool:
        """Tell whether a response topic is one of ours."""
        return self._wire.topics.is_reply(topic)

    def _answer(self, refusal: Rejection, to: ReplyTo | None) -> None:
        if to:
            self._replies.send(to, Reply(task=refusal.task, outcome="rejected", error=refusal.reason))


class _Sighting:
    """One message of a tasks topic, as the hub sees it pass by."""

    def __init__(
        self, address: SiteTasks | WorkerTasks, incoming: Incoming, submissions: Submissions, *, away: bool
    ) -> None:
        self._address = address
        self._incoming = incoming
        self._away = away
        self._submissions = submissions
        self._pinned = address.worker if isinstance(address, WorkerTasks) else None
        self._tasks: list[Task] = []
        self.rejections: list[Rejection] = []
        self.reply = reply_to(incoming)

    def read(self) -> Sequence[Assignment | TaskRequest | Refused]:
        """Return what the message holds."""
        asked = self._incoming.reply_topic
        if asked is not None and not self._submissions.may_answer_on(asked):
            problem = Problem("response topic", shown(asked), "a topic under replies/")
            return [Refused((problem,), excerpt(self._incoming.payload))]
        payload = self._incoming.payload
        return read_worker_tasks(payload) if isinstance(self._address, WorkerTasks) else read_site_tasks(payload)

    def judge(self, one: Assignment | TaskRequest | Refused) -> None:
        """Decide what the hub does with one task. An assignment is another hub's."""
        if isinstance(one, Refused):
            if isinstance(self._answerer(has_id=False), Adopt):
                self._reject(one.task, one.reason, one.problems, one.payload)
        elif isinstance(one, TaskRequest):
            self._judge_request(one)

    def write(self, connection: Connection) -> list[Change]:
        """Commit what was decided; an id that is another task's is refused here, where it is known."""
        results, changes = store.submit(connection, self._tasks)
        for task, result in zip(self._tasks, results, strict=True):
            if result.clash and task.offered_to is None:  # else the worker that takes it reports it
                problem = Problem("id", shown(task.id), "an id that no other task has")
                self._reject(task.id, f"clashing id: {problem}", [problem], excerpt(self._incoming.payload))
        add_rejections(connection, self.rejections)
        return changes

    def _judge_request(self, request: TaskRequest) -> None:
        answer = self._answerer(has_id=request.id is not None)
        problems = self._submissions.problems(request)
        if problems:
            # A worker that answers for it declines it, and then it is refused with what that worker said.
            if isinstance(answer, Adopt):
                self._reject(request.id, "; ".join(map(str, problems)), problems, excerpt(self._incoming.payload))
        elif not isinstance(answer, Leave):
            self._tasks.append(self._task(request, answer))

    def _task(self, request: TaskRequest, answer: Adopt | Watch) -> Task:
        via = Via.WORKER if self._pinned else Via.SITE
        task = new_task(
            request.spec(),
            request.id or new_id(),
            via=via,
            site=self._address.site,
            pinned=self._pinned,
            now=now_ms(),
            reply=self.reply,
        )
        if isinstance(answer, Watch) and request.target == ONE:  # one for all of them is declined by whoever takes it
            return store.offered(task, answer.candidates)
        return task

    def _answerer(self, *, has_id: bool) -> Adopt | Watch | Leave:
        return self._submissions.answerer(self._address, has_id=has_id, away=self._away)

    def _reject(self, task: str | None, reason: str, problems: Sequence[Problem], payload: str) -> None:
        topic, site = self._incoming.topic, self._address.site
        self.rejections.append(Rejection(now_ms(), topic, site, HUB, task, reason, problems, payload))
