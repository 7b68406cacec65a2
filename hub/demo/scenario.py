"""What the demo asks of its three sites, and what each task should come to."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

HUB = "http://hub.demo"
"""Stands for the hub's URL, which depends on which port is free."""


@dataclass(frozen=True, slots=True)
class Step:
    """One task.

    Attributes:
        body: The task as it is posted, or injected.
        expected: The state that it should end in.
        inject_at: The site on whose topic `mosquitto_pub` publishes it; None posts it to the hub.
        shows: What this step is there to show.

    """

    body: dict[str, object]
    expected: str
    shows: str
    inject_at: str | None = None

    @property
    def id(self) -> str:
        """The id of the task."""
        return str(self.body["id"])

    def payload(self, hub_url: str) -> str:
        """Return the task as JSON."""
        return json.dumps(self.body).replace(HUB, hub_url)


@dataclass(frozen=True, slots=True)
class DemoWorker:
    """A worker of the demo."""

    id: str
    site: str
    capabilities: dict[str, bool] = field(default_factory=dict)


WORKERS = (
    DemoWorker("worker-site-a-01", "site-a", {"camera": True}),
    DemoWorker("worker-site-b-01", "site-b", {"camera": True, "network_access": True}),
    DemoWorker("worker-site-c-01", "site-c"),
)

ALLOWED_COMMANDS = ["echo **", "uptime", "false"]

STEPS = (
    Step(
        {"id": "hello-a", "kind": "noop", "site": "site-a", "params": {"hello": "site-a"}},
        "succeeded",
        "a task by HTTP, for one site",
    ),
    Step(
        {"id": "anywhere", "kind": "sleep", "params": {"seconds": 1}, "requires": {"camera": True}},
        "succeeded",
        "any worker that has a camera",
    ),
    Step(
        {"id": "pinned", "kind": "sleep", "worker": "worker-site-b-01", "params": {"seconds": 1.5}},
        "succeeded",
        "one worker and no other",
    ),
    Step(
        {"id": "injected", "kind": "command", "params": {"argv": ["echo", "hello from site-c"]}},
        "succeeded",
        "a command, by mosquitto_pub",
        inject_at="site-c",
    ),
    Step(
        {"id": "handler", "kind": "sample.disk", "site": "site-a", "params": {"path": "/"}},
        "succeeded",
        "a Python handler",
    ),
    Step(
        {"id": "everywhere", "kind": "noop", "target": "all"},
        "succeeded",
        "one for each worker of every site",
    ),
    Step(
        {
            "id": "check",
            "kind": "http",
            "params": {"method": "GET", "url": f"{HUB}/health", "expect": {"status": 200}},
        },
        "succeeded",
        "a check, where there is a network",
    ),
    Step(
        {"id": "exit-code", "kind": "command", "site": "site-b", "params": {"argv": ["false"]}},
        "failed",
        "a command that fails",
    ),
    Step(
        {"id": "too-slow", "kind": "sleep", "site": "site-c", "params": {"seconds": 60}, "timeout_seconds": 1},
        "timed_out",
        "a time limit",
    ),
    Step(
        {
            "id": "no-camera",
            "kind": "noop",
            "site": "site-c",
            "requires": {"camera": True},
            "expires_in_seconds": 6,
        },
        "expired",
        "nobody at site-c has a camera",
    ),
)
"""Between them: both ways in, every kind that this version has, and every way in which a task ends here."""
