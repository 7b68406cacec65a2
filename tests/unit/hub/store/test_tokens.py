"""Tokens and the audit trail in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from broker.errors import InvalidInput
from hub.errors import NotFound
from hub.rules.audit import MAX_TEXT, Entry, Outcome
from hub.rules.callers import Caller
from hub.rules.roles import Role
from hub.rules.tokens import ApiToken
from hub.store.audit import AuditFilter, actions_since, list_audit, newest, write
from hub.store.tokens import add_token, any_token, load_tokens, revoke_token, touch_tokens

if TYPE_CHECKING:
    from sqlalchemy import Connection

BY = Caller("local:me", Role.ADMIN)
ONE = ApiToken("aaaaaaaa", "ci", Role.OPERATOR, "0" * 64, 1000)


def trail(connection: Connection, **wanted: Any) -> list[tuple[str, str | None]]:  # noqa: ANN401
    page = list_audit(connection, AuditFilter(**wanted), limit=50, cursor=None)
    return [(row.action, row.target) for row in page.items]


def test_a_token_is_kept_and_read_as_it_was(connection: Connection) -> None:
    assert not any_token(connection)
    add_token(connection, ONE, BY)
    assert any_token(connection)
    assert load_tokens(connection) == [ONE]
    assert trail(connection) == [("token.created", "ci")]


def test_of_one_name_there_is_one_that_holds(connection: Connection) -> None:
    add_token(connection, ONE, BY)
    other = ONE._replace(id="bbbbbbbb", created_ms=3000)
    with pytest.raises(InvalidInput, match=r'name is "ci": expected a name that no token has that holds'):
        add_token(connection, other, BY)
    revoke_token(connection, "ci", 2000, BY)
    add_token(connection, other, BY)
    assert [one.flaw(3000) for one in load_tokens(connection)] == ["revoked", None]


def test_a_name_means_the_token_that_holds_and_an_id_the_one(connection: Connection) -> None:
    add_token(connection, ONE, BY)
    assert revoke_token(connection, "ci", 2000, BY).revoked_ms == 2000
    with pytest.raises(NotFound):
        revoke_token(connection, "ci", 2500, BY)
    assert revoke_token(connection, "aaaaaaaa", 3000, BY).revoked_ms == 2000
    assert trail(connection) == [("token.revoked", "ci"), ("token.created", "ci")]


def test_when_it_was_last_used_never_goes_back(connection: Connection) -> None:
    add_token(connection, ONE, BY)
    for at in (5000, 4000):
        touch_tokens(connection, {"aaaaaaaa": at, "unknown": at})
    touch_tokens(connection, {})
    assert load_tokens(connection)[0].last_used_ms == 5000
    assert len(trail(connection)) == 1


def test_the_trail_is_found_by_who_and_what(connection: Connection) -> None:
    before = newest(connection)
    assert actions_since(connection, before) == (before, set())
    write(
        connection,
        Entry("token:a", "task.submitted", "t1"),
        Entry("token:b", "task.cancelled", "t1"),
        Entry("anonymous", "request.refused", "GET /", Outcome.REFUSED),
        Entry("token:a", "tasks_100%", "x"),
    )
    write(connection)
    assert trail(connection, who="token:a") == [("tasks_100%", "x"), ("task.submitted", "t1")]
    assert trail(connection, action="task") == [("task.cancelled", "t1"), ("task.submitted", "t1")]
    assert trail(connection, action="task.submitted") == [("task.submitted", "t1")]
    assert trail(connection, action="tasks_100%") == [("tasks_100%", "x")]
    assert trail(connection, action="%") == []
    assert trail(connection, outcome="refused") == [("request.refused", "GET /")]
    assert actions_since(connection, before) == (
        newest(connection),
        {"task.submitted", "task.cancelled", "request.refused", "tasks_100%"},
    )
    assert actions_since(connection, newest(connection)) == (newest(connection), set())


def test_the_trail_is_paged(connection: Connection) -> None:
    write(connection, *(Entry("hub", "task.submitted", str(number)) for number in range(5)))
    first = list_audit(connection, AuditFilter(), limit=3, cursor=None)
    second = list_audit(connection, AuditFilter(), limit=3, cursor=first.next)
    assert [row.target for row in (*first.items, *second.items)] == ["4", "3", "2", "1", "0"]
    assert second.next is None


def test_no_line_is_longer_than_is_kept(connection: Connection) -> None:
    write(connection, Entry("w" * 9999, "task.submitted", "t" * 9999, detail="d" * 9999))
    (row,) = list_audit(connection, AuditFilter(), limit=1, cursor=None).items
    assert {len(row.who), len(row.target), len(row.detail)} == {MAX_TEXT}
