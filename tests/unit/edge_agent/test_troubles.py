"""How often the log tells of a link that does not come up."""

from __future__ import annotations

from dataclasses import dataclass, field

from structlog.testing import capture_logs

from broker.errors import LinkDown, Refused, Trouble
from edge_agent.troubles import STEADY_AFTER_SECONDS, TELL_AGAIN_SECONDS, Troubles

DOWN = LinkDown("mqtt://b", "connection refused")


def refused(reason: str = "not authorized") -> Refused:
    return Refused("mqtt://b", 135, Trouble(reason, "enrol again"), passing=False)


@dataclass
class Told:
    now: float = 0.0
    troubles: Troubles = field(init=False)

    def __post_init__(self) -> None:
        self.troubles = Troubles(lambda: self.now)

    def after(self, down: LinkDown, event: str = "broker_link_down") -> list[str]:
        """Return at which levels it was told."""
        with capture_logs() as logs:
            self.troubles.on_down(event, down, 1.0)
        return [one["log_level"] for one in logs if one["log_level"] != "debug"]


def test_each_try_that_reaches_nobody_is_told() -> None:
    told = Told()
    assert [told.after(DOWN) for _ in range(3)] == [["warning"]] * 3


def test_a_refusal_is_told_once_and_again_after_an_hour() -> None:
    told = Told()
    assert [told.after(refused()) for _ in range(3)] == [["error"], [], []]
    told.now = TELL_AGAIN_SECONDS
    assert told.after(refused()) == ["error"]


def test_another_refusal_and_that_of_another_link_are_told() -> None:
    told = Told()
    assert told.after(refused()) == ["error"]
    assert told.after(refused(), "intake_link_down") == ["error"]
    assert told.after(refused("banned")) == ["error"]


def test_who_is_online_for_a_moment_only_is_not_told_again() -> None:
    told = Told()
    told.after(refused())
    told.troubles.on_online()
    assert told.after(refused()) == []
    told.troubles.on_online()
    told.now = STEADY_AFTER_SECONDS
    assert told.after(refused()) == ["error"]


def test_the_last_trouble_is_kept_until_all_is_well() -> None:
    told = Told()
    told.after(refused())
    assert told.troubles.last is not None
    assert told.troubles.last.remedy == "enrol again"
    told.troubles.on_online()
    assert told.troubles.last is None
