"""Answers who asked by MQTT's response topic, where the hub and no worker ends or refuses a task."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from broker.messages import MAX_REPLY_TOPIC, Outcome, Reply, ReplyTo, encode
from hub.rules.task import ENDED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.link import Incoming
    from hub.store.cases import Change
    from hub.wire import Wire


def reply_to(incoming: Incoming) -> ReplyTo | None:
    """Return where `incoming` asked to be answered; None where its topic is longer than any that we answer on."""
    if incoming.reply_topic is None or len(incoming.reply_topic) > MAX_REPLY_TOPIC:
        return None
    correlation = base64.b64encode(incoming.correlation).decode() if incoming.correlation is not None else None
    return ReplyTo(topic=incoming.reply_topic, correlation=correlation)


class Replies:
    """Publishes replies."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def send(self, to: ReplyTo, reply: Reply) -> None:
        """Publish `reply`, if its topic may be published to."""
        if self._wire.topics.is_reply(to.topic):
            correlation = base64.b64decode(to.correlation) if to.correlation is not None else None
            self._wire.send_to(to.topic, encode(reply), correlation)

    def on_changes(self, changes: Sequence[Change]) -> None:
        """Tell who waits how the hub ended their task: the end of an attempt is its worker's to tell."""
        for before, task in changes:
            has_ended = task.state in ENDED and (before is None or before.state not in ENDED)
            if has_ended and task.reply and task.worker is None:
                end = {"outcome": Outcome(task.state.value), "result": task.result, "error": task.error}
                reply = Reply.model_validate({"task": task.id, **end})
                self.send(ReplyTo.model_validate_json(task.reply), reply)
