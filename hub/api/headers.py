"""The headers that keep a browser from doing with our answers what they are not for, on every one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Message, Scope, Send

API_POLICY = b"default-src 'none'; frame-ancestors 'none'"
"""An answer of the API loads nothing, should a browser ever show it."""

PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""A page has its own scripts, styles and pictures, from files: none in it, and none from elsewhere."""

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_HSTS = (b"strict-transport-security", b"max-age=31536000")


def guarded(send: Send, scope: Scope) -> Send:
    """Return a `send` that adds the headers which an answer does not have by itself."""
    more = (*_ALWAYS, _HSTS) if scope.get("scheme") == "https" else _ALWAYS

    async def send_guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message["headers"] = list(message.get("headers", ()))
            had = {name.lower(): value for name, value in headers}
            headers += [header for header in more if header[0] not in had]
            if b"content-security-policy" not in had:
                is_page = had.get(b"content-type", b"").startswith(b"text/html")
                headers.append((b"content-security-policy", PAGE_POLICY if is_page else API_POLICY))
        await send(message)

    return send_guarded
