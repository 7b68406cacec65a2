"""Carries out what people ask of tasks: commits it, tells the rest of the hub, and the worker that must stop."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from broker.clock import now_ms
from broker.log import get_logger
from hub.store.actions import do

if TYPE_CHECKING:
    from hub.dispatch import Dispatcher
    from hub.feed import Feed
    from hub.rules.actions import Action
    from hub.rules.callers import Caller
    from hub.store.ledger import Ledger

log = get_logger(__name__)


class Actions:
    """Cancels, retries and resolves tasks."""

    def __init__(self, ledger: Ledger, feed: Feed, dispatcher: Dispatcher) -> None:
        self._ledger = ledger
        self._feed = feed
        self._dispatcher = dispatcher

    async def do(self, task_id: str, action: Action, by: Caller) -> None:
        """Do one thing to one task, as somebody asked; return after the commit.

        Raises:
            NotFound: If there is no such task.
            NotPossible: If its state does not allow that.

        """
        done = await self._ledger.commit(partial(do, task_id=task_id, action=action, now=now_ms(), by=by))
        log.info("task_action", task=task_id, action=action.verb.value, by=by.who)
        self._feed.publish(done.changes)
        self._dispatcher.on_drops(done.drops)
