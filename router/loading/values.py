"""What the value of a setting may be: read from text or from a file's values, and put into words; no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from enum import StrEnum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from router.config import ChannelSettings
from router.limits import Rate
from router.loading.toml import Path, one_line, written
from router.permissions import RolePermissions

#: Says of a setting that may be without a value that it is.
NONE = "none"
_MAX_SHOWN = 80

_EXAMPLES: Mapping[type[Struct], Mapping[str, object]] = {
    Rate: {"burst": 140, "per_s": 2},
    RolePermissions: {"subscribe": ["metrics"], "publish": []},
    ChannelSettings: {"description": "Orders", "subscribe": ["viewer"]},
}
_EXAMPLE_NAMES: Mapping[type[Struct], str] = {RolePermissions: "viewer", ChannelSettings: "orders.*"}


class WrongValueError(ValueError):
    """A value that a setting cannot have.

    Attributes:
        path: Where in the setting's value the trouble is; empty: it is the whole.
        value: The value there, as it may be shown; None: the name is the trouble.
    """

    def __init__(self, path: Path, value: str | None, problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.value = value


# Reading


def from_text(text: str, kind: Any) -> Any:
    """Read a variable's text: lists separated by commas, tables as JSON, `none` where there may be no value.

    Raises:
        WrongValueError: It is none of the kind.
    """
    bare, may_be_none = without_none(kind)
    try:
        text.encode()
        if may_be_none and text.lower() == NONE:
            return None
        if bare == tuple[str, ...]:
            return tuple(item.strip() for item in text.split(",") if item.strip())
        if is_table(bare):
            return from_value(msgspec.json.decode(text), kind)
        return msgspec.convert(text.lower() if bare is bool or _is_choice(bare) else text, bare, strict=False)
    except (msgspec.DecodeError, UnicodeError, RecursionError):  # the environment may hold bytes that are not text
        looks = f"JSON like {msgspec.json.encode(_example(bare)).decode()}" if is_table(bare) else words(kind)
        raise WrongValueError((), shown(text), f"must be {looks}") from None


def from_value(value: object, kind: Any) -> Any:
    """Take a value as a file has it, or as a program gives it.

    Raises:
        WrongValueError: It is none of the kind; it tells the innermost part that is wrong.
    """
    bare, may_be_none = without_none(kind)
    if may_be_none and isinstance(value, str) and value.lower() == NONE:
        return None
    try:
        return msgspec.convert(value, bare)
    except (msgspec.ValidationError, UnicodeError):
        raise _innermost((), value, kind) from None


def _innermost(path: Path, value: object, kind: Any) -> WrongValueError:
    """What is wrong, as near to the trouble as it can be told; `value` is known not to be of the kind."""
    bare, _ = without_none(kind)
    if _is_struct(bare) and isinstance(value, Mapping):
        fields = {field.name: field for field in msgspec.structs.fields(bare)}
        for name in value:
            if name not in fields:
                return WrongValueError((*path, name), None, f"there is no such setting{did_you_mean(name, fields)}")
        for field in fields.values():
            if field.required and field.name not in value:
                return WrongValueError(path, shown(value), f"must have {field.name}, {words(field.type)}")
    for key, item, of_kind in _parts(value, bare):
        try:
            msgspec.convert(item, of_kind)
        except (msgspec.ValidationError, UnicodeError):
            return _innermost((*path, key), item, of_kind)
    # In a table, what has no value is left out.
    return WrongValueError(path, shown(value), f"must be {words(bare if path else kind)}")


def _parts(value: object, kind: Any) -> Iterator[tuple[str | int, object, Any]]:
    """The parts of a table or a list, each with what it should be."""
    if isinstance(value, Mapping) and is_table(kind):
        if _is_struct(kind):
            kinds = {field.name: field.type for field in msgspec.structs.fields(kind)}
            yield from ((name, item, kinds[name]) for name, item in value.items())
        else:
            yield from ((key, item, get_args(kind)[1]) for key, item in value.items())
    elif isinstance(value, list | tuple) and get_origin(kind) is tuple:
        yield from ((index, item, get_args(kind)[0]) for index, item in enumerate(value))


# Words


def words(kind: Any) -> str:
    """What a value must be, in plain words."""
    bare, may_be_none = without_none(kind)
    if may_be_none:
        return f'{words(bare)}, or "{NONE}"'
    if is_table(bare):
        return f"a table like {written(_example(bare))}"
    if _is_choice(bare):
        *most, last = _choices(bare)
        return f"{', '.join(most)} or {last}"
    if get_origin(bare) is Annotated:
        of, bounds = get_args(bare)
        return f"{'a whole number' if of is int else 'a number'} {_bounds(bounds)}"
    return {str: "text", bool: "true or false", tuple[str, ...]: "a list of texts"}[bare]


def _bounds(bounds: Meta) -> str:
    if bounds.gt is not None:
        return f"above {bounds.gt:.0f}, {bounds.le:.0f} at most"
    return f"from {bounds.ge:.0f} to {bounds.le:.0f}"


def shown(value: object) -> str:
    """A value, cut and on one line, for an error."""
    text = repr(value) if isinstance(value, str) else one_line(written(value))
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def did_you_mean(name: str, known: Iterable[str], spelled: Callable[[str], str] = str) -> str:
    """A hint at the nearest name, if one is near; `spelled` says how people write it."""
    near = get_close_matches(name.lower(), known, n=1)
    return f"; did you mean {spelled(near[0])}?" if near else ""


# Kinds


def without_none(kind: Any) -> tuple[Any, bool]:
    """A kind without None, and whether it was part of it."""
    if get_origin(kind) in (Union, UnionType):
        (bare,) = (each for each in get_args(kind) if each is not type(None))
        return bare, True
    return kind, False


def is_table(kind: Any) -> bool:
    """Whether values of a kind are tables: of fixed keys, or of names."""
    return _is_struct(kind) or get_origin(kind) is Mapping


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _is_choice(kind: Any) -> bool:
    return get_origin(kind) is Literal or _is_enum(kind)


def _choices(kind: Any) -> Iterable[str]:
    return [str(each) for each in kind] if _is_enum(kind) else get_args(kind)


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _example(kind: Any) -> Mapping[str, object]:
    if _is_struct(kind):
        return _EXAMPLES[kind]
    of = get_args(kind)[1]
    return {_EXAMPLE_NAMES[of]: _EXAMPLES[of]}
