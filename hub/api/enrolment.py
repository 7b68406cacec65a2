"""`/api/enrol` and `/api/ca`, for workers that have no account yet; `/api/enrolments`, for who lets them in."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from broker.clock import wall_ms
from broker.messages import EnrolAnswer, EnrolAsk, Message, SiteName, WorkerName
from hub.api.answers import JSON, ProblemDocument, Query, listed, model_of, query_of, rfc3339
from hub.api.context import context_of
from hub.api.guard import caller_of
from hub.api.health import broker_url_for
from hub.errors import EnrolmentRefused, NotFound
from hub.rules.enrolment import Enrolment, Reason
from hub.store.enrolments import list_enrolments

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY_BYTES = 8 * 1024
VALID_MINUTES = 60.0
MAX_VALID_MINUTES = 30 * 24 * 60.0


class EnrolmentRequest(Message):
    """What somebody posts who lets a worker in: of which site, and maybe which one."""

    site: SiteName
    worker: WorkerName | None = None
    valid_minutes: float = Field(default=VALID_MINUTES, gt=0, le=MAX_VALID_MINUTES)


async def post_enrol(request: Request) -> Response:
    """Trade a token for an account of the broker, and say where and what that is."""
    context, caller = context_of(request), caller_of(request)
    asked = await model_of(request, EnrolAsk, MAX_BODY_BYTES)
    try:
        given = await context.enrolling.trade(asked.token, asked.worker, asked.site, asked.nonce, caller.address)
    except EnrolmentRefused as refused:
        return _refused(refused, context.access.failed(caller.address) if _is_guessed(refused) else None)
    authority = context.enrolling.authority
    answer = EnrolAnswer(
        worker=given.account.name,
        site=given.account.site or "",
        username=given.account.name,
        password=given.password,
        broker_url=broker_url_for(request),
        root=context.settings.root,
        ca=authority.pem if authority else None,
    )
    return JSON(answer, headers={"Cache-Control": "no-store"})


async def get_ca(request: Request) -> Response:
    """Answer with the certificate authority that workers are to trust, as PEM; their token says which one it is."""
    authority = context_of(request).enrolling.authority
    if authority is None:
        raise NotFound("ca", "none")
    return Response(authority.pem, media_type="application/x-pem-file")


async def post_enrolment(request: Request) -> Response:
    """Make a one-time token; its text is in this answer, and nowhere else."""
    asked = await model_of(request, EnrolmentRequest, MAX_BODY_BYTES)
    make = context_of(request).enrolling.make
    one, text = await make(asked.site, asked.worker, asked.valid_minutes, caller_of(request))
    return JSON({"token": text, **enrolment_shape(one, wall_ms())}, HTTPStatus.CREATED, {"Cache-Control": "no-store"})


async def list_them(request: Request) -> Response:
    """List every one-time token that was made, newest first, without its secret."""
    query_of(request, Query)
    now = wall_ms()
    return listed([enrolment_shape(one, now) for one in await context_of(request).read(list_enrolments)], None)


async def delete_enrolment(request: Request) -> Response:
    """Let a token be traded no more."""
    await context_of(request).enrolling.revoke(request.path_params["id"], caller_of(request))
    return Response(status_code=HTTPStatus.NO_CONTENT)


def enrolment_shape(one: Enrolment, now: int) -> dict[str, object]:
    """Return a token as it is shown."""
    return {
        "id": one.id,
        "site": one.site,
        "worker": one.worker,
        "state": one.state(now),
        "created_at": rfc3339(one.created_ms),
        "expires_at": rfc3339(one.expires_ms),
        "used_at": rfc3339(one.used_ms),
        "used_by": one.used_by,
        "revoked_at": rfc3339(one.revoked_ms),
    }


def _is_guessed(refused: EnrolmentRefused) -> bool:
    """Tell whether no token of ours was shown: who has one that is used or expired tries no others."""
    return refused.refusal.reason is Reason.UNKNOWN


def _refused(refused: EnrolmentRefused, wait_seconds: int | None) -> Response:
    if wait_seconds is not None:
        headers = {"Retry-After": str(wait_seconds)}
        detail = f"tokens that are none came from here too often: try again after {wait_seconds} s, with a right one"
        return ProblemDocument(HTTPStatus.TOO_MANY_REQUESTS, "Too many failures", detail=detail, headers=headers)
    is_taken = refused.refusal.reason is Reason.TAKEN
    status = HTTPStatus.CONFLICT if is_taken else HTTPStatus.FORBIDDEN
    return ProblemDocument(status, "Not enrolled", detail=str(refused), more={"reason": refused.refusal.reason.value})


routes = [
    Route("/api/enrol", post_enrol, methods=["POST"]),
    Route("/api/ca", get_ca, methods=["GET"]),
    Route("/api/enrolments", list_them, methods=["GET"]),
    Route("/api/enrolments", post_enrolment, methods=["POST"]),
    Route("/api/enrolments/{id}", delete_enrolment, methods=["DELETE"]),
]
