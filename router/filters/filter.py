"""What the rest of the router holds of a filter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from msgspec import UNSET, Raw, Struct

from router.filters import code
from router.filters.candidate import Candidate
from router.filters.language import Every, FilterError, Node, Not, Some, Test, read, shown_place
from router.filters.values import MISSING, shortened

#: Of an operand or a value in an explanation, as JSON.
MAX_SHOWN_CHARACTERS: Final = 200

_WORDS: Final = {Not: "$not", Every: "$and", Some: "$or"}


class Line(Struct, kw_only=True, omit_defaults=True):
    """What became of one operator; a filter matches where all lines outside others hold.

    Attributes:
        path: Where it looked; empty for `$and`, `$or` and `$not` among paths.
        operator: The operator.
        operand: What it was given, cut where it is long; unset for those that hold others.
        value: What it found, cut where it is long; unset where the event has no such path.
        holds: Whether it holds.
        within: The operators that it stands in, for example `$or[1].$not`; empty for none.
    """

    path: str = ""
    operator: str
    operand: Any = UNSET
    value: Any = UNSET
    holds: bool
    within: str = ""


class Filter:
    """A compiled filter. Those with the same meaning in normal form are equal, so that they can share one evaluation.

    Attributes:
        key: What it asks: equal for equal filters.
        matches: Whether a `Candidate` matches. Never raises. A function that the filter holds, not a method: it is
            called for every event.
        needs_data: Whether it looks into the data, and has them decoded.
    """

    __slots__ = ("_hash", "_lines", "_node", "_trace", "key", "matches", "needs_data")

    def __init__(self, node: Node) -> None:
        self.key = code.key(node)
        self.matches: Callable[[Candidate], bool] = code.matcher(node)
        self.needs_data = code.needs_data(node)
        self._hash = hash(self.key)
        self._node = node
        self._lines: Sequence[tuple[Node, str]] = ()
        self._trace: Callable[[Candidate], Sequence[tuple[bool, Any]]] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self.key == other.key

    def __hash__(self) -> int:
        return self._hash

    def explain(self, event: Candidate) -> list[Line]:
        """Why an event matches or not: a line for each operator, in the order they were written.

        At most one line for each node of the filter, each of a few hundred characters.
        """
        if self._trace is None:  # few filters are ever asked
            self._lines = tuple(_lines(self._node, ""))
            self._trace = code.tracer([node for node, _ in self._lines])
        found = zip(self._lines, self._trace(event), strict=True)
        return [_line(node, within, holds, value) for (node, within), (holds, value) in found]


def compile(source: Raw | bytes | object) -> Filter:  # noqa: A001 - read as `filters.compile`
    """Compile a filter.

    Args:
        source: Its JSON, in valid UTF-8, or what that would decode to.

    Raises:
        FilterError: It is malformed, or over its limits.
    """
    if not isinstance(source, Raw | bytes):
        try:
            source = json.dumps(source, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise FilterError(f"filter: not a JSON value ({error})") from None
    return Filter(read(source))


def _lines(node: Node, within: str) -> Iterator[tuple[Node, str]]:
    """The nodes that were written down as operators, each with what it stands in."""
    match node:
        case Test():
            yield node, within
        case Not():
            yield node, within
            yield from _lines(node.part, _join(within, "$not"))
        case Every(written=False):
            for part in node.parts:
                yield from _lines(part, within)
        case _:
            yield node, within
            for index, part in enumerate(node.parts):
                yield from _lines(part, _join(within, f"{_WORDS[type(node)]}[{index}]"))


def _line(node: Node, within: str, holds: bool, value: object) -> Line:
    if not isinstance(node, Test):
        path = node.path if isinstance(node, Not) else ""
        return Line(path=shown_place(path), operator=_WORDS[type(node)], holds=holds, within=within)
    return Line(
        path=shown_place(node.path.text),
        operator=node.operator,
        operand=shortened(node.operand, MAX_SHOWN_CHARACTERS),
        value=UNSET if value is MISSING else shortened(value, MAX_SHOWN_CHARACTERS),
        holds=holds,
        within=within,
    )


def _join(within: str, inner: str) -> str:
    return f"{within}.{inner}" if within else inner
