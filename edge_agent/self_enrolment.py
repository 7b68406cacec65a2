"""How an agent enrols itself, where it was given a token and has no credentials: it tries until there are some.

Whoever runs `edge-agent enrol` meanwhile, or gives another token in the same file, is noticed.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from broker.backoff import delay_seconds
from broker.errors import InvalidInput, LinkDown
from broker.log import get_logger
from broker.problems import Problem, shown
from edge_agent.enrolment import Wish, enrol
from edge_agent.errors import EnrolmentRefused
from edge_agent.rules import enrolling

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.identity import Identity
    from edge_agent.rules.enrolling import Token
    from edge_agent.settings import WorkerSettings

LOOK_SECONDS = 5.0
"""How often to look whether somebody else has done it, or has given another token."""

REFUSED_SECONDS = 300.0
"""How long a token that was refused is not shown again: the hub holds back who fails too often."""

log = get_logger(__name__)


class SelfEnrolment:
    """Trades the token of the settings.

    Args:
        settings: Where the token is, and the hub.
        worker: What the worker is to be called.

    """

    def __init__(self, settings: WorkerSettings, worker: str) -> None:
        self._settings = settings
        self._worker = worker
        self._failures = 0
        self._refused: tuple[str, float] | None = None

    async def run(self, identity: Identity) -> None:
        """Return once `identity` has credentials: at once, if it needs none."""
        while identity.may_be_enrolled:
            pause = await self._try()
            identity.account()  # reads what was written, by us or by somebody else
            if identity.may_be_enrolled:
                await asyncio.sleep(pause)

    async def _try(self) -> float:
        """Trade the token, if there is one that may do; return how many seconds to wait if it was not."""
        token = None
        try:
            token = read_token(self._settings)
            if not self._was_refused(token):
                await self._trade(token)
        except LinkDown as down:
            self._failures += 1
            pause = delay_seconds(self._failures, random.random())  # noqa: S311  jitter is no secret
            log.warning("not_enrolled_yet", **down.told, next_try_seconds=round(pause, 1))
            return pause
        except (EnrolmentRefused, InvalidInput) as error:
            self._on_refused(token, str(error))
        except OSError as error:
            log.warning("credentials_not_written", path=str(self._settings.credentials_file), reason=error.strerror)
        return LOOK_SECONDS

    async def _trade(self, token: Token) -> None:
        settings = self._settings
        hub, file = settings.control_plane_url, settings.credentials_file
        if enrolling.goes_in_clear(hub):
            log.warning("token_goes_in_clear", url=hub, remedy="ask the hub by https")
        site = settings.site if "site" in settings.model_fields_set else None
        ca = str(settings.tls_ca) if settings.tls_ca else None
        got = await enrol(Wish(hub, token, self._worker, site, ca), file)
        log.info("enrolled", worker=got.worker, site=got.site, hub=got.hub, credentials=str(file))

    def _was_refused(self, token: Token) -> bool:
        if self._refused is None or self._refused[0] != token.digest:
            return False
        return asyncio.get_running_loop().time() - self._refused[1] < REFUSED_SECONDS

    def _on_refused(self, token: Token | None, reason: str) -> None:
        """Tell it once for each token, and each time that it was shown again."""
        key = token.digest if token else reason
        if token is None and self._refused and self._refused[0] == key:
            return
        self._refused = key, asyncio.get_running_loop().time()
        log.error("enrolment_refused", reason=reason, next_try_seconds=REFUSED_SECONDS)


def read_token(settings: WorkerSettings) -> Token:
    """Return the token of the settings. Raises `InvalidInput`."""
    if settings.enrol_token_file is None:
        text = settings.enrol_token.get_secret_value() if settings.enrol_token else ""
        return enrolling.read_token(text, "WORKER_ENROL_TOKEN")
    return enrolling.read_token(text_of(settings.enrol_token_file), "WORKER_ENROL_TOKEN_FILE")


def text_of(file: Path) -> str:
    """Return the text of a file that holds a token. Raises `InvalidInput`."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        expected = f"a text file that can be read ({error})"
        raise InvalidInput([Problem("WORKER_ENROL_TOKEN_FILE", shown(str(file)), expected)]) from None
