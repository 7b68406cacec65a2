"""How many tasks of some sort may be with workers at one time: of a site, of a label, or of both.

>>> print(Limit(labels={"job": "backup"}, per="site", max=1))
job=backup per site: 1
>>> print(Limit(kind="container", site="site-a", each="customer", max=3))
kind=container at site-a for each customer: 3
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from broker.messages import Key, Kind, LabelValue, SiteName

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hub.rules.placement.place import Place, Shape


class Limit(BaseModel):
    """At most `max` tasks of some sort are assigned or running at one time.

    Attributes:
        labels: The tasks that have all of these labels; else all tasks.
        kind: Of these the tasks of one kind.
        site: Of these only what is at one site, wherever else it could run.
        each: Of these the tasks that have a label of this name; each of its values is counted for itself.
        per: What the count is of: the whole fleet, each site, or each worker.
        max: How many; 0 holds them all back.

    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    labels: dict[Key, LabelValue] = {}
    kind: Kind | None = None
    site: SiteName | None = None
    each: Key | None = None
    per: Literal["fleet", "site", "worker"] = "fleet"
    max: int = Field(ge=0)

    def __str__(self) -> str:
        """Return the limit as people say it."""
        words = [f"{name}={value}" for name, value in self.labels.items()]
        words += [f"kind={self.kind}"] if self.kind else []
        words += [f"at {self.site}"] if self.site else []
        words += [f"for each {self.each}"] if self.each else []
        words += [f"per {self.per}"] if self.per != "fleet" else []
        return f"{' '.join(words or ['all'])}: {self.max}"


@dataclass(frozen=True, slots=True)
class Cap:
    """A limit as it concerns tasks of one shape.

    Attributes:
        number: Which limit it is, in the order of the settings.
        value: Where the limit is for each value of a label: which one.

    """

    number: int
    value: str | None
    limit: Limit = field(compare=False, hash=False)

    @property
    def level(self) -> Literal["fleet", "site", "worker"]:
        """What has to be looked at, to know whether it is reached: a limit at one site is like one per site there."""
        return "site" if self.limit.per == "fleet" and self.limit.site else self.limit.per

    def scope(self, place: Place) -> str | None:
        """Return the name of what is counted where a task is with `place`; None where it is not counted."""
        if self.limit.site not in (None, place.site):
            return None
        return {"fleet": "", "site": place.site, "worker": place.worker}[self.level]


class Count(NamedTuple):
    """What is counted for itself: under one cap, at one site or worker."""

    cap: Cap
    scope: str


def labels_of_interest(limits: Iterable[Limit]) -> frozenset[str]:
    """Return the names of all labels that some limit looks at."""
    return frozenset(name for limit in limits for name in (*limit.labels, *([limit.each] if limit.each else ())))


def caps(limits: Sequence[Limit], shape: Shape) -> tuple[Cap, ...]:
    """Return what concerns tasks of `shape`."""
    labels = dict(shape.labels)
    return tuple(
        Cap(number, labels[limit.each] if limit.each else None, limit)
        for number, limit in enumerate(limits)
        if labels.items() >= limit.labels.items()
        and limit.kind in (None, shape.kind)
        and (limit.each is None or limit.each in labels)
        and (limit.site is None or shape.site in (None, limit.site))
    )


class Usage:
    """How much of each limit is in use: which tasks count where."""

    def __init__(self) -> None:
        self._counts: Counter[Count] = Counter()
        self._held: dict[str, tuple[Count, ...]] = {}

    @property
    def tasks(self) -> list[str]:
        """Every task that counts somewhere."""
        return list(self._held)

    def is_open(self, cap: Cap, place: Place, *, but: str = "") -> bool:
        """Tell whether one more task may go to `place`, as far as `cap` is concerned, were the task `but` not there."""
        scope = cap.scope(place)
        if scope is None or self.is_below(cap, scope):
            return True
        count = Count(cap, scope)
        return count in self._held.get(but, ()) and self._counts[count] <= cap.limit.max

    def is_below(self, cap: Cap, scope: str) -> bool:
        """Tell whether one more task may be counted there."""
        return self._counts[Count(cap, scope)] < cap.limit.max

    def hold(self, task: str, caps: Iterable[Cap], place: Place) -> list[Count]:
        """Count a task that is with `place`; return what that makes free elsewhere."""
        counts = tuple(Count(cap, scope) for cap in caps if (scope := cap.scope(place)) is not None)
        if self._held.get(task, ()) == counts:
            return []
        freed = self.release(task)
        if counts:
            self._held[task] = counts
            self._counts.update(counts)
        return freed

    def release(self, task: str) -> list[Count]:
        """Count a task no more; return what that makes free."""
        freed = []
        for count in self._held.pop(task, ()):
            self._counts[count] -= 1
            if self._counts[count] == count.cap.limit.max - 1:
                freed.append(count)
            if not self._counts[count]:
                del self._counts[count]
        return freed
