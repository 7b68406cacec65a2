"""The headers that each answer gets, and those that it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hub.api.headers import API_POLICY, PAGE_POLICY, guarded

if TYPE_CHECKING:
    from starlette.types import Message


async def sent(headers: list[tuple[bytes, bytes]], scheme: str = "http") -> dict[bytes, list[bytes]]:
    """Return the headers of an answer that has these, as it leaves."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    through = guarded(send, {"type": "http", "scheme": scheme})
    await through({"type": "http.response.start", "status": 200, "headers": headers})
    await through({"type": "http.response.body", "body": b"x"})
    assert messages[1] == {"type": "http.response.body", "body": b"x"}
    found: dict[bytes, list[bytes]] = {}
    for name, value in messages[0]["headers"]:
        found.setdefault(name, []).append(value)
    return found


async def test_what_an_answer_says_itself_is_left_alone_and_said_once() -> None:
    headers = await sent([(b"Cache-Control", b"max-age=60"), (b"x-content-type-options", b"nosniff")])
    assert headers[b"Cache-Control"] == [b"max-age=60"]
    assert b"cache-control" not in headers
    assert headers[b"x-content-type-options"] == [b"nosniff"]


@pytest.mark.parametrize(
    ("media_type", "policy"),
    [
        (b"application/json", API_POLICY),
        (b"text/html; charset=utf-8", PAGE_POLICY),
        (b"image/svg+xml", API_POLICY),
        (b"text/plain", API_POLICY),
    ],
)
async def test_only_a_page_may_load_what_is_its_own(media_type: bytes, policy: bytes) -> None:
    assert (await sent([(b"content-type", media_type)]))[b"content-security-policy"] == [policy]


async def test_only_by_https_is_https_asked_for() -> None:
    assert b"strict-transport-security" not in await sent([])
    assert (await sent([], "https"))[b"strict-transport-security"] == [b"max-age=31536000"]
