"""The filter language: from JSON to nodes, within limits, or a sentence that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from router.filters import patterns, values
from router.filters.patterns import MAX_PROGRAM, Pattern, PatternError
from router.filters.values import Steps, shown

#: Of a filter: paths and operators, as they are written.
MAX_NODES: Final = 32
#: How deep they may stand in one another.
MAX_LEVELS: Final = 8
#: How deep the lists and objects of its JSON may nest, operands among them: any number could not be compared.
MAX_DEPTH: Final = 64


class FilterError(ValueError):
    """A filter that is malformed, or over its limits. Its text is one sentence for whoever wrote the filter."""


class Path(Struct, frozen=True):
    """Where in an event to look.

    Attributes:
        text: As it was written.
        field: The event's field that it begins with.
        steps: The way from there.
    """

    text: str
    field: str
    steps: Steps


class Test(Struct, frozen=True):
    """One operator on one path; `pattern` is the compiled operand of those that have one."""

    path: Path
    operator: str
    operand: Any
    pattern: Pattern | None = None


class Not(Struct, frozen=True):
    """The opposite of a part; `path` is where it was written, empty among paths."""

    part: Node
    path: str = ""


class Every(Struct, frozen=True):
    """All parts hold, none is enough; `written` as `$and`, or what an object means."""

    parts: tuple[Node, ...]
    written: bool = False


class Some(Struct, frozen=True):
    """At least one part holds."""

    parts: tuple[Node, ...]


Node = Test | Not | Every | Some


def read(text: bytes | Raw) -> Node:
    """Read a filter's JSON.

    Raises:
        FilterError: It is not a filter.
    """
    try:
        source = msgspec.json.decode(text)
        json.loads(str(text, "utf-8"), object_pairs_hook=_check_keys)  # msgspec keeps the last of two equal keys
    except FilterError:
        raise
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise FilterError(f"filter: not valid JSON ({error})") from None
    if values.is_deeper(source, MAX_DEPTH):
        raise FilterError(f"filter: its lists and objects nest deeper than {MAX_DEPTH}")
    return _Reader().filter(source, "filter", 0)


def _check_keys(pairs: list[tuple[str, Any]]) -> None:
    keys = set()
    for key, _ in pairs:
        if key in keys:
            raise FilterError(f"filter: the key {shown(key)} stands twice in one object; put the two into $and")
        keys.add(key)


class _Reader:
    """One reading: what has been used of the limits so far."""

    def __init__(self) -> None:
        self._nodes = 0
        self._program = 0

    def _enter(self, place: str, level: int) -> None:
        """Count a node.

        Args:
            place: Where it stands, for the error.
            level: How many nodes it stands in.
        """
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise FilterError(f"filter: more than {MAX_NODES} nodes (a path or an operator each)")
        if level >= MAX_LEVELS:
            raise FilterError(f"{shown_place(place)}: deeper than {MAX_LEVELS} levels (a path or an operator each)")

    def filter(self, source: Any, place: str, level: int) -> Node:
        """Read one filter, the whole or a part."""
        if not isinstance(source, dict):
            raise FilterError(f"{shown_place(place)} must be an object, not {shown(source)}")
        return _every(self._member(key, value, f"{place}.{key}", level) for key, value in source.items())

    def _member(self, key: str, value: Any, place: str, level: int) -> Node:
        self._enter(place, level)
        match key:
            case "$and":
                return Every(self._list(value, place, level), written=True)
            case "$or":
                return Some(self._list(value, place, level))
            case "$not":
                return Not(self.filter(value, place, level + 1))
        if key in OPERATORS:
            raise FilterError(
                f'{shown_place(place)}: an operator needs a path, for example {{"data.x": {{{shown(key)}: …}}}}'
            )
        if key.startswith("$"):
            raise FilterError(f"{shown_place(place)}: unknown operator (among paths: $and, $or, $not)")
        return self._along(_path(key), value, place, level + 1)

    def _list(self, source: Any, place: str, level: int) -> tuple[Node, ...]:
        if not isinstance(source, list) or not source:
            raise FilterError(f"{shown_place(place)} must be a non-empty list of filters, not {shown(source)}")
        if len(source) > MAX_NODES:  # `{}` has no nodes, and there is room for 20,000 of them in a message
            raise FilterError(f"{shown_place(place)}: more than {MAX_NODES} filters in a list")
        return tuple(self.filter(each, f"{place}[{index}]", level + 1) for index, each in enumerate(source))

    def _along(self, path: Path, source: Any, place: str, level: int) -> Node:
        """Read what is asked of one path: a bare value, or a set of operators."""
        if not isinstance(source, dict) or not any(key.startswith("$") for key in source):
            return self._test(path, "$eq", source, place)
        return self._operators(path, source, place, level)

    def _operators(self, path: Path, source: dict[str, Any], place: str, level: int) -> Node:
        return _every(self._operator(path, key, value, f"{place}.{key}", level) for key, value in source.items())

    def _operator(self, path: Path, operator: str, operand: Any, place: str, level: int) -> Node:
        self._enter(place, level)
        if operator == "$not":
            if not isinstance(operand, dict) or not operand:
                raise FilterError(f"{shown_place(place)} must be a set of operators, not {shown(operand)}")
            return Not(self._operators(path, operand, place, level + 1), path.text)
        if operator in ("$and", "$or"):
            raise FilterError(f"{shown_place(place)}: {operator} stands among paths, not under one")
        if operator not in OPERATORS:
            known = ", ".join(OPERATORS)
            raise FilterError(f"{shown_place(place)}: unknown operator (under a path: {known}, $not)")
        return self._test(path, operator, operand, place)

    def _test(self, path: Path, operator: str, operand: Any, place: str) -> Test:
        wanted, kinds = OPERATORS[operator]
        if operand.__class__ not in kinds:
            raise FilterError(f"{shown_place(place)} must be {wanted}, not {shown(operand)}")
        return Test(path, operator, operand, self._pattern(operator, operand, place))

    def _pattern(self, operator: str, operand: Any, place: str) -> Pattern | None:
        make = _PATTERNS.get(operator)
        if make is None:
            return None
        try:
            pattern = make(operand)
            self._program += pattern.program
            if self._program > MAX_PROGRAM:
                raise PatternError(f"too large, all of a filter's may take {MAX_PROGRAM} RE2 instructions")
        except PatternError as error:
            raise FilterError(f"{shown_place(place)}: the pattern {shown(operand)} cannot be used: {error}") from None
        return pattern


def shown_place(place: str) -> str:
    """A place in a filter, cut where clients made it long."""
    return place if len(place) <= 120 else f"{place[:60]}…{place[-59:]}"


def _every(parts: Iterable[Node]) -> Node:
    found = tuple(parts)
    return found[0] if len(found) == 1 else Every(found)


def _path(text: str) -> Path:
    way = values.steps(text)
    if any(not key for key, _ in way):
        raise FilterError(f"filter: the path {shown(text)} has an empty part")
    return Path(text, way[0][0], way[1:])


_ANY: Final = ("a JSON value", (type(None), bool, int, float, str, list, dict))
_ORDERED: Final = ("a number or a string", (int, float, str))
_LIST: Final = ("a list", (list,))
_STRING: Final = ("a string", (str,))
_FLAG: Final = ("true or false", (bool,))

#: What stands under a path, `$not` aside, and the operand it takes: in words, and as exact classes.
OPERATORS: Final[dict[str, tuple[str, tuple[type, ...]]]] = {
    "$eq": _ANY,
    "$ne": _ANY,
    "$gt": _ORDERED,
    "$gte": _ORDERED,
    "$lt": _ORDERED,
    "$lte": _ORDERED,
    "$in": _LIST,
    "$nin": _LIST,
    "$contains": _ANY,
    "$wildcard": _STRING,
    "$regex": _STRING,
    "$exists": _FLAG,
}

_PATTERNS: Final[dict[str, Callable[[str], Pattern]]] = {"$wildcard": patterns.wildcard, "$regex": patterns.regex}
