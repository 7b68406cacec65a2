"""Which URLs an `http` task may ask: `WORKER_ALLOW_URLS`, and how a URL is read.

>>> pattern = UrlPattern.parse("https://*.example/hooks/**")
>>> pattern.allows(Url.parse("https://chat.example/hooks/alerts?to=me"))
True
>>> pattern.allows(Url.parse("https://chat.example/hooks/../admin"))
False

As in `WORKER_ALLOW_COMMANDS`, `*` stands for any text within one part: a label of a host's name, a segment of a path. A
last `**` stands for all that follows. A port must be named unless it is the scheme's own.

A URL is read as RFC 3986 writes it, and what it does not allow is refused, where clients repair it: two of them that
repair in two ways would let the policy judge another host than the one that is asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from broker.errors import InvalidInput
from broker.problems import Problem, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_URL_CHARACTERS = 8192
MAX_PORT = 65535
PORTS = {"http": 80, "https": 443}
REST = "**"

EXPECTED = "http:// or https://, a host, and what follows percent-encoded"
EXPECTED_PATTERN = "a URL with a path and maybe '*', such as 'https://hooks.example/**', and '**' at its end only"

_CHARACTER = r"[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2}"
_URL = re.compile(
    rf"""
    (?P<scheme>https?)://
    (?:(?:[A-Za-z0-9\-._~!$&'()*+,;=:]|%[0-9A-Fa-f]{{2}})*@)?
    (?P<host>[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])
    (?::(?P<port>[0-9]{{1,5}}))?
    (?P<path>(?:/(?:{_CHARACTER}|/)*)?)
    (?:\?(?P<query>(?:{_CHARACTER}|[/?])*))?
    (?:\#(?:{_CHARACTER}|[/?])*)?
    """,
    re.VERBOSE,
)
_PATTERN = re.compile(
    rf"""
    (?P<scheme>https?)://
    (?P<host>[A-Za-z0-9_*][A-Za-z0-9._*-]*|\[[0-9A-Fa-f:.]+\])
    (?::(?P<port>[0-9]{{1,5}}))?
    (?P<rest>/(?:{_CHARACTER}|[/?])*)
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Url:
    """What of a URL decides whom it asks for what. As text it has neither account nor query, where secrets stand."""

    scheme: str
    host: str
    port: int
    path: str
    query: str | None = None

    @classmethod
    def parse(cls, text: str) -> Url:
        """Read a URL. Raises `InvalidInput`, whose text does not repeat it: there may be a password in it."""
        found = _URL.fullmatch(text) if len(text) <= MAX_URL_CHARACTERS else None
        if not found or not _is_port(found["port"]):
            raise InvalidInput([Problem("url", "…", EXPECTED)])
        return cls(
            scheme=found["scheme"],
            host=found["host"].lower(),
            port=_port(found["scheme"], found["port"]),
            path=found["path"] or "/",
            query=found["query"],
        )

    @property
    def climbs(self) -> bool:
        """Whether the path has `.` or `..` in it, written as it may be: who is asked may leave what was allowed."""
        parts = re.split(r"[/\\]", unquote(self.path))
        return any(part.partition(";")[0] in {".", ".."} for part in parts)  # `..;x` is `..` with parameters

    def __str__(self) -> str:
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.path}"


@dataclass(frozen=True, slots=True)
class UrlPattern:
    """One pattern of `WORKER_ALLOW_URLS`."""

    scheme: str
    host: re.Pattern[str]
    port: int
    rest: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> UrlPattern:
        """Read a pattern. Raises `InvalidInput`."""
        found = _PATTERN.fullmatch(text)
        if not found or REST in text[:-1] or not _is_port(found["port"]):
            raise InvalidInput([Problem("pattern", shown(text), EXPECTED_PATTERN)])
        rest = found["rest"]
        end = r".*" if rest.endswith(REST) else ""
        return cls(
            scheme=found["scheme"],
            host=re.compile(_expression(found["host"].lower(), r"[^.]*")),
            port=_port(found["scheme"], found["port"]),
            rest=re.compile(_expression(rest.removesuffix(REST), r"[^/?&]*") + end),
        )

    def allows(self, url: Url) -> bool:
        """Tell whether `url` is of this pattern."""
        asked = url.path if url.query is None else f"{url.path}?{url.query}"
        return (
            (url.scheme, url.port) == (self.scheme, self.port)
            and self.host.fullmatch(url.host) is not None
            and self.rest.fullmatch(asked) is not None
            and not url.climbs
        )


def is_allowed(url: Url, patterns: Iterable[UrlPattern] | None) -> bool:
    """Tell whether `url` may be asked: some pattern must allow it; None is no policy, and allows all."""
    return patterns is None or any(pattern.allows(url) for pattern in patterns)


def _expression(text: str, star: str) -> str:
    return star.join(re.escape(part) for part in text.split("*"))


def _is_port(text: str | None) -> bool:
    return text is None or 0 < int(text) <= MAX_PORT


def _port(scheme: str, text: str | None) -> int:
    return int(text) if text else PORTS[scheme]
