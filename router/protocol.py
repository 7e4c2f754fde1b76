"""The wire contract as code: what clients send, what the server says; no I/O.

`decode` turns one text message into a struct, or into a `Refusal` that says what is wrong with it and carries the
`id` to answer to, also where the rest of the message is invalid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from router.errors import ErrorCode
from router.frames import text_frame
from router.policies import Policy

PROTOCOL_VERSION: Final = 1
MAX_BATCH_EVENTS: Final = 1000

MAX_HISTORY_EVENTS: Final = 1000

MessageId = Annotated[int, Meta(ge=-(2**53), le=2**53)] | Annotated[str, Meta(max_length=64)]
Id = MessageId | UnsetType
Time = Annotated[datetime, Meta(tz=True)]


class Position(Struct, frozen=True):
    """A place in a channel: after its event `seq` of an epoch."""

    epoch: str
    seq: Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Subscribe(Struct, tag="subscribe"):
    """Ask for the events of channels, and perhaps for some of the past first."""

    channels: Annotated[list[str], Meta(min_length=1)]
    id: Id = UNSET
    filter: Raw | UnsetType = UNSET
    policy: Policy | UnsetType = UNSET
    key: str | UnsetType = UNSET
    recover: dict[str, Position] | UnsetType = UNSET
    last: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    since: Time | UnsetType = UNSET


class Unsubscribe(Struct, tag="unsubscribe"):
    """Stop asking for them."""

    channels: Annotated[list[str], Meta(min_length=1)]
    id: Id = UNSET


class Ping(Struct, tag="ping"):
    """Ask for a `pong`."""

    id: Id = UNSET


class Pong(Struct, tag="pong"):
    """Answer to the server's `ping`."""

    id: Id = UNSET


class GetSubscriptions(Struct, tag="get_subscriptions"):
    """Ask what this session is subscribed to."""

    id: Id = UNSET


class GetReconnectionToken(Struct, tag="get_reconnection_token"):
    """Ask for a fresh token; earlier ones stop working."""

    id: Id = UNSET


class Authenticate(Struct, tag="authenticate"):
    """Sign in, or renew the sign-in."""

    token: str
    id: Id = UNSET


class History(Struct, tag="history"):
    """Ask for some of a channel's past: after a position, the last ones, or since a time."""

    channel: str
    after: Position | UnsetType = UNSET
    last: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_EVENTS)] = 100
    id: Id = UNSET


class Resume(Struct, tag="resume"):
    """Say where the client's own record of each channel ends, as a connection's first message."""

    positions: dict[str, Position]
    id: Id = UNSET


class EventIn(Struct):
    """One event of a batch."""

    event_type: str
    data: Raw = Raw(b"{}")


class Publish(Struct, tag="publish"):
    """Publish one event (`event_type`, `data`), or several at once (`events`)."""

    channel: str
    event_type: str | UnsetType = UNSET
    data: Raw = Raw(b"{}")
    events: Annotated[list[EventIn], Meta(min_length=1, max_length=MAX_BATCH_EVENTS)] | UnsetType = UNSET
    key: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    id: Id = UNSET


ControlMessage = (
    Subscribe | Unsubscribe | Ping | Pong | GetSubscriptions | GetReconnectionToken | Authenticate | History | Resume
)
ClientMessage = ControlMessage | Publish

#: The messages by their `type`.
MESSAGE_TYPES: Final = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        Subscribe, Unsubscribe, Ping, Pong, GetSubscriptions, GetReconnectionToken, Authenticate, History,
        Resume, Publish,
    )
}  # fmt: skip


