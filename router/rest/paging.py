"""Long lists in pages: `limit` items in order, from the one after `after`; `next` is the following `after`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nsmallest
from typing import Annotated, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

T = TypeVar("T")

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

#: Stands in an answer where there is more.
Next = Annotated[str, Meta(description="There is more: the following `after`")] | UnsetType


class PageQuery(Struct, frozen=True):
    """Which page."""

    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="How many at most")] = DEFAULT_LIMIT
    after: Annotated[str, Meta(description="`next` of the page before")] = ""


class LargePageQuery(PageQuery, frozen=True):
    """Which page of what is seldom long."""

    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="How many at most")] = MAX_LIMIT


def page(items: Iterable[T], key: Callable[[T], str], query: PageQuery) -> tuple[list[T], str | UnsetType]:
    """One page, and where the next begins, if there is one."""
    found = nsmallest(query.limit + 1, (item for item in items if key(item) > query.after), key=key)
    if len(found) <= query.limit:
        return found, UNSET
    return found[: query.limit], key(found[query.limit - 1])
