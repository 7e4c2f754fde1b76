"""JSON values as filters see them: finding one by its path, comparing two, naming one in a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any, Final

import msgspec

#: What a path leads to that the event does not have: it equals nothing and has no parts.
MISSING: Final = object()

#: The parts of a path: each as a key, and as an index where it is one, else -1.
Steps = tuple[tuple[str, int], ...]

_is_index = re.compile("0|[1-9][0-9]{0,8}").fullmatch  # more digits than a list has elements


def steps(path: str) -> Steps:
    """A path's parts; a dot always parts two."""
    return tuple((part, int(part) if _is_index(part) else -1) for part in path.split("."))


def walk(value: Any, path: Steps) -> Any:
    """What is found from `value` along `path`, or `MISSING`."""
    for key, index in path:
        kind = value.__class__
        if kind is dict:
            value = value.get(key, MISSING)
        elif kind is list and 0 <= index < len(value):
            value = value[index]
        else:
            return MISSING
    return value


def same(value: Any, other: Any) -> bool:
    """Whether two values that `==` calls equal are equal as JSON: `True` is not a number, at any depth."""
    if other.__class__ is list:
        return all(map(same, value, other))
    if other.__class__ is dict:
        return all(same(value[key], part) for key, part in other.items())
    return (value.__class__ is bool) is (other.__class__ is bool)


def contains(values: list[Any], value: Any) -> bool:
    """Whether one of `values` is the same as `value`."""
    return value in values and any(each == value and same(each, value) for each in values)


def one_of(choices: list[Any]) -> Callable[[Any], bool]:
    """A function: whether a value is the same as one of `choices`, however many they are."""
    scalars = frozenset(each for each in choices if each.__class__ in (str, int, float))
    others = [each for each in choices if each.__class__ not in (str, int, float)]

    def test(value: Any) -> bool:
        kind = value.__class__
        if kind is str or kind is int or kind is float:
            return value in scalars
        return contains(others, value)

    return test


def canonical(value: Any) -> Hashable:
    """A value's hashable form: equal for values that are the same as JSON, and for no others."""
    match value:
        case bool():
            return ("bool", value)
        case list():
            return ("list", *map(canonical, value))
        case dict():
            return ("dict", frozenset((key, canonical(part)) for key, part in value.items()))
        case _:
            assert isinstance(value, Hashable)
            return value


def is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects in `value` nest deeper than `levels`."""
    if value.__class__ is dict:
        value = list(value.values())
    if value.__class__ is not list:
        return False
    return levels == 0 or any(is_deeper(part, levels - 1) for part in value)


def shortened(value: Any, length: int) -> Any:
    """A value, or the beginning of its JSON where that has more than `length` characters."""
    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # half a surrogate pair: no JSON can hold it
        value = text = ascii(value)
    return value if len(text) <= length else text[:length] + "…"


def shown(value: Any) -> str:
    """A value as JSON, cut for a sentence."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else text[:40] + "…"
