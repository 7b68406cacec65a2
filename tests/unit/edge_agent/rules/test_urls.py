"""URLs: what is one, and which of them a worker may ask."""

from __future__ import annotations

import pytest

from broker.errors import InvalidInput
from edge_agent.rules.urls import MAX_URL_CHARACTERS, Url, UrlPattern, is_allowed


def allows(pattern: str, url: str) -> bool:
    return is_allowed(Url.parse(url), [UrlPattern.parse(pattern)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://a", Url("http", "a", 80, "/")),
        ("https://A.example:8443/x/y?z=1#w", Url("https", "a.example", 8443, "/x/y", "z=1")),
        ("http://me:s%20ecret@a.example/", Url("http", "a.example", 80, "/")),
        ("http://[fd00::1]:8080/health", Url("http", "[fd00::1]", 8080, "/health")),
        ("http://my_host/a%2Fb?q=/?&r", Url("http", "my_host", 80, "/a%2Fb", "q=/?&r")),
    ],
)
def test_a_url_is_read(text: str, expected: Url) -> None:
    assert Url.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "//a",
        "ftp://a",
        "file:///etc/passwd",
        "http://",
        "http:///x",
        "http://a:0/",
        "http://a:65536/",
        "http://a:x/",
        "http://a b/",
        "http://a/b c",
        "http://a/\r\nX: y",
        "http://a/ä",
        "http://ä/",
        "http://good.example\\@bad.example/",  # which host that is, two clients do not agree
        "http://good.example@@bad.example/",
        "http://a/%zz",
        "http://-a/",
        f"http://a/{'x' * MAX_URL_CHARACTERS}",
    ],
)
def test_what_clients_would_have_to_repair_is_no_url(text: str) -> None:
    with pytest.raises(InvalidInput, match="a host, and what follows percent-encoded"):
        Url.parse(text)


def test_neither_the_text_of_a_url_nor_the_error_of_a_wrong_one_has_a_secret() -> None:
    assert str(Url.parse("https://me:secret@a:8443/x?token=secret#secret")) == "https://a:8443/x"
    with pytest.raises(InvalidInput) as raised:
        Url.parse("https://me:secret@a b/")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("https://a.example/", "https://a.example"),
        ("https://a.example/", "https://me:pw@A.EXAMPLE:443/#x"),
        ("https://a.example/**", "https://a.example/x/y?z=1/2"),
        ("http://*.example:8080/health", "http://a.example:8080/health"),
        ("http://10.0.0.*/x/*/z", "http://10.0.0.7/x/y/z"),
        ("http://a/x?q=*", "http://a/x?q=1"),
        ("http://a/api/**", "http://a/api/"),
    ],
)
def test_a_pattern_allows(pattern: str, url: str) -> None:
    assert allows(pattern, url)


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("https://a.example/", "http://a.example/"),
        ("https://a.example/", "https://a.example:8443/"),
        ("https://a.example/", "https://a.example/x"),
        ("https://a.example/", "https://a.example/?x"),
        ("https://a.example/**", "https://a.example.bad.example/"),
        ("https://a.example/**", "https://a.example@bad.example/"),
        ("https://a.example/**", "https://bad.example/https://a.example/"),
        ("http://*.example/", "http://a.b.example/"),
        ("http://10.0.0.*/", "http://10.0.0.7.bad.example/"),
        ("http://a/x/*", "http://a/x/y/z"),
        ("http://a/x/*", "http://a/x/y?z"),
        ("http://a/x?q=*", "http://a/x?q=1&r=2"),
        ("http://a/api/**", "http://a/api"),
        ("http://a/api/**", "http://a/api/../admin"),
        ("http://a/api/**", "http://a/api/%2e%2E/admin"),
        ("http://a/api/*", "http://a/api/..%2fadmin"),
        ("http://a/api/*", "http://a/api/..%5cadmin"),
        ("http://a/api/**", "http://a/api/..;/admin"),
        ("http://a/api/**", "http://a/api/%2e%2e;x=y/admin"),
        ("http://a.b/", "http://axb/"),
    ],
)
def test_a_pattern_does_not_allow(pattern: str, url: str) -> None:
    assert not allows(pattern, url)


def test_without_patterns_all_is_allowed_and_with_none_nothing_is() -> None:
    url = Url.parse("http://a/../b")
    assert is_allowed(url, None)
    assert not is_allowed(url, [])


@pytest.mark.parametrize(
    "text",
    ["", "a.example", "https://a.example", "*://a/", "https://a/**/b", "https://a/***", "http://**/", "http://a:x/"],
)
def test_a_wrong_pattern_is_named(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected a URL with a path"):
        UrlPattern.parse(text)
