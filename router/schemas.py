"""JSON Schemas for the data of the configuration's channels: compiled once, asked about each event; no I/O.

Nothing that an event holds can keep them busy for long: patterns are matched in linear time, and whether data fit is
found out in time linear in their size. Why they do not fit is another matter: where a schema refers to itself, the
reasons may double with each level that the data nest, so there the field is not told. A schema fetches nothing, neither
from an address nor from another file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import msgspec
from jsonschema_rs import RegexOptions
from msgspec import Raw

_MAX_SHOWN = 200
_MAX_STEP = 32
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_MISFIT = "Does not fit the channel's schema"

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_is_plain = re.compile(r"\w{1,32}", re.ASCII).fullmatch


class SchemaError(ValueError):
    """A text that is not a usable JSON Schema; the message tells why."""


class Schema:
    """A JSON Schema, of drafts 4 to 2020-12 as its `$schema` says. It never changes: any thread may ask it.

    Attributes:
        document: The schema itself, compact.
    """

    __slots__ = ("_is_circular", "_is_valid", "_validate", "document")

    def __init__(self, text: str) -> None:
        """Compile a schema.

        Raises:
            SchemaError: It is not JSON, not a valid schema, or refers to what is not in it.
        """
        source = _read(text)
        try:
            validator = jsonschema_rs.validator_for(
                source, mask="the value", validate_formats=True, pattern_options=RegexOptions(), offline=True
            )
        except jsonschema_rs.ValidationError as error:
            raise SchemaError(_unusable(error)) from None
        except ValueError as error:
            raise SchemaError(_cut(str(error))) from None
        self.document = Raw(msgspec.json.encode(source))
        self._is_circular = _is_circular(source)
        self._is_valid = validator.is_valid
        self._validate = validator.validate

    def check(self, data: Raw | bytes) -> None:
        """See whether an event's data are an object that fits.

        Raises:
            msgspec.ValidationError: They are not; it tells the field as that of a struct does.
        """
        try:
            value = _decode(data)
            if not self._is_valid(value):
                raise self._misfit(value)
        except msgspec.ValidationError:
            raise
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise msgspec.ValidationError(f"Cannot be read ({error})") from None

    def _misfit(self, value: dict[str, Any]) -> msgspec.ValidationError:
        """The error for data that do not fit."""
        if not self._is_circular:
            try:
                self._validate(value)
            except jsonschema_rs.ValidationError as error:
                return msgspec.ValidationError(_told(error))
            except ValueError:  # the data nest deeper than it puts into words
                pass
        return msgspec.ValidationError(_MISFIT)


def _read(text: str) -> dict[str, Any] | bool:
    try:
        source = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"not JSON: {error}") from None
    if not isinstance(source, dict | bool):
        raise SchemaError("a schema is an object, or true or false")
    return source


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


# Circles


def _is_circular(schema: Any) -> bool:
    """Whether a schema refers to itself; where that is not plain to see, it is taken to."""
    targets = {reference: _target(schema, reference) for reference in _references(schema)}
    edges = {reference: _references(target) for reference, target in targets.items()}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError:
        return True
    return None in targets.values() or (bool(edges) and _has_parts_with_names(schema))


def _references(schema: Any) -> set[str]:
    """What a schema, or a part of one, refers to."""
    return {part[name] for part in _objects(schema) for name in _REFERENCES if isinstance(part.get(name), str)}


def _target(schema: Any, reference: str) -> Any:
    """The part of a schema that a reference means; None: that takes more than following a path."""
    root, *steps = unquote(reference).split("/")
    try:
        for step in steps:
            name = step.replace("~1", "/").replace("~0", "~")
            schema = schema[int(name) if isinstance(schema, list) else name]
    except (LookupError, TypeError, ValueError):
        return None
    return schema if root == "#" else None


def _has_parts_with_names(schema: Any) -> bool:
    """Whether a part of a schema has an identifier, from which the paths of its references begin."""
    return any(
        isinstance(part.get(name), str) for part in _objects(schema) if part is not schema for name in ("$id", "id")
    )


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in a value, itself among them."""
    if isinstance(value, dict):
        yield value
        value = value.values()
    elif not isinstance(value, list):
        return
    for part in value:
        yield from _objects(part)


# Words


def _unusable(error: jsonschema_rs.ValidationError) -> str:
    """Why a schema cannot be used."""
    place = "".join(f"/{step}" for step in error.instance_path)
    hint = ""
    if error.message.endswith('is not a "regex"'):
        hint = "; patterns are of the kind that takes linear time, without look-around and back-references"
    elif isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Referencing):
        hint = "; nothing is fetched: what it refers to must be in the same file"
    return f"{_cut(f'at {place}: {error.message}' if place else error.message)}{hint}"


def _told(error: jsonschema_rs.ValidationError) -> str:
    """Why data do not fit and where, as msgspec says it."""
    path, what = error.instance_path, error.message
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required) and _is_plain(error.kind.property):
        what = f"Object missing required field `{error.kind.property}`"
    return f"{_cut(what)} - at `${_cut(_written(path))}`" if path else _cut(what)


def _written(path: Iterable[str | int]) -> str:
    return "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" if _is_plain(step) else f"[{_quoted(step)}]"
        for step in path
    )


def _quoted(name: str) -> str:
    return json.dumps(name if len(name) <= _MAX_STEP else name[:_MAX_STEP] + "…", ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
