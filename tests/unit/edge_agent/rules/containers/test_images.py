from __future__ import annotations

import pytest

from broker.errors import InvalidInput
from edge_agent.rules.containers.images import Image, ImagePattern

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("library/busybox:1", "docker.io/library/busybox:1"),
        ("docker.io/busybox:1", "docker.io/library/busybox:1"),
        ("index.docker.io/library/busybox:1", "docker.io/library/busybox:1"),
        ("acme/site:2", "docker.io/acme/site:2"),
        ("ghcr.io/acme/site", "ghcr.io/acme/site:latest"),
        ("localhost/site:1", "localhost/site:1"),
        ("registry:5000/site", "registry:5000/site:latest"),
        ("127.0.0.1:5000/a/b/c:1", "127.0.0.1:5000/a/b/c:1"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        (f"busybox:1@{DIGEST}", f"docker.io/library/busybox:1@{DIGEST}"),
        ("a1b2c3d4e5f6", "docker.io/library/a1b2c3d4e5f6:latest"),  # never an image's id
    ],
)
def test_a_name_is_read_in_full(short: str, full: str) -> None:
    assert str(Image.parse(short)) == full
    assert Image.parse(full) == Image.parse(short)


@pytest.mark.parametrize(
    "text",
    ["", ":", "busybox:", "busybox@", "busybox@sha256:12", "BusyBox", "-busybox", "a//b", "/a", "a/", "../a", "a b",
     "https://ghcr.io/a", "busybox:1:2", "busybox:-1", "busybox\n", "busybox:1\n", "sha256:" + "a" * 64 + "@"],
)  # fmt: skip
def test_what_is_no_name_of_an_image_is_told_with_what_is(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected an image such as 'busybox:1'"):
        Image.parse(text)


@pytest.mark.parametrize(
    ("pattern", "allowed", "refused"),
    [
        (
            "busybox:*",
            ["busybox", "busybox:1", "docker.io/library/busybox:1", f"busybox@{DIGEST}"],
            ["evil.example/busybox:1", "acme/busybox:1", "busyboxevil:1", "localhost/busybox:1", "library/x/busybox:1"],
        ),
        ("busybox", ["busybox", "busybox:latest"], ["busybox:1", f"busybox@{DIGEST}"]),
        ("busybox:1.*", ["busybox:1.36"], ["busybox:2.1", f"busybox:1.36@{DIGEST}", "busybox:latest"]),
        (
            "ghcr.io/acme/*",
            ["ghcr.io/acme/site:2", f"ghcr.io/acme/site@{DIGEST}"],
            ["ghcr.io/acme/a/b", "ghcr.io/evil/x"],
        ),
        (
            "ghcr.io/acme/**",
            ["ghcr.io/acme/a/b:3", "ghcr.io/acme/a"],
            ["ghcr.io/acmeevil/a", "ghcr.io.evil.example/acme/a"],
        ),
        ("*", ["busybox", "redis:7"], ["acme/site", "ghcr.io/busybox"]),
        ("**", ["busybox", "ghcr.io/a/b:1", f"x.example/y@{DIGEST}"], []),
        ("acme/*:2", ["acme/site:2"], ["acme/site:3", "acme/site", "acme/a/b:2", f"acme/site:2@{DIGEST}"]),
        (f"busybox@{DIGEST}", [f"busybox@{DIGEST}", f"busybox:9@{DIGEST}"], ["busybox", "busybox:1"]),
        ("registry:5000/*:*", ["registry:5000/a:1"], ["registry/a:1", "registry:5001/a:1"]),
    ],
)
def test_a_pattern_allows_what_it_says_and_nothing_else(pattern: str, allowed: list[str], refused: list[str]) -> None:
    parsed = ImagePattern.parse(pattern)
    assert [name for name in allowed if not parsed.allows(Image.parse(name))] == []
    assert [name for name in refused if parsed.allows(Image.parse(name))] == []


@pytest.mark.parametrize("text", ["", " busybox", "busybox:", "@", ":1"])
def test_a_pattern_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected an image, maybe with"):
        ImagePattern.parse(text)