class Refusal(Exception):
    """A message that is not done; becomes an `error` for whoever sent it."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        id: Id = UNSET,  # noqa: A002 - the wire's name
        retry_after: float | None = None,
        index: int | None = None,
        epoch: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.id = id
        self.retry_after = retry_after
        self.index = index
        self.epoch = epoch

    def frame(self) -> bytes:
        """The `error` message, framed."""
        fields: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.retry_after is not None:
            fields["retry_after"] = self.retry_after
        if self.index is not None:
            fields["index"] = self.index
        if self.epoch is not None:
            fields["epoch"] = self.epoch
        return reply("error", self.id, **fields)


def unknown_channel(channel: str, id: Id = UNSET) -> Refusal:  # noqa: A002 - the wire's name
    """The refusal of a channel that does not exist; what a client calls one may be of any length."""
    return Refusal(ErrorCode.UNKNOWN_CHANNEL, f"Unknown channel: {channel[:64]}", id=id)


def may_not_subscribe(channel: str, id: Id = UNSET) -> Refusal:  # noqa: A002 - the wire's name
    """The refusal of who asks for the events of a channel without permission."""
    return Refusal(ErrorCode.PERMISSION_DENIED, f"Permission denied for channel: {channel}", id=id)


def no_room_for(channels: Sequence[str], max_channels: int) -> str:
    """Why channels that may exist are not made."""
    noun = "channel" if len(channels) == 1 else "channels"
    return f"no room for {noun} {', '.join(channels)}: the limit max_channels = {max_channels} is reached"


def only_one(names: Sequence[str], id: Id = UNSET) -> Refusal:  # noqa: A002 - the wire's name
    """The refusal of fields that exclude one another."""
    return Refusal(ErrorCode.INVALID_MESSAGE, f"{' and '.join(names)}: only one of them may be given", id=id)


def _invalid_json() -> Refusal:
    """The refusal of a text that is not JSON, or nested too deeply to be read. It never has an `id`."""
    return Refusal(ErrorCode.INVALID_JSON, "Invalid JSON format")


class _Envelope(Struct):
    """The minimum of a message: enough to say what is wrong with the rest."""

    type: Raw = Raw(b"null")
    id: Raw | UnsetType = UNSET


_decode_message = msgspec.json.Decoder(ClientMessage).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_raw = msgspec.json.Decoder(Raw).decode
_decode_id = msgspec.json.Decoder(MessageId).decode
_decode_text = msgspec.json.Decoder(str).decode
encode = msgspec.json.Encoder().encode

#: What msgspec raises for bytes that are not JSON; deep nesting ends in a RecursionError.
_BROKEN_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode(payload: bytes) -> ClientMessage:
    """Decode one client message; `payload` is valid UTF-8, as the lane sees to.

    Raises:
        Refusal: It is not JSON, not an object, of an unknown type, or a field is wrong.
    """
    try:
        message: ClientMessage = _decode_message(payload)
    except msgspec.ValidationError as error:
        raise _explain(payload, error) from None
    except _BROKEN_JSON:
        raise _invalid_json() from None
    return message


def _explain(payload: bytes, error: msgspec.ValidationError) -> Refusal:
    """Say what is wrong with a message that is JSON but does not fit."""
    try:
        _decode_raw(payload)  # msgspec stops at the first wrong field: what follows may not even be JSON
        envelope = _decode_envelope(payload)
    except msgspec.ValidationError:
        return Refusal(ErrorCode.INVALID_MESSAGE, "a message must be a JSON object")
    except _BROKEN_JSON:
        return _invalid_json()
    identity: Id = UNSET
    if envelope.id is not UNSET:
        try:
            identity = _decode_id(envelope.id)
        except _BROKEN_JSON:
            text = "id must be a string of up to 64 characters or an integer within ±2^53"
            return Refusal(ErrorCode.INVALID_MESSAGE, text)
    try:
        kind = _decode_text(envelope.type)
    except _BROKEN_JSON:
        return Refusal(ErrorCode.INVALID_MESSAGE, "type must be a string", id=identity)
    if kind not in MESSAGE_TYPES:
        known = ", ".join(sorted(MESSAGE_TYPES))
        return Refusal(ErrorCode.UNKNOWN_TYPE, f"Unknown message type: {kind[:64]} (known: {known})", id=identity)
    return Refusal(ErrorCode.INVALID_MESSAGE, field_error(error), id=identity, index=_index(error))


_LOCATED = re.compile(r"(?P<what>.*) - at `\$\.?(?P<path>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_IN_BATCH = re.compile(r"events\[(\d+)\]")


def field_error(error: msgspec.ValidationError, prefix: str = "") -> str:
    """What msgspec found, as a sentence that begins with the field's path.

    Args:
        error: What was raised.
        prefix: The path of the value that was decoded, for example `data`.
    """
    what, path = _locate(error)
    if missing := _MISSING.fullmatch(what):
        what, path = "", _join(path, missing[1])
    path = _join(prefix, path)
    if path == "channels" and not what.startswith("Expected `array` of length"):
        return "channels must be an array"
    return f"{path}: {what[:1].lower()}{what[1:]}" if what else f"{path} is missing"


def _locate(error: msgspec.ValidationError) -> tuple[str, str]:
    """What is wrong, and with which field; the path is empty for the value as a whole."""
    located = _LOCATED.fullmatch(str(error))
    return (located["what"], located["path"]) if located else (str(error), "")


def _join(prefix: str, path: str) -> str:
    return f"{prefix}{'' if path.startswith('[') else '.'}{path}" if prefix and path else prefix or path


def _index(error: msgspec.ValidationError) -> int | None:
    found = _IN_BATCH.match(_locate(error)[1])
    return int(found[1]) if found else None


def reply(kind: str, id: Id = UNSET, **fields: object) -> bytes:  # noqa: A002 - the wire's name
    """A server message, framed; `id` stands in it where the client's message had one."""
    head: dict[str, object] = {"type": kind} if id is UNSET else {"type": kind, "id": id}
    return text_frame(encode(head | fields))


def denied_fields(denied: Mapping[str, str], no_room: Sequence[str] = (), max_channels: int = 0) -> dict[str, Any]:
    """What `subscribed` and `connected` say of channels that were refused.

    Args:
        denied: The error codes by channel, in the order asked.
        no_room: Those of them that may exist, and would be one more than `max_channels`.
        max_channels: That limit.
    """
    if not denied:
        return {}
    forbidden = [name for name, reason in denied.items() if reason == ErrorCode.PERMISSION_DENIED]
    unknown = [name for name, reason in denied.items() if reason == ErrorCode.UNKNOWN_CHANNEL and name not in no_room]
    parts = []
    if forbidden:
        parts.append(f"Permission denied for channels: {', '.join(forbidden)}")
    if unknown:
        parts.append(f"unknown channels: {', '.join(unknown)}")
    if no_room:
        parts.append(no_room_for(no_room, max_channels))
    message = "; ".join(parts)
    return {"denied": list(denied), "reasons": dict(denied), "message": message[:1].upper() + message[1:]}
