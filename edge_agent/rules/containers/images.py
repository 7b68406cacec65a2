"""Names of images, and which of them may run: `WORKER_ALLOW_IMAGES`.

A name is read as the engine reads it (the grammar is that of github.com/distribution/reference) and is always told to
the engine in full. So a pattern speaks of the image that runs, and a short name never finds an image by its id.

>>> str(Image.parse("busybox"))
'docker.io/library/busybox:latest'
>>> ImagePattern.parse("busybox:*").allows(Image.parse("evil.example/busybox:1"))
False

In a pattern `*` stands for any text within one part of a name, `**` for any text. The tag `*` allows every tag and
every digest, and so does a pattern without a tag that ends in `*`. Without either it means `latest`, as a name does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.errors import InvalidInput
from broker.problems import Problem, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_DOMAIN = "docker.io"
OLD_DOMAIN = "index.docker.io"
OFFICIAL = "library"
LATEST = "latest"
EXPECTED = "an image such as 'busybox:1', 'ghcr.io/acme/site:2' or 'name@sha256:…'"

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?"
_REPOSITORY = re.compile(rf"{_DOMAIN}/{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_WILD = re.compile(r"(\*\*|\*)")


@dataclass(frozen=True, slots=True)
class Image:
    """An image's name in full; `str()` of it is what the engine is asked for."""

    repository: str
    tag: str | None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Image:
        """Read a name. Raises `InvalidInput`."""
        repository, tag, digest = _split(text)
        full = _in_full(repository)
        is_image = (
            _REPOSITORY.fullmatch(full)
            and (tag is None or _TAG.fullmatch(tag))
            and (digest is None or _DIGEST.fullmatch(digest))
        )
        if not is_image:
            raise InvalidInput([Problem("image", shown(text), EXPECTED)])
        return cls(full, tag if tag or digest else LATEST, digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


@dataclass(frozen=True, slots=True)
class ImagePattern:
    """One entry of `WORKER_ALLOW_IMAGES`. A `tag` or `digest` of None allows none; `any_version` allows all."""

    repository: re.Pattern[str]
    tag: re.Pattern[str] | None
    digest: re.Pattern[str] | None
    any_version: bool

    @classmethod
    def parse(cls, text: str) -> ImagePattern:
        """Read a pattern. Raises `InvalidInput`."""
        repository, tag, digest = _split(text)
        if not repository or text != text.strip() or "" in (tag, digest):
            raise InvalidInput(
                [Problem("pattern", shown(text), "an image, maybe with '*': 'ghcr.io/acme/*', 'busybox:*'")]
            )
        open_ended = tag is None and digest is None and repository.endswith("*")
        if tag is None and digest is None and not open_ended:
            tag = LATEST
        return cls(
            _expression(repository if repository.startswith("**") else _in_full(repository)),
            _expression(tag) if tag else None,
            _expression(digest) if digest else None,
            any_version=open_ended or (tag == "*" and digest is None),
        )

    def allows(self, image: Image) -> bool:
        """Tell whether `image` is of this pattern. A digest decides what runs: a pattern for tags alone allows none."""
        if not self.repository.fullmatch(image.repository):
            return False
        if self.any_version:
            return True
        if image.digest is not None:
            return self.digest is not None and bool(self.digest.fullmatch(image.digest))
        return self.digest is None and self.tag is not None and bool(self.tag.fullmatch(image.tag or LATEST))


def parse(patterns: Iterable[str]) -> tuple[ImagePattern, ...]:
    """Read the patterns of the setting."""
    return tuple(ImagePattern.parse(text) for text in patterns)


def _split(text: str) -> tuple[str, str | None, str | None]:
    """Take a name apart: repository, tag and digest. A colon before the last slash is a port's."""
    name, at, digest = text.partition("@")
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        head, tag = name, ""
        colon = ""
    return head, tag if colon else None, digest if at else None


def _in_full(repository: str) -> str:
    domain, slash, rest = repository.partition("/")
    is_domain = bool(slash) and ("." in domain or ":" in domain or domain == "localhost" or domain != domain.lower())
    if not is_domain:
        domain, rest = DEFAULT_DOMAIN, repository
    if domain in (DEFAULT_DOMAIN, OLD_DOMAIN):
        return f"{DEFAULT_DOMAIN}/{rest if '/' in rest or rest == '**' else f'{OFFICIAL}/{rest}'}"
    return f"{domain}/{rest}"


def _expression(text: str) -> re.Pattern[str]:
    """Make an expression: `**` for anything, `*` for anything within one part."""
    wild = {"**": ".*", "*": "[^/]*"}
    return re.compile("".join(wild.get(part) or re.escape(part) for part in _WILD.split(text)), re.DOTALL)
