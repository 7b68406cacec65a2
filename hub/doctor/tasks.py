"""What the doctor thinks of tasks that wait: values in, findings out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from broker.doctor import Finding, ok, warn
from hub.rules.placement import Place, explain, fits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hub.rules.placement import Shape
    from hub.store.workers import WorkerRow

_REMEDY = "start a worker that has it, or let one have it (WORKER_SITE, WORKER_CAPABILITIES); or cancel them"


def check_waiting(tasks: Mapping[Shape, int], workers: Sequence[WorkerRow]) -> list[Finding]:
    """Say which tasks wait for something that no worker has, whoever came back.

    Args:
        tasks: How many wait of each shape.
        workers: Everybody who was ever seen, as if they were all there.

    """
    places = [_place(one) for one in workers]
    hopeless: Counter[str] = Counter()
    for shape, count in tasks.items():
        if not any(fits(shape, place) for place in places):
            hopeless[explain(shape, places).replace("no online worker", "no worker")] += count
    if not hopeless:
        return [ok(f"{tasks_of(sum(tasks.values()))}, each for somebody who could run it")]
    return [
        warn(f"{tasks_of(count)} for what nobody can do, online or not: {reason}", _REMEDY)
        for reason, count in hopeless.most_common()
    ]


def tasks_of(count: int) -> str:
    """Say how many tasks wait."""
    return f"{count or 'no'} tasks wait" if count != 1 else "1 task waits"


def _place(one: WorkerRow) -> Place:
    birth = one.birth
    if birth is None:
        return Place(one.id, one.site, online=True, slots=1, kinds=frozenset(), capabilities={})
    return Place(
        one.id, one.site, online=True, slots=birth.slots, kinds=frozenset(birth.kinds), capabilities=birth.capabilities
    )
