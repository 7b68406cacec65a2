"""Asks the hub for an account: trades a one-time token for credentials.

Where the hub's certificate is signed by an authority of its own, the token says how that is known: it is fetched from
whoever answers, and believed only if it is the one that the token names. Only then is the token shown.
"""

from __future__ import annotations

import json
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ValidationError

from broker.account import Account
from broker.errors import LinkDown
from broker.log import get_logger
from broker.messages import EnrolAnswer, EnrolAsk, encode
from broker.problems import explain
from edge_agent import credentials
from edge_agent.credentials import Credentials
from edge_agent.errors import EnrolmentRefused
from edge_agent.http_client import HttpClient
from edge_agent.rules import enrolling

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.http_client import Answer
    from edge_agent.rules.enrolling import Token

ENROL_PATH, CA_PATH = "/api/enrol", "/api/ca"
NONCE_BYTES = 32
MAX_COMPLAINT = 500

log = get_logger(__name__)


class Wish(NamedTuple):
    """What is asked for.

    Attributes:
        hub: Its URL.
        token: The one-time token.
        worker: What the worker is to be called.
        site: Where it is thought to be; None is where the token says.
        tls_ca: A file with the authority that vouches for the hub; None is the token's, or the system's.

    """

    hub: str
    token: Token
    worker: str
    site: str | None = None
    tls_ca: str | None = None


class _Pending(BaseModel):
    """What is kept until an answer is: with the same nonce, the hub gives the same answer again."""

    token_digest: str
    worker: str
    nonce: str


async def enrol(wish: Wish, file: Path) -> Credentials:
    """Trade the token, and keep what comes in `file`.

    Raises:
        LinkDown: If the hub does not answer: worth another try.
        EnrolmentRefused: If it says no, or is not who the token says.
        OSError: If `file` cannot be written. That is found out before the token is used up.

    """
    nonce = _nonce(file, wish)
    trusted = await _authority(wish)
    account = Account(tls_ca=wish.tls_ca, tls_ca_text=trusted, prefix="WORKER_")
    ask = EnrolAsk(token=wish.token.text, worker=wish.worker, site=wish.site, nonce=nonce)
    answer = await _ask(HttpClient(wish.hub, account), "POST", ENROL_PATH, encode(ask))
    given = _read(answer, wish)
    got = Credentials(**given.model_dump(exclude={"ca"}), ca=_kept_authority(wish, given, trusted), hub=wish.hub)
    credentials.write(file, got)
    _pending_file(file).unlink(missing_ok=True)
    return got


# -- whom to trust ---------------------------------------------------------------------------------------------------


async def _authority(wish: Wish) -> str | None:
    """Return the authority that the token names, as PEM; None if it names none, or the wish names another."""
    fingerprint = wish.token.fingerprint
    if fingerprint is None or wish.tls_ca:
        return None
    answer = await _ask(HttpClient(wish.hub, Account(), verifies=False), "GET", CA_PATH)
    found = enrolling.vouched(answer.body.decode(errors="replace"), fingerprint)
    if answer.status == HTTPStatus.OK and found:
        return found
    reason = f"{wish.hub} does not show the authority that the token names (SHA-256 {fingerprint}…)"
    remedy = "is this the hub that made the token? Somebody else may answer in its place: the token was not sent"
    raise EnrolmentRefused(wish.hub, f"{reason}: {remedy}")


def _kept_authority(wish: Wish, given: EnrolAnswer, trusted: str | None) -> str | None:
    """Return whom the worker is to trust from now on.

    What came by a connection that was verified is believed: a hub that is about to change its authority tells both.
    """
    if trusted and not wish.hub.startswith("https:"):
        return trusted
    return given.ca or trusted


# -- asking ----------------------------------------------------------------------------------------------------------


async def _ask(client: HttpClient, method: str, path: str, body: bytes | None = None) -> Answer:
    try:
        return await client.ask(method, path, body)
    finally:
        client.close()


def _read(answer: Answer, wish: Wish) -> EnrolAnswer:
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        raise LinkDown(wish.hub, f"the hub answered {answer.status}: {_complaint(answer.body)}")
    if answer.status == HTTPStatus.NOT_FOUND:
        raise EnrolmentRefused(wish.hub, "no hub that enrols workers answers there: check its URL and its version")
    if answer.status != HTTPStatus.OK:
        raise EnrolmentRefused(wish.hub, _complaint(answer.body))
    try:
        return EnrolAnswer.model_validate_json(answer.body)
    except ValidationError as error:
        wrong = explain(error, root="answer")[0]
        raise EnrolmentRefused(wish.hub, f"no answer of a hub: {wrong.field} is wrong or missing") from None


def _complaint(body: bytes) -> str:
    try:
        said = str(json.loads(body)["detail"])
    except (ValueError, LookupError, TypeError):
        said = body.decode(errors="replace")
    return said[:MAX_COMPLAINT]


# -- the nonce -------------------------------------------------------------------------------------------------------


def _nonce(file: Path, wish: Wish) -> str:
    """Return the nonce of this wish, on the disk before it is first used. Raises `OSError`."""
    kept = _pending_file(file)
    try:
        pending = _Pending.model_validate_json(kept.read_bytes())
    except (FileNotFoundError, ValidationError):
        pending = None
    if pending and (pending.token_digest, pending.worker) == (wish.token.digest, wish.worker):
        return pending.nonce
    made = _Pending(token_digest=wish.token.digest, worker=wish.worker, nonce=secrets.token_urlsafe(NONCE_BYTES))
    credentials.write_private(kept, encode(made))
    return made.nonce


def _pending_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.pending")
