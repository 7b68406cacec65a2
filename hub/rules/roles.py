"""Who may do what over HTTP: the roles, what each route needs, and nothing else decides it.

A route that stands in no row is refused to everybody: the application does not start with one (`unlisted`).
"""

from __future__ import annotations

import re
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Role(StrEnum):
    """What a token allows; each may do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """How much it may."""
        return _RANKS[self]


_RANKS = {Role.VIEWER: 1, Role.OPERATOR: 2, Role.ADMIN: 3}


class Needs(Enum):
    """What a request must show."""

    NOTHING = "nothing"
    ACCOUNT = "a worker's account"
    VIEWER = Role.VIEWER
    OPERATOR = Role.OPERATOR
    ADMIN = Role.ADMIN

    @property
    def role(self) -> Role | None:
        """The least role that will do, where it takes one."""
        return self.value if isinstance(self.value, Role) else None


ROUTES: Final[Mapping[str, Mapping[str, Needs]]] = {
    "/health": {"GET": Needs.NOTHING},
    "/api/bootstrap": {"GET": Needs.NOTHING},
    "/api/ca": {"GET": Needs.NOTHING},
    "/api/enrol": {"POST": Needs.NOTHING},
    "/api/link": {"POST": Needs.ACCOUNT},
    "/api/tasks": {"GET": Needs.VIEWER, "POST": Needs.OPERATOR},
    "/api/tasks/batch": {"POST": Needs.OPERATOR},
    "/api/tasks/{id}": {"GET": Needs.VIEWER},
    "/api/tasks/{id}/wait": {"GET": Needs.VIEWER},
    "/api/tasks/{id}/log": {"GET": Needs.VIEWER},
    "/api/tasks/{id}/cancel": {"POST": Needs.OPERATOR},
    "/api/tasks/{id}/retry": {"POST": Needs.OPERATOR},
    "/api/tasks/{id}/resolve": {"POST": Needs.OPERATOR},
    "/api/sites": {"GET": Needs.VIEWER},
    "/api/workers": {"GET": Needs.VIEWER},
    "/api/workers/{id}": {"GET": Needs.VIEWER},
    "/api/workers/{id}/tasks": {"GET": Needs.VIEWER},
    "/api/schedules": {"GET": Needs.VIEWER},
    "/api/schedules/{name}": {"GET": Needs.VIEWER, "PUT": Needs.OPERATOR, "DELETE": Needs.OPERATOR},
    "/api/skips": {"GET": Needs.VIEWER},
    "/api/rejections": {"GET": Needs.VIEWER},
    "/api/gaps": {"GET": Needs.VIEWER},
    "/api/tokens": {"GET": Needs.ADMIN, "POST": Needs.ADMIN},
    "/api/tokens/{id}": {"DELETE": Needs.ADMIN},
    "/api/audit": {"GET": Needs.ADMIN},
    "/api/enrolments": {"GET": Needs.ADMIN, "POST": Needs.ADMIN},
    "/api/enrolments/{id}": {"DELETE": Needs.ADMIN},
    "/api/accounts": {"GET": Needs.ADMIN},
    "/api/accounts/{name}/revoke": {"POST": Needs.ADMIN},
}
"""What each route needs, by its path and its method. HEAD is as GET."""

ELSEWHERE = Needs.VIEWER
"""What a request needs that no row is for: to be told that there is nothing, one must be somebody."""


def needs_of(method: str, path: str) -> tuple[str | None, Needs]:
    """Return which path of `ROUTES` a request is for, None where it is for none, and what it needs."""
    method = "GET" if method == "HEAD" else method
    row = ROUTES.get(path)
    if row and method in row and "{" not in path:  # /api/tasks/{id}, as typed, is a task called {id}
        return path, row[method]
    for template, pattern in _PATTERNS:
        if method in ROUTES[template] and pattern.fullmatch(path):
            return template, ROUTES[template][method]
    return None, ELSEWHERE


def unlisted(routes: Iterable[tuple[str, Iterable[str]]]) -> list[str]:
    """Return the routes, given as paths with their methods, that stand in no row: `PUT /api/tasks/{id}`."""
    return [
        f"{method} {path}"
        for path, methods in routes
        for method in sorted(methods)
        if ("GET" if method == "HEAD" else method) not in ROUTES.get(path, {})
    ]


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile("".join("[^/]+" if part.startswith("{") else re.escape(part) for part in _parts(template)))


def _parts(template: str) -> list[str]:
    return re.split(r"(\{\w+\})", template)


_PATTERNS = [(template, _pattern(template)) for template in ROUTES if "{" in template]
