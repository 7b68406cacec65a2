"""The doctor at the API: who listens on the hub's address, and what it says of itself."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import httpx

from broker import __version__
from broker.doctor import Finding, bad, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hub.settings import HubSettings

PATIENCE_SECONDS = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  what is listened to, to be asked
_OTHER = "end that program, or set HUB_HTTP_PORT to another port"


class NoHub(Exception):
    """Whoever listens does not answer as a hub; the text says how."""


async def check_listener(settings: HubSettings, *, is_served: bool) -> list[Finding]:
    """Ask who listens for its health.

    Args:
        settings: Those of the hub.
        is_served: Whether a hub has the database, so that one should listen.

    """
    if settings.http_port == 0:
        return [ok("HUB_HTTP_PORT is 0: the hub takes any free port, and says which in its log")]
    url = health_url(settings)
    try:
        said = await ask_health(settings)
    except NoHub as error:
        return [bad(f"{error} at {url}", _OTHER)]
    if said is not None:
        return list(_judge(url, said, is_served=is_served))
    if is_served:
        return [bad(f"a hub has the database, and nothing listens at {url}", "look into its log, then restart it")]
    return [ok(f"nothing listens at {url}: it is free for the hub")]


async def ask_health(settings: HubSettings) -> dict[str, Any] | None:
    """Return what the hub says of itself; None where nothing listens. Raises `NoHub`."""
    try:
        # Whether its certificate is for this name is for clients to check: this looks whether the hub is there.
        async with httpx.AsyncClient(verify=_any_certificate(), timeout=PATIENCE_SECONDS, trust_env=False) as client:
            answer = await client.get(health_url(settings))
    except httpx.ConnectError:
        return None
    except httpx.HTTPError as error:
        raise NoHub(f"what does not answer as a hub ({type(error).__name__} {error})".replace(" )", ")")) from None
    said = _health(answer)
    if said is None:
        raise NoHub("another program than a hub listens")
    return said


def health_url(settings: HubSettings) -> str:
    """Return where a hub with these settings answers, as seen from its own machine."""
    host = _EVERYWHERE.get(settings.http_host, settings.http_host)
    scheme = "https" if settings.http_tls_certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.http_port}/health"


def _judge(url: str, said: dict[str, Any], *, is_served: bool) -> Iterator[Finding]:
    version = said["version"]
    if said["database"] != "ok":
        yield bad(f"the hub at {url} cannot use its database: {said['database']}", "see what is said of the database")
    elif said["broker"] != "connected":
        yield bad(f"the hub at {url} has no link to the broker", "see what is said of the broker, and its log")
    else:
        yield ok(f"a hub of version {version} answers at {url}")
    if version != __version__:
        yield warn(f"the hub that runs is {version}, this command is {__version__}", "restart the hub after an upgrade")
    if not is_served:
        remedy = "see that HUB_DATABASE_URL here is that of the hub: its log shows it"
        yield bad(f"the hub at {url} works on another database than this", remedy)


def _health(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        said = answer.json()
    except ValueError:
        return None
    return said if isinstance(said, dict) and {"status", "version", "broker", "database"} <= said.keys() else None


def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
