"""Which route a request is for, and what that needs."""

from __future__ import annotations

import pytest

from hub.rules.roles import ELSEWHERE, ROUTES, Needs, Role, needs_of, unlisted


@pytest.mark.parametrize(
    ("method", "path", "template", "needs"),
    [
        ("GET", "/health", "/health", Needs.NOTHING),
        ("POST", "/api/tasks", "/api/tasks", Needs.OPERATOR),
        ("HEAD", "/api/tasks", "/api/tasks", Needs.VIEWER),
        ("POST", "/api/tasks/batch", "/api/tasks/batch", Needs.OPERATOR),
        ("GET", "/api/tasks/batch", "/api/tasks/{id}", Needs.VIEWER),
        ("GET", "/api/tasks/{id}", "/api/tasks/{id}", Needs.VIEWER),
        ("POST", "/api/tasks/t1/cancel", "/api/tasks/{id}/cancel", Needs.OPERATOR),
        ("DELETE", "/api/tokens/ci", "/api/tokens/{id}", Needs.ADMIN),
        ("POST", "/api/link", "/api/link", Needs.ACCOUNT),
        ("DELETE", "/api/tasks", None, ELSEWHERE),
        ("GET", "/api/tasks/t1/cancel", None, ELSEWHERE),
        ("GET", "/api/tasks/", None, ELSEWHERE),
        ("GET", "//health", None, ELSEWHERE),
        ("GET", "/health\n", None, ELSEWHERE),
        ("POST", "/api/tasks/a/b/cancel", None, ELSEWHERE),
        ("GET", "", None, ELSEWHERE),
    ],
)
def test_a_request_needs_what_its_row_says(method: str, path: str, template: str | None, needs: Needs) -> None:
    assert needs_of(method, path) == (template, needs)


def test_what_no_row_is_for_takes_somebody() -> None:
    assert ELSEWHERE.role is Role.VIEWER


def test_a_route_that_stands_in_no_row_is_found() -> None:
    routes = [("/api/tasks", {"GET", "HEAD"}), ("/api/tasks", {"PUT"}), ("/api/secrets", {"GET"})]
    assert unlisted(routes) == ["PUT /api/tasks", "GET /api/secrets"]


def test_whoever_may_more_may_also_less() -> None:
    assert Role.VIEWER.rank < Role.OPERATOR.rank < Role.ADMIN.rank


def test_nothing_that_changes_something_is_for_viewers() -> None:
    for path, row in ROUTES.items():
        for method, needs in row.items():
            assert method == "GET" or needs is not Needs.VIEWER, path
