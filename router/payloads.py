"""Turns the data that a host gives for an event into JSON, or an error that names the field; no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from router.events import EVENT_TYPE_JSON, TOO_DEEP, is_too_deep
from router.protocol import encode, field_error

_SHOWN_CHARACTERS = 64
_LOOK_AT_RAW = "look at the msgspec.Raw in it"
_OF_A_FIELD = "`$."  # the whole may be at fault, too
_first_name = re.compile(r"\w*").match


def encode_data(data: Mapping[str, Any] | None) -> bytes:
    """The data as JSON.

    Raises:
        TypeError: They are not a mapping, or hold what JSON has no type for.
        ValueError: They cannot be encoded for another reason.
    """
    if data is None:
        return b"{}"
    if not isinstance(data, dict):
        if not isinstance(data, Mapping):
            raise TypeError(f"data must be a mapping, as a dict is one (got {shown(data)})")
        data = dict(data)
    try:
        return encode(data)
    except Exception as error:  # code of the values may run, and raise what it likes
        raise _unencodable(data, error) from error


def encode_fields(data: Struct, extra: Mapping[str, Any]) -> bytes:
    """The fields that were given, and more of them, as JSON.

    Raises:
        TypeError: One holds what JSON has no kind for.
        ValueError: One cannot be encoded for another reason.
    """
    if extra:
        return encode_data({**fields_of(data), **extra})
    try:
        return encode(data)
    except Exception:
        return encode_data(fields_of(data))  # which says which field is at fault


def judge(
    event_type: str,
    payload: bytes,
    data: Mapping[str, Any] | Struct | None,
    check: Callable[[bytes], object],
    max_bytes: int,
) -> None:
    """Check that an event is valid, and that all can read it, whatever raw bytes its data hold.

    Args:
        event_type: Its type.
        payload: Its data, as JSON.
        data: What was given, to show the value at fault.
        check: Its channel's.
        max_bytes: How long `payload` may be.

    Raises:
        TypeError: The type is not a string.
        ValueError: Something else is wrong; the message names the field.
    """
    try:
        EVENT_TYPE_JSON[event_type]
        check(payload)
        if not payload.isascii():
            payload.decode()
    except msgspec.ValidationError as error:
        raise ValueError(_misfit(error, data)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"data: not valid JSON ({error}); {_LOOK_AT_RAW}") from None
    except TypeError:  # nothing but a string can be looked up
        raise _no_text("event_type", event_type) from None
    if is_too_deep(payload):
        raise ValueError(TOO_DEEP)
    if len(payload) > max_bytes:
        raise ValueError(
            f"data: {len(payload)} bytes of JSON, the limit is {max_bytes} "
            "(the settings max_event_bytes and host_queue_bytes)"
        )


def check_text(name: str, value: str) -> str:
    """The value, which must be a string.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, str):
        raise _no_text(name, value)
    return value


def fields_of(data: Struct) -> dict[str, Any]:
    """The fields that were given."""
    return {name: value for name, value in msgspec.structs.asdict(data).items() if value is not UNSET}


def shown(value: object) -> str:
    """A value for an error message."""
    try:
        text = repr(value)
    except Exception:  # it is the value's own code, and there is an error to be shown
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _no_text(name: str, value: object) -> TypeError:
    return TypeError(f"{name} must be a string (got {shown(value)})")


def _unencodable(data: Mapping[Any, Any], error: Exception) -> Exception:
    """The error for data that cannot be JSON, with the name of the field at fault, if it is one."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    for name, value in data.items():
        try:
            encode(value)
        except Exception:
            return kind(f"{name}: {error} (got {shown(value)})")
    return kind(f"data: {error} (got {shown(data)})")


def _misfit(error: msgspec.ValidationError, data: Mapping[str, Any] | Struct | None) -> str:
    """Which field does not fit its channel, why, and what it was."""
    text = field_error(error, "" if _OF_A_FIELD in str(error) else "data")
    fields = fields_of(data) if isinstance(data, Struct) else data or {}
    found = _first_name(text)
    name = found[0] if found else ""
    return f"{text} (got {shown(fields[name])})" if name in fields else text
