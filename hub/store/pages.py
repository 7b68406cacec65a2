"""How a list is read a page at a time: newest first, from a cursor on, which is the key of the last row shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import ColumnElement, Select

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows, and the cursor of the next ones."""

    items: list[Row]
    next: int | None


def page_of(query: Select[Any], key: ColumnElement[int], limit: int, cursor: int | None) -> Select[Any]:
    """Restrict `query` to one page, and one row more that tells whether there is another."""
    if cursor is not None:
        query = query.where(key < cursor)
    return query.order_by(key.desc()).limit(limit + 1)


def paged(rows: Sequence[Any], limit: int, convert: Callable[[Any], Row]) -> Page[Row]:
    """Return what `page_of` found as a page."""
    following = rows[limit - 1].seq if len(rows) > limit else None
    return Page([convert(row) for row in rows[:limit]], following)
