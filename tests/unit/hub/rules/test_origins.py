"""What a browser says of where a request comes from."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from hub.rules.origins import Told, is_cross_site, is_misnamed

HOST = b"hub.example:8000"


@pytest.mark.parametrize(
    ("told", "refused"),
    [
        (Told(HOST), False),  # no browser
        (Told(HOST, fetch_site=b"same-origin"), False),
        (Told(HOST, fetch_site=b"none"), False),
        (Told(HOST, fetch_site=b"cross-site"), True),
        (Told(HOST, fetch_site=b"same-site"), True),
        (Told(HOST, b"http://hub.example:8000"), False),
        (Told(HOST, b"https://HUB.example:8000"), False),
        (Told(HOST, b"http://hub.example"), True),
        (Told(HOST, b"http://evil.example"), True),
        (Told(HOST, b"null"), True),
        (Told(None, b"http://evil.example"), True),
        (Told(HOST, b"http://evil.example", b"same-origin"), False),  # a proxy has changed the host
        (Told(HOST, b"http://hub.example:8000", b"cross-site"), True),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "BREW"])
def test_a_write_is_refused_to_pages_of_other_sites(method: str, told: Told, refused: bool) -> None:  # noqa: FBT001
    assert is_cross_site(method, told) is refused


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_what_changes_nothing_is_not(method: str) -> None:
    assert not is_cross_site(method, Told(HOST, b"http://evil.example", b"cross-site"))


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        (b"localhost", False),
        (b"localhost:8000", False),
        (b"LOCALHOST:8000", False),
        (b"hub.localhost:8000", False),
        (b"127.0.0.1:8000", False),
        (b"[::1]:8000", False),
        (b"192.168.1.7", False),
        (b"evil.example:8000", True),
        (b"127.0.0.1.evil.example", True),
        (b"[::1", True),
        (b"", True),
        (None, True),
    ],
)
def test_a_name_that_leads_to_loopback_by_somebody_elses_will_is_seen(host: bytes | None, refused: bool) -> None:  # noqa: FBT001
    assert is_misnamed(Told(host)) is refused


@given(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=40))
def test_no_header_is_too_strange(host: bytes | None, origin: bytes | None) -> None:
    told = Told(host, origin)
    assert is_misnamed(told) in {True, False}
    assert is_cross_site("POST", told) in {True, False}
