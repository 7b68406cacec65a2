"""What is asked for: a stream of tasks, each a pure function of the seed and its number."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.chaos.city import City

KIND = "chaos.work"
MAX_ATTEMPTS = 100
"""More than any task is interrupted: one that may run twice must succeed in the end."""


class Way(StrEnum):
    """How a task comes in."""

    HTTP = "http"
    SITE = "site topic"
    OWN = "worker topic"


@dataclass(frozen=True, slots=True)
class Order:
    """A task as it is asked for.

    Attributes:
        worker: The only one that may run it, if it is for one.
        milliseconds: How long it runs.
        facts: How many facts it observes.

    """

    id: str
    way: Way
    idempotent: bool
    site: str
    worker: str | None
    milliseconds: int
    facts: int

    @property
    def once(self) -> bool:
        """Whether it may be published once only.

        A task that is published twice can reach two workers of a site, or one before and after it lost its disk
        (docs/faults.md, "What is not promised"). So one that may not run twice is published once, whatever becomes of
        that.
        """
        return self.way is not Way.HTTP and not self.idempotent

    def body(self) -> dict[str, Any]:
        """Return it as it is injected."""
        return {
            "id": self.id,
            "kind": KIND,
            "params": {"milliseconds": self.milliseconds, "facts": self.facts},
            "idempotent": self.idempotent,
            "retry": {"max_attempts": MAX_ATTEMPTS, "backoff_seconds": 0.1},
        }

    def submission(self) -> dict[str, Any]:
        """Return it as it is posted."""
        where = {"site": self.site, "worker": self.worker}
        return {**self.body(), **{name: value for name, value in where.items() if value}}


def order(seed: int, number: int, city: City) -> Order:
    """Return task `number` of a run."""
    dice = random.Random(f"task:{seed}:{number}")  # noqa: S311  it is to be repeated
    place = dice.choice(city.places)
    (way,) = dice.choices([Way.HTTP, Way.SITE, Way.OWN], [60, 25, 15])
    pinned = way is Way.OWN or (way is Way.HTTP and dice.random() < 0.1)
    lasts = dice.uniform(0, 20) if dice.random() < 0.9 else dice.uniform(100, 2000)
    return Order(
        id=f"t{number:06}",
        way=way,
        idempotent=dice.random() < 0.65,
        site=place.site,
        worker=place.name if pinned else None,
        milliseconds=round(lasts),
        facts=dice.choice((0, 1, 1, 2, 4)),
    )
