"""An event that filters are asked about: one for each event, whatever the number of filters."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import Raw, Struct


class Candidate(Struct):
    """An event, its data not decoded before a filter needs them.

    Attributes:
        channel: Its channel's name.
        timestamp: Its time as the wire has it.
        event_type: Its type.
        seq: Its position.
        data: Its data as JSON.
        decoded: Its data, or None as long as no filter has looked: then `decode` gives them.
    """

    channel: str
    timestamp: str
    event_type: str
    seq: int
    data: Raw
    decoded: dict[str, Any] | None = None

    @classmethod
    def from_json(cls, event: bytes | memoryview) -> Candidate:
        """Make one of an event as it stands in the history and on the wire.

        However little room there is on the stack, an event has at least what is not its data.

        Raises:
            msgspec.DecodeError: These bytes are not an event.
        """
        try:
            return _decode_event(event)
        except RecursionError:
            return _decode_event(_without_data(bytes(event)))

    def decode(self) -> dict[str, Any]:
        """Decode the data, for all filters to come; data that cannot be decoded are empty."""
        try:
            decoded = _decode_object(self.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decoded = _decode_with_patience(self.data)
        self.decoded = decoded
        return decoded


_decode_event = msgspec.json.Decoder(Candidate).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def _without_data(event: bytes) -> bytes:
    """An event of ours with data that have no paths; they stand between the event's type and its position."""
    before, data, rest = event.partition(b',"data":')
    return before + data + b"{}" + rest[rest.rindex(b',"seq":') :]


def _decode_with_patience(data: Raw) -> dict[str, Any]:
    """Decode data with a number that is too large for msgspec, so that filters still see the other fields."""
    try:
        decoded = json.loads(str(data, "utf-8"), parse_int=_integer)
    except (ValueError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _integer(digits: str) -> float:
    """An integer; one of so many digits that Python refuses it counts as infinite, as a fraction of that size does."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)
