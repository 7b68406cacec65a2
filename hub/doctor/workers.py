"""What the doctor thinks of workers: values in, findings out."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

from broker.doctor import Finding, bad, ok, warn
from hub.doctor.words import named, span, version_key
from hub.rules import clocks
from hub.rules.alike import are_alike
from hub.rules.presence import PresenceState, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hub.store.workers import WorkerRow

CLOCK_OFF_MS = 30_000
"""What a worker's clock may be off. The hub corrects the times that it shows; schedules and TLS go by the clock."""

MOST_COMPARED = 500
"""Names of sites that are compared with each other: a second's work."""

_ONE_SITE = "if these are one site, set WORKER_SITE of some anew: a task for one never goes to the other"


def check_presence(workers: Sequence[WorkerRow], now: int) -> list[Finding]:
    """Judge who is there."""
    if not workers:
        return [warn("no worker was ever seen", "start one: docs/deployment.md; if one runs, ask its own `doctor`")]
    states = Counter(one.presence.state.value for one in workers)
    findings = [
        ok(f"{len(workers)} workers: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
    ]
    gone = [one for one in workers if one.presence.state is PresenceState.OFFLINE]
    lost = [one for one in gone if one.presence.reason is not Reason.STOPPED]
    if lost:
        said = named(
            f"{one.id} ({one.presence.reason or 'not seen'}, {_ago(now - one.presence.last_seen_ms)})" for one in lost
        )
        findings.append(warn(f"offline: {said}", "on its host: `edge-agent doctor`, and its log"))
    full = [one.id for one in workers if one.heartbeat and one.heartbeat.storage == "full"]
    findings += [bad(f"the disk of {name} takes nothing", "make room: it takes no tasks until then") for name in full]
    return findings


def check_clocks(workers: Iterable[WorkerRow], now: int) -> list[Finding]:
    """Judge workers' clocks against the hub's, and by their majority the hub's own."""
    known = [(one, clocks.current(one.clocks, one.birth.boot if one.birth else None, now)) for one in workers]
    offsets = {
        one.id: estimate[0] for one, estimate in known if estimate and one.presence.state is PresenceState.ONLINE
    }
    off = {name: offset for name, offset in offsets.items() if abs(offset) > CLOCK_OFF_MS}
    if not offsets:
        return [ok("no worker is online to compare clocks with")]
    if len(off) > len(offsets) / 2 and len(off) > 1:
        said = (
            f"the clocks of {len(off)} of {len(offsets)} workers are far from this one: most likely this one is wrong"
        )
        return [bad(said, "set this machine's clock, and keep it by NTP")]
    return [
        warn(f"the clock of {name} is {_ahead(-offset)} this one", f"set the clock of {name}, and keep it by NTP")
        for name, offset in sorted(off.items())
    ] or [ok(f"the clocks of {len(offsets)} workers agree with this one to within {CLOCK_OFF_MS // 1000} s")]


def check_versions(workers: Iterable[WorkerRow], hub: str) -> list[Finding]:
    """Judge what programs are in use: the hub is to be upgraded first."""
    by_version: defaultdict[str, list[str]] = defaultdict(list)
    for one in workers:
        if one.birth and one.presence.state is not PresenceState.OFFLINE:
            by_version[one.birth.version].append(one.id)
    newer = [name for version, names in by_version.items() if version_key(version) > version_key(hub) for name in names]
    older = [name for version, names in by_version.items() if version_key(version) < version_key(hub) for name in names]
    findings = []
    if newer:
        findings.append(
            bad(f"newer than this hub ({hub}): {named(newer)}", "upgrade the hub: it goes first, then agents")
        )
    if older:
        findings.append(
            warn(f"older than this hub ({hub}): {named(older)}", "upgrade these agents when it suits their sites")
        )
    return findings or [ok(f"everybody who is there runs {hub}")]


def check_sites(workers: Iterable[WorkerRow], asked_for: Iterable[str]) -> list[Finding]:
    """Find names of sites that look like misspelt ones of each other; `asked_for` are those that tasks wait for."""
    here = sorted({one.site for one in workers})
    findings = [
        warn(f"there are workers at both '{one}' and '{other}'", _ONE_SITE)
        for one, other in combinations(here[:MOST_COMPARED], 2)
        if are_alike(one, other)
    ]
    for site in sorted(set(asked_for).difference(here))[:MOST_COMPARED]:
        like = next((one for one in here if are_alike(one, site)), None)
        if like:
            said = f"tasks wait for '{site}', where no worker is, but there are some at '{like}'"
            findings.append(warn(said, "cancel them, and submit them for the right site"))
    compared = "" if len(here) <= MOST_COMPARED else f" of the first {MOST_COMPARED}"
    return findings or [ok(f"{len(here)} site{'' if len(here) == 1 else 's'}, no two{compared} alike")]


def _ago(milliseconds: int) -> str:
    return f"last seen {span(milliseconds)} ago"


def _ahead(offset_ms: int) -> str:
    return f"{span(abs(offset_ms))} {'ahead of' if offset_ms > 0 else 'behind'}"
