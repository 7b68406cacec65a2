"""Finds the broker by the hub, where no WORKER_BROKER_URL is set.

The hub's last answer is kept, so that a site comes up though the hub is gone.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from pydantic import ValidationError

from broker.errors import HoldfastError, LinkDown
from broker.log import get_logger
from broker.messages import Bootstrap
from broker.problems import explain
from broker.topics import Topics
from broker.url import BrokerUrl
from edge_agent.http_client import HttpClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.account import Account
    from edge_agent.offline import OfflineDir

log = get_logger(__name__)


async def find_broker(
    hub_url: str,
    account: Callable[[], Account],
    offline: OfflineDir,
    *,
    poll_interval_seconds: float,
    enrolled: Bootstrap | None = None,
) -> Bootstrap:
    """Return what the hub says about the broker, or what it said last, here or when the worker was `enrolled`.

    It is asked until one of them is there.
    """
    while True:
        try:
            answer = await _ask_safely(hub_url, account(), enrolled)
        except (ValueError, HoldfastError) as error:
            kept = offline.kept_bootstrap() or enrolled
            told = error.told if isinstance(error, LinkDown) else {"url": hub_url, "reason": str(error)}
            log.warning("hub_not_reached", **told, using=kept and kept.broker_url)
            if kept:
                return kept
        else:
            offline.keep_bootstrap(answer)
            return answer
        await asyncio.sleep(poll_interval_seconds)


async def wait_for_move(
    known: Bootstrap,
    hub_url: str,
    account: Callable[[], Account],
    offline: OfflineDir,
    *,
    is_online: Callable[[], bool],
    interval: Callable[[], float],
    enrolled: Bootstrap | None = None,
) -> Bootstrap:
    """Return the hub's answer once it differs from `known`; it is asked only while the agent is not online.

    Args:
        known: Where the broker is thought to be.
        hub_url: Who is asked.
        account: Whom to trust.
        offline: Keeps the answer.
        is_online: Whether the broker is where it is thought to be.
        interval: Seconds until the next look.
        enrolled: What the hub said about it when this worker enrolled.

    """
    while True:
        await asyncio.sleep(interval())
        if is_online():
            continue
        try:
            answer = await _ask_safely(hub_url, account(), enrolled)
        except (ValueError, HoldfastError):
            continue  # the link's own log says that there is none
        if answer != known:
            offline.keep_bootstrap(answer)
            log.info("broker_moved", broker_url=answer.broker_url, root=answer.root)
            return answer


async def _ask_safely(hub_url: str, account: Account, enrolled: Bootstrap | None) -> Bootstrap:
    """Ask the hub, but let nobody who answers in its place have the account shown without TLS.

    Raises:
        LinkDown: If it does not answer.
        ValueError, HoldfastError: If what answers is no hub, or would have less than when this worker enrolled.

    """
    answer = await ask(hub_url, account)
    if enrolled and BrokerUrl.parse(enrolled.broker_url).secure and not BrokerUrl.parse(answer.broker_url).secure:
        raise ValueError(
            f"the answer is to reach the broker without TLS, at {answer.broker_url}, and this worker has enrolled with"
            f" {enrolled.broker_url}; if that is meant, enrol it again"
        )
    return answer


async def ask(hub_url: str, account: Account) -> Bootstrap:
    """Ask the hub where the broker is.

    Raises:
        LinkDown: If it does not answer.
        ValueError, HoldfastError: If what answers is no hub.

    """
    client = HttpClient(hub_url, account)
    try:
        answer = await client.ask("GET", "/api/bootstrap")
    finally:
        client.close()
    if answer.status != HTTPStatus.OK:
        raise ValueError(f"no answer of a hub: status {answer.status}")
    return read_answer(answer.body)


def read_answer(body: bytes) -> Bootstrap:
    """Return what a hub says about the broker. Raises `ValueError` or `HoldfastError` if it is no hub's answer."""
    try:
        answer = Bootstrap.model_validate_json(body)
    except ValidationError as error:
        raise ValueError(f"no answer of a hub: {explain(error, root='answer')[0]}") from None
    BrokerUrl.parse(answer.broker_url)
    Topics(answer.root)
    return answer
