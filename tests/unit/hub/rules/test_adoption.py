"""Who answers for a task that passes by: the decision table of DESIGN §3."""

from __future__ import annotations

import pytest

from broker.topics import SiteTasks, WorkerTasks
from hub.rules.adoption import HANDED_OUT_MS, Adopt, Answer, Leave, Watch, Witness, who_answers
from hub.rules.presence import Presence, PresenceState, Reason
from hub.rules.task import Candidate

NOW = 1_000_000
EXPIRY = 60_000


def witness(
    worker: str = "w1",
    site: str = "site-a",
    state: PresenceState = PresenceState.ONLINE,
    *,
    gone_ms: int = 0,
    by_http: bool = False,
    reason: Reason | None = None,
) -> Witness:
    gone_at = NOW - gone_ms
    presence = Presence(state=state, reason=reason, since_ms=gone_at, session=f"s-{worker}", last_seen_ms=gone_at)
    return Witness(worker, site, presence, EXPIRY, f"i-{worker}", f"st-{worker}", by_http=by_http)


NOBODY: list[Witness] = []
ONLINE = [witness()]
SUSPECT = [witness(state=PresenceState.SUSPECT)]
OFFLINE = [witness(state=PresenceState.OFFLINE, gone_ms=EXPIRY)]
GONE = [witness(state=PresenceState.OFFLINE, gone_ms=EXPIRY + 1)]
SILENT = [witness(state=PresenceState.OFFLINE, gone_ms=HANDED_OUT_MS, reason=Reason.HEARTBEAT_MISSED)]
CUT_OFF = [witness(state=PresenceState.OFFLINE, gone_ms=HANDED_OUT_MS, reason=Reason.SITE_LINK_DOWN)]
LONG_SILENT = [witness(state=PresenceState.OFFLINE, gone_ms=HANDED_OUT_MS + 1, reason=Reason.HEARTBEAT_MISSED)]
DEAD = [witness(state=PresenceState.OFFLINE, reason=Reason.CONNECTION_LOST)]
ELSEWHERE = [witness(site="site-b")]
SITE, WORKER = SiteTasks("site-a"), WorkerTasks("site-a", "w1")
BY_HTTP = [witness(by_http=True)]
W1 = Watch({"w1": Candidate("i-w1", "st-w1")})
W1_OR_ITS_LIKE = Watch({"w1": Candidate("", "st-w1")})
"""Who took it while the hub was away did so by an intake that the hub may not have heard of."""


@pytest.mark.parametrize(
    ("address", "witnesses", "has_id", "away", "answer"),
    [
        # a site topic reaches whoever is connected now
        (SITE, NOBODY, True, False, Adopt()),
        (SITE, NOBODY, False, False, Adopt()),
        (SITE, ONLINE, True, False, W1),
        (SITE, ONLINE, False, False, Leave()),
        (SITE, SUSPECT, True, False, W1),
        (SITE, SUSPECT, False, False, Leave()),
        (SITE, OFFLINE, True, False, Adopt()),
        (SITE, OFFLINE, False, False, Adopt()),
        # who is silent, frozen say, may be handed it by a broker that has not noticed
        (SITE, SILENT, True, False, W1),
        (SITE, SILENT, False, False, Adopt()),
        (SITE, CUT_OFF, True, False, W1),
        (SITE, LONG_SILENT, True, False, Adopt()),
        (SITE, DEAD, True, False, Adopt()),
        (SITE, ELSEWHERE, True, False, Adopt()),
        (SITE, ELSEWHERE, False, False, Adopt()),
        # who is connected by HTTP is no member of the shared subscription
        (SITE, BY_HTTP, True, False, Adopt()),
        (SITE, BY_HTTP, False, False, Adopt()),
        (WORKER, BY_HTTP, True, False, W1),
        (WORKER, BY_HTTP, False, False, Leave()),
        # while the hub was away, anybody of the site may have been online
        (SITE, NOBODY, True, True, Adopt()),
        (SITE, NOBODY, False, True, Leave()),
        (SITE, OFFLINE, True, True, W1_OR_ITS_LIKE),
        (SITE, BY_HTTP, True, True, W1_OR_ITS_LIKE),
        (SITE, OFFLINE, False, True, Leave()),
        (SITE, ELSEWHERE, True, True, Adopt()),
        (SITE, ELSEWHERE, False, True, Leave()),
        # a worker's own topic waits in its session, as long as the broker keeps that
        (WORKER, NOBODY, True, False, Adopt()),
        (WORKER, NOBODY, False, False, Adopt()),
        (WORKER, ONLINE, True, False, W1),
        (WORKER, ONLINE, False, False, Leave()),
        (WORKER, OFFLINE, True, False, W1),
        (WORKER, OFFLINE, False, False, Leave()),
        (WORKER, GONE, True, False, Adopt()),
        (WORKER, GONE, False, False, Adopt()),
        (WORKER, [witness("w2")], True, False, Adopt()),
        (WORKER, ELSEWHERE, True, False, Adopt()),
    ],
)
def test_who_answers(
    address: SiteTasks | WorkerTasks,
    witnesses: list[Witness],
    has_id: bool,  # noqa: FBT001
    away: bool,  # noqa: FBT001
    answer: Answer,
) -> None:
    assert who_answers(address, witnesses, has_id=has_id, away=away, now=NOW) == answer


def test_every_worker_that_may_have_it_is_a_candidate() -> None:
    fleet = [
        witness("w1"),
        witness("w2", state=PresenceState.SUSPECT),
        witness("w3", state=PresenceState.OFFLINE),
        witness("w4", "site-b"),
    ]
    assert who_answers(SITE, fleet, has_id=True, away=False, now=NOW) == Watch(
        {"w1": Candidate("i-w1", "st-w1"), "w2": Candidate("i-w2", "st-w2")}
    )
