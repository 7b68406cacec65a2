"""Whether capabilities meet what a task requires: asked by the hub that places it and the worker that takes it.

>>> unmet({"docker": True, "memory_mb": Bound(min=512)}, {"memory_mb": 256})
['docker is missing, expected true', 'memory_mb is 256, expected at least 512']
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.messages import Bound
from broker.problems import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.messages import Requirement, Scalar

MISSING = "missing"


def unmet(requires: Mapping[str, Requirement], capabilities: Mapping[str, Scalar]) -> list[str]:
    """Return what `capabilities` lack, one reason in words for each requirement that does not hold.

    A capability that is not declared is `false`: `{"docker": false}` asks for a worker without docker. True and 1 are
    not the same; 1 and 1.0 are.
    """
    reasons = []
    for name, requirement in requires.items():
        value = capabilities.get(name)
        if not _holds(requirement, value):
            found = MISSING if value is None else shown(value)
            reasons.append(f"{name} is {found}, expected {_words(requirement)}")
    return reasons


def _holds(requirement: Requirement, value: Scalar | None) -> bool:
    if not isinstance(requirement, Bound):
        return _equal(False if value is None else value, requirement)
    if requirement.in_ is not None:
        actual = False if value is None else value
        if not any(_equal(actual, option) for option in requirement.in_):
            return False
    elif value is None:
        return False
    return _within(requirement, value)


def _within(bound: Bound, value: Scalar | None) -> bool:
    if bound.min is None and bound.max is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (bound.min is None or value >= bound.min) and (bound.max is None or value <= bound.max)


def _equal(left: Scalar, right: Scalar) -> bool:
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def _words(requirement: Requirement) -> str:
    if not isinstance(requirement, Bound):
        return shown(requirement)
    words = []
    if requirement.min is not None:
        words.append(f"at least {shown(requirement.min)}")
    if requirement.max is not None:
        words.append(f"at most {shown(requirement.max)}")
    if requirement.in_ is not None:
        words.append(f"one of {', '.join(shown(option) for option in requirement.in_)}")
    return " and ".join(words) or "any value"
