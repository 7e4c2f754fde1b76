"""Paths into an event: `data.sensor`, `data.readings.0.value`, `event_type`; no I/O."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import msgspec

from router.filters import Candidate

_encode = msgspec.json.Encoder(order="sorted").encode
MISSING: Any = object()
_NULL = b"null"
_FIELDS = ("channel", "timestamp", "event_type", "seq", "data")


_is_index = re.compile("0|[1-9][0-9]{0,8}").fullmatch


def is_path(text: str) -> bool:
    """Whether a text can lead anywhere in an event."""
    field, *names = text.split(".")
    return field in _FIELDS and all(names)


class Path:
    """A path: names of an object's members and indices of a list's elements, joined by dots."""

    __slots__ = ("_steps", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._steps = tuple((name, int(name) if _is_index(name) else None) for name in text.split("."))

    def get(self, event: Candidate) -> Any:
        """What stands there in an event; `MISSING` where nothing does."""
        field = self._steps[0][0]
        if field not in _FIELDS:
            return MISSING
        value: Any = getattr(event, field)
        if field == "data":
            value = event.decode() if event.decoded is None else event.decoded
        for name, index in self._steps[1:]:
            if isinstance(value, dict):
                if name not in value:
                    return MISSING
                value = value[name]
            elif isinstance(value, list) and index is not None and index < len(value):
                value = value[index]
            else:
                return MISSING
        return value

    def key(self, event: Candidate) -> Hashable:
        """What stands there, so that it can be compared: nothing is the same as null, nor is what cannot be encoded."""
        value = self.get(event)
        if isinstance(value, str):
            return value
        try:
            return _NULL if value is MISSING else _encode(value)
        except (RecursionError, UnicodeEncodeError):
            return _NULL
