"""Why a task is not placed, in a sentence."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from broker.requirements import unmet
from hub.rules.placement.place import fits, misfit
from hub.rules.placement.verdicts import NO_BAR, cap_said

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from broker.messages import Requirement
    from hub.rules.placement.limits import Cap
    from hub.rules.placement.place import Place, Shape
    from hub.rules.placement.verdicts import Bar

ABOUT_TO_GO = "it is about to be assigned"
"""Why a task waits that has a worker: its assignment is being committed."""

ALL_DECLINED = "every online worker that can run it has declined it"
SCOPES_NAMED = 3


def explain(shape: Shape, places: Iterable[Place], bar: Bar = NO_BAR) -> str:
    """Return why no task of `shape` is being placed, in words: `no online worker at site-c has docker`."""
    everyone = list(places)
    where = f"at {shape.site}" if shape.site else "at any site"
    if shape.worker:
        return _explain_pinned(shape, next((place for place in everyone if place.worker == shape.worker), None), bar)
    here = [place for place in everyone if shape.site in (None, place.site)]
    online = [place for place in here if place.online]
    if not online:
        return f"no worker {where} is online" if here else f"no worker {where} is known"
    with_kind = [place for place in online if shape.kind in place.kinds]
    if not with_kind:
        return f"no online worker {where} runs {shape.kind}"
    able = [place for place in with_kind if fits(shape, place)]
    if not able:
        return f"no online worker {where} has {_missing(shape, with_kind)}"
    return _explain_able(able, bar)


def _explain_able(able: Sequence[Place], bar: Bar) -> str:
    """Return why none of those that are online and can run it is given it."""
    allowed = [place for place in able if place.worker not in bar.kept_from]
    if not allowed:
        return ALL_DECLINED
    if all(place.storage_full for place in allowed):
        return "the disk of every worker that can run it is full"
    reached = [bar.reached(place) for place in allowed]
    closed = [(cap, place) for cap, place in zip(reached, allowed, strict=True) if cap is not None]
    if len(closed) == len(allowed) or (closed and not _any_room(allowed, bar)):
        return _explain_limits(closed)
    return ABOUT_TO_GO if _any_room(allowed, bar) else "every worker that can run it is busy"


def _any_room(places: Iterable[Place], bar: Bar) -> bool:
    return any(place.room > 0 and bar.reached(place) is None for place in places)


def _explain_limits(closed: Iterable[tuple[Cap, Place]]) -> str:
    """Say which limits are reached, and at which sites or workers: those that are meant by `per`."""
    scopes: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for cap, place in closed:
        counted = cap.scope(place)
        if counted and not cap.limit.site:
            scopes[cap_said(cap)][counted] = None
        else:
            scopes.setdefault(cap_said(cap), {})
    return "; ".join(f'limit "{said}" is reached{_listed(list(names))}' for said, names in scopes.items())


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SCOPES_NAMED
    named = ", ".join(names[:SCOPES_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f" at {named}" if names else ""


def _explain_pinned(shape: Shape, place: Place | None, bar: Bar) -> str:
    if place is None:
        return f"no worker {shape.worker} is known"
    if not place.online:
        return f"worker {shape.worker} is offline"
    unfit = misfit(shape, place)
    if unfit:
        return f"worker {shape.worker}: {'; '.join(unfit)}"
    return _explain_one_able(place, bar)


def _explain_one_able(place: Place, bar: Bar) -> str:
    """Return why the one worker that may run it, and can, is not given it."""
    if place.worker in bar.kept_from:
        return ALL_DECLINED
    if place.storage_full:
        return f"the disk of worker {place.worker} is full"
    cap = bar.reached(place)
    if cap is not None:
        return _explain_limits([(cap, place)])
    return ABOUT_TO_GO if place.room > 0 else f"worker {place.worker} is busy"


def _missing(shape: Shape, places: Iterable[Place]) -> str:
    """Name the requirement that the fewest of `places` meet, as people say it."""
    unmet_by = {
        name: sum(bool(unmet({name: requirement}, place.capabilities)) for place in places)
        for name, requirement in shape.requires.items()
    }
    most = max(unmet_by.values())
    names = [_as_said(name, shape.requires[name]) for name, count in unmet_by.items() if count == most]
    return " and ".join(names)


def _as_said(name: str, requirement: Requirement) -> str:
    if requirement is True:
        return name
    if isinstance(requirement, bool | int | float | str):
        return f"{name} = {str(requirement).lower() if isinstance(requirement, bool) else requirement}"
    return f"{name} {requirement.model_dump_json(by_alias=True, exclude_none=True)}"
