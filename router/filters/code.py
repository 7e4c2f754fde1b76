"""From nodes to one Python function, and to the key that equal filters share.

A function that is written out takes half the time of closures that call one another. No text of a client's gets into
its source: names of fields, operators and our own helpers stand there, all else is a constant with a number.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final

from router.filters import values
from router.filters.language import Every, Node, Not, Path, Test
from router.filters.values import MISSING, canonical

#: A node's key begins with its operator.
Key = tuple[Hashable, ...]

_FIELDS: Final = {
    "channel": "event.channel",
    "timestamp": "event.timestamp",
    "event_type": "event.event_type",
    "seq": "event.seq",
    "data": "data",
}
_ORDERS: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_DECODE: Final = "    data = event.decoded\n    if data is None:\n        data = event.decode()\n"


def key(node: Node) -> Key:
    """What a node asks, whatever the order and the spelling it was written in."""
    match node:
        case Test(operator="$in" | "$nin"):
            return (node.operator, node.path.text, frozenset(map(canonical, node.operand)))
        case Test():
            return (node.operator, node.path.text, canonical(node.operand))
        case Not():
            return ("$not", key(node.part))
    word = "$and" if isinstance(node, Every) else "$or"
    keys: set[Any] = set()
    for part in map(key, node.parts):
        keys.update(part[1] if part[0] == word else [part])  # type: ignore[arg-type]
    return keys.pop() if len(keys) == 1 else (word, frozenset(keys))


def needs_data(node: Node) -> bool:
    """Whether some path of a filter looks into the data."""
    match node:
        case Test():
            return node.path.field == "data"
        case Not():
            return needs_data(node.part)
        case _:
            return any(map(needs_data, node.parts))


def matcher(node: Node) -> Callable[[Any], bool]:
    """A function of a candidate: whether it matches. It never raises."""
    writer = _Writer()
    matches: Callable[[Any], bool] = writer.function(writer.condition(node), decode=needs_data(node))
    return matches


def tracer(nodes: Sequence[Node]) -> Callable[[Any], tuple[tuple[bool, Any], ...]]:
    """A function of a candidate: for each node whether it holds, and for a test the value that it found."""
    writer = _Writer()
    pairs = "".join(map(writer.pair, nodes))
    trace: Callable[[Any], tuple[tuple[bool, Any], ...]] = writer.function(
        f"({pairs})", decode=any(map(needs_data, nodes))
    )
    return trace


class _Writer:
    """The source of one function: expressions, with the constants that they name.

    In it `v` is the value at the path that was looked up last. Where two neighbours ask about the same path, the
    second finds it there: `_loaded` is that path wherever it is certain, else None.
    """

    def __init__(self) -> None:
        self._names: dict[str, Any] = {
            "__builtins__": {},
            "str": str, "int": int, "float": float, "bool": bool, "list": list,
            "MISSING": MISSING, "walk": values.walk, "same": values.same, "contains": values.contains,
        }  # fmt: skip
        self._loaded: str | None = None

    def function(self, expression: str, *, decode: bool) -> Any:
        """The function of a candidate that gives an expression's value."""
        source = f"def function(event):\n{_DECODE if decode else ''}    return {expression}\n"
        exec(source, self._names)  # noqa: S102 - written above, with no text of a client's in it
        return self._names["function"]

    def condition(self, node: Node) -> str:
        """An expression for whether a node holds."""
        match node:
            case Test():
                return f"({self._test(node)})"
            case Not():
                return f"(not {self.condition(node.part)})"
            case Every():
                return self._chain(node.parts, " and ") or "True"
            case _:
                return self._chain(node.parts, " or ")

    def pair(self, node: Node) -> str:
        """An expression for whether a node holds, and for the value that it found."""
        holds = self.condition(node)
        return f"({holds}, {self._value(node.path) if isinstance(node, Test) else 'MISSING'}),"

    def _chain(self, parts: Iterable[Node], word: str) -> str:
        conditions, ends = [], set()
        for part in parts:
            conditions.append(self.condition(part))
            ends.add(self._loaded)
        self._loaded = ends.pop() if len(ends) == 1 else None  # it may end after any of them
        return f"({word.join(conditions)})" if conditions else ""

    def _constant(self, value: object) -> str:
        name = f"c{len(self._names)}"
        self._names[name] = value
        return name

    def _value(self, path: Path) -> str:
        """An expression for the value at a path, which is `v` from there on."""
        if self._loaded == path.text:
            return "v"
        self._loaded = path.text
        field = _FIELDS.get(path.field, "MISSING")
        if field == "data" and len(path.steps) == 1:  # the most usual path; data are an object
            return f"(v := data.get({self._constant(path.steps[0][0])}, MISSING))"
        return f"(v := walk({field}, {self._constant(path.steps)}))" if path.steps else f"(v := {field})"

    def _test(self, test: Test) -> str:
        value, operand = self._value(test.path), test.operand
        match test.operator:
            case "$eq":
                return self._equal(value, operand)
            case "$ne":
                return f"not ({self._equal(value, operand)})"
            case "$in":
                return self._among(value, operand)
            case "$nin":
                return f"not ({self._among(value, operand)})"
            case "$contains" if isinstance(operand, str):
                return f"({value}.__class__ is str or v.__class__ is list) and {self._constant(operand)} in v"
            case "$contains":
                return f"{value}.__class__ is list and contains(v, {self._constant(operand)})"
            case "$exists":
                return f"{value} is {'not ' if operand else ''}MISSING"
        if test.pattern is not None:
            if test.pattern.prefix is not None:
                return f"{value}.__class__ is str and v.startswith({self._constant(test.pattern.prefix)})"
            return f"{value}.__class__ is str and {self._constant(test.pattern.test)}(v)"
        order = f"v {_ORDERS[test.operator]} {self._constant(operand)}"
        if isinstance(operand, str):
            return f"{value}.__class__ is str and {order}"
        return f"({value}.__class__ is int or v.__class__ is float) and {order}"

    def _equal(self, value: str, operand: Any) -> str:
        if operand is None or isinstance(operand, bool):
            return f"{value} is {operand}"
        equal = f"{value} == {self._constant(operand)}"
        if isinstance(operand, str):
            return equal
        if isinstance(operand, int | float):
            return f"{equal} and v.__class__ is not bool"
        return f"{equal} and same(v, {self._constant(operand)})"

    def _among(self, value: str, operands: list[Any]) -> str:
        if all(isinstance(operand, str) for operand in operands):
            return f"{value}.__class__ is str and v in {self._constant(frozenset(operands))}"
        return f"{self._constant(values.one_of(operands))}({value})"
