"""What an `http` task expects of its answer, and what of that an answer does not meet.

>>> unmet(Expect(contains="ok"), HttpAnswer(status=503, body=b"down", elapsed_ms=12))
['status is 503, expected 2xx', "the body does not contain 'ok'"]
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from broker.messages import MAX_TIMEOUT_SECONDS, Message
from broker.messages.base import Json
from broker.problems import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import JsonValue

STATUS_EXPECTED = 'a status such as 200, a class such as "2xx", or an array of those'
POINTER_EXPECTED = "a JSON Pointer for each key, such as /checks/0/name"

_CLASS = re.compile(r"[1-5]xx")
_INDEX = re.compile(r"0|[1-9][0-9]*")
_MISSING = object()

_NO_CHARSETS = frozenset({"punycode", "idna", "unicode-escape", "raw-unicode-escape"})
"""What Python calls encodings of text, and no answer is written in. Punycode takes minutes for a long text."""


def _codec(charset: str) -> str:
    """Return a charset's name in Python's words. Raises `LookupError` for what is none."""
    name = codecs.lookup(charset).name
    if name.replace("_", "-") in _NO_CHARSETS:
        raise LookupError(name)
    return name


def _is_status(value: object) -> bool:
    if isinstance(value, str):
        return _CLASS.fullmatch(value) is not None
    return isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599  # noqa: PLR2004  RFC 9110, §15


def _statuses(value: object) -> tuple[str, ...]:
    options = value if isinstance(value, list | tuple) else [value]
    if not options or not all(_is_status(option) for option in options):
        raise ValueError(STATUS_EXPECTED)
    return tuple(str(option) for option in options)


def _pointers(value: dict[str, Json]) -> dict[str, Json]:
    if any(key and not key.startswith("/") for key in value):
        raise ValueError(POINTER_EXPECTED)
    return value


class Expect(Message):
    """What an answer must be.

    Attributes:
        status: One of these: `200`, or a class, `2xx`.
        contains: A text that is in the body.
        json_: Values in a body of JSON, by JSON Pointer (RFC 6901): `{"/status": "ok"}`.
        within_seconds: How long it may take until the body is there.

    """

    status: Annotated[tuple[str, ...], BeforeValidator(_statuses)] = ("2xx",)
    contains: str | None = None
    json_: Annotated[dict[str, Json], AfterValidator(_pointers)] = Field(default={}, alias="json")
    within_seconds: float | None = Field(default=None, gt=0, le=MAX_TIMEOUT_SECONDS)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back.

    Attributes:
        body: Its first bytes, undecoded.
        is_whole: Whether that is all of it.
        elapsed_ms: From the beginning of the request to the end of `body`.
        charset: How the body is written, if the answer says so.
        encoding: How the body is compressed, if it is: nobody asked for that, and it is not undone.
        url: Who answered, where that is another than was asked first.

    """

    status: int
    body: bytes = b""
    elapsed_ms: int = 0
    is_whole: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    charset: str | None = None
    encoding: str | None = None
    url: str | None = None

    @property
    def text(self) -> str:
        """The body as text, as far as it is text."""
        return self.first(len(self.body))

    def first(self, limit: int) -> str:
        """Return the first `limit` bytes of the body as text."""
        try:
            return self.body[:limit].decode(_codec(self.charset or "utf-8"), "replace")
        except (LookupError, UnicodeError):  # a charset that nobody knows, or that is none of text
            return self.body[:limit].decode("utf-8", "replace")


def unmet(expect: Expect, answer: HttpAnswer) -> list[str]:
    """Return what `answer` does not meet, one reason in words for each expectation."""
    return [*_about_status(expect, answer), *_about_body(expect, answer), *_about_time(expect, answer)]


def _about_status(expect: Expect, answer: HttpAnswer) -> Iterator[str]:
    code = str(answer.status)
    if not any(option in {code, f"{code[0]}xx"} for option in expect.status):
        one_of = "one of " if len(expect.status) > 1 else ""
        yield f"status is {code}, expected {one_of}{', '.join(expect.status)}"


def _about_body(expect: Expect, answer: HttpAnswer) -> Iterator[str]:
    if expect.contains is None and not expect.json_:
        return
    if answer.encoding:
        yield f"the body is encoded as {answer.encoding}, which was not asked for"
        return
    if expect.contains is not None and expect.contains not in answer.text:
        where = "" if answer.is_whole else f" in its first {len(answer.body)} bytes"
        yield f"the body does not contain {expect.contains[:200]!r}{where}"
    if expect.json_:
        yield from _about_json(expect.json_, answer)


def _about_json(wanted: Mapping[str, JsonValue], answer: HttpAnswer) -> Iterator[str]:
    if not answer.is_whole:
        yield f"the body is longer than {len(answer.body)} bytes, too long to be read as JSON"
        return
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        yield f"the body is no JSON ({error})"
        return
    for pointer, value in wanted.items():
        found = _at(pointer, document)
        if found is _MISSING:
            yield f"{pointer} is missing, expected {shown(value)}"
        elif not _equal(found, value):
            yield f"{pointer or 'the body'} is {shown(found)}, expected {shown(value)}"


def _about_time(expect: Expect, answer: HttpAnswer) -> Iterator[str]:
    limit = expect.within_seconds
    if limit is not None and answer.elapsed_ms > limit * 1000:
        yield f"it took {answer.elapsed_ms / 1000:g} s, expected at most {limit:g} s"


def _at(pointer: str, document: Any) -> Any:  # noqa: ANN401  any JSON
    """Return what a JSON Pointer points at."""
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(key, _MISSING)
        elif isinstance(document, list) and _INDEX.fullmatch(key) and int(key) < len(document):
            document = document[int(key)]
        else:
            return _MISSING
    return document


def _equal(left: Any, right: Any) -> bool:  # noqa: ANN401
    """Compare JSON: true is not 1, as it is in Python; 1 is 1.0."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and left == right
