"""Looks for the hub by HTTP: whether it answers and is one, by which clock it lives, and whether it knows the site."""

from __future__ import annotations

import contextlib
import difflib
import json
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies

from broker.doctor import bad, ok, warn
from broker.errors import HoldfastError, LinkDown
from edge_agent.bootstrap import read_answer
from edge_agent.http_client import HttpClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.doctor import Finding
    from edge_agent.doctor.ground import Ground
    from edge_agent.http_client import Answer

WARN_SECONDS = 2.0
"""More than what HTTP's whole seconds and a slow answer can make of a clock that is right."""

BAD_SECONDS = 300.0
"""Certificates and one-time tokens are judged by it, and schedules fire by it."""


async def look(ground: Ground) -> Sequence[Finding]:
    """Ask the hub where the broker is, as the agent does."""
    url = ground.settings.control_plane_url
    if ground.identity is None:
        return [warn(f"{url} was not asked", "correct the settings first")]
    try:
        answer = await _ask(ground, "/api/bootstrap")
        if answer.status != HTTPStatus.OK:
            return [_no_hub(url, answer)]
        ground.bootstrap = read_answer(answer.body)
    except LinkDown as down:
        return [bad(f"{url}: {down.reason}", down.remedy or "check WORKER_CONTROL_PLANE_URL, and that the hub runs")]
    except (ValueError, HoldfastError):
        return [_no_hub(url, answer)]
    return [ok(f"{url} answers; its broker is {ground.bootstrap.broker_url}"), *await _health(ground)]


async def look_at_clock(ground: Ground) -> Sequence[Finding]:
    """Compare this machine's clock with the hub's."""
    offset = ground.clock_offset_seconds
    if offset is None:
        return []  # the hub has told none
    how = f"this machine's clock is {abs(offset):.0f} s {'behind' if offset > 0 else 'before'} the hub's"
    remedy = "set it: timedatectl set-ntp true, or whatever keeps time here; else look at the hub's"
    if abs(offset) > BAD_SECONDS:
        return [bad(f"{how}: certificates may seem to have ended, and schedules fire at the wrong time", remedy)]
    if abs(offset) > WARN_SECONDS:
        return [warn(f"{how}: the hub corrects what is reported, but schedules fire by this clock", remedy)]
    return [ok("within 2 s of the hub's")]


async def look_for_site(ground: Ground) -> Sequence[Finding]:
    """See whether the hub knows the site; only a hub that answers without a token tells."""
    site, who = ground.settings.site, ground.worker or "a worker that gets its name when it first starts"
    here = f"{who} at {site}"
    if ground.bootstrap is None:
        return [ok(f"{here} (the hub was not asked)")]
    known = await _known_sites(ground)
    if known is None or site in known:
        return [ok(here)]
    close = difflib.get_close_matches(site, known, n=1)
    if close:
        what = f"{here}: the hub knows no such site, but one called {close[0]}"
        return [warn(what, f"if that is meant, set WORKER_SITE={close[0]}")]
    return [ok(f"{here}, the first worker of this site that the hub sees")]


async def _known_sites(ground: Ground) -> list[str] | None:
    with contextlib.suppress(LinkDown, ValueError, LookupError, TypeError):
        answer = await _ask(ground, "/api/sites")
        if answer.status == HTTPStatus.OK:
            return [one["site"] for one in json.loads(answer.body)["items"]]
    return None


async def _health(ground: Ground) -> list[Finding]:
    with contextlib.suppress(LinkDown, ValueError):
        answer = await _ask(ground, "/health")
        health: dict[str, Any] = json.loads(answer.body)
        if health.get("status") == "failed":
            return [bad(f"the hub's database does not answer: {health.get('database')}", "see edge-hub doctor there")]
        if health.get("status") == "degraded":
            return [warn("the hub itself has no link to its broker", "see edge-hub doctor there")]
    return []


async def _ask(ground: Ground, path: str) -> Answer:
    client = HttpClient(ground.settings.control_plane_url, ground.account)
    began = time.time()
    try:
        answer = await client.ask("GET", path)
    finally:
        client.close()
    if answer.date:
        with contextlib.suppress(ValueError):
            # It says whole seconds, rounded down: half a second is the likeliest that it leaves out.
            there = parsedate_to_datetime(answer.date).timestamp() + 0.5
            ground.clock_offset_seconds = there - (began + time.time()) / 2
    return answer


def _no_hub(url: str, answer: Answer) -> Finding:
    begins = answer.body[:60].decode(errors="replace").strip()
    what = f"{url} answers, but is no hub: status {answer.status}, and it begins with {begins!r}"
    if b"<html" in answer.body[:1000].lower() or answer.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        proxies = ", ".join(sorted({f"{scheme}_proxy" for scheme in getproxies() if scheme in {"http", "https"}}))
        by = f"{proxies} is set: add the hub to no_proxy" if proxies else "check the URL and its port"
        return bad(what, f"it is a page for people, of a proxy, a login or another server; {by}")
    return bad(what, "check WORKER_CONTROL_PLANE_URL: its host, port and path")
