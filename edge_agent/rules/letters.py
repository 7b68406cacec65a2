"""Which deliveries of a link by HTTP are new, and up to which all are safe (decision 8)."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Received:
    """What has come on one link. Numbers begin at 1, and grow by one.

    Attributes:
        seen: The highest that came. What comes again is not new.
        through: All up to this one are acknowledged: the hub may forget them.
        early: Those above `through + 1` that are acknowledged already.

    """

    seen: int = 0
    through: int = 0
    early: frozenset[int] = frozenset()


def on_delivered(state: Received, number: int) -> tuple[Received, bool]:
    """A letter came: return whether it is new."""
    if number <= state.seen:
        return state, False
    return replace(state, seen=number), True


def on_acknowledged(state: Received, number: int) -> Received:
    """A letter is safe."""
    if number <= state.through:
        return state
    acknowledged = state.early | {number}
    through = state.through
    while through + 1 in acknowledged:
        through += 1
    return replace(state, through=through, early=frozenset(one for one in acknowledged if one > through))
