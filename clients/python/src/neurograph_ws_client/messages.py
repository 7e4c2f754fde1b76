"""The messages of the contract, in bytes and out of them; no I/O.

A message is decoded once, to a dict: that is what handlers get. Messages that the client acts on are then checked
against the structs here, which name only the fields that it reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from neurograph_ws_client.errors import ProtocolError

#: The server's default, until it has said its own.
MAX_MESSAGE_BYTES: Final = 65_536

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode
#: What `decode` raises on bytes that are no message.
DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode_exactly(value: object) -> bytes:
    """Encode what a user gives.

    Raises:
        TypeError: It holds what JSON has no kind for.
        ValueError: It holds a number that JSON has not, which would go out as null.
    """
    text = encode(value)
    if b"null" in text:
        _check_numbers(value)
    return text


def _check_numbers(value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"JSON has no number {value!r}; leave it out, or give None")
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            _check_numbers(one)


class At(Struct, frozen=True):
    """A position: after the event `seq` of the epoch."""

    epoch: str
    seq: int


class Connected(Struct):
    """The server's first message."""

    client_id: str
    role: str
    epoch: str
    user_id: str | None = None
    reconnected: bool = False
    heartbeat_s: float = 30.0
    max_message_bytes: int = MAX_MESSAGE_BYTES
    reconnection_token: str | None = None
    channels: list[str] = []
    positions: dict[str, At] = {}
    denied: list[str] = []
    reasons: dict[str, str] = {}


class Subscribed(Struct):
    """The answer to `subscribe`."""

    channels: list[str]
    id: int | str | None = None
    positions: dict[str, At] = {}
    denied: list[str] = []
    reasons: dict[str, str] = {}


class Unsubscribed(Struct):
    """The answer to `unsubscribe`; with a reason it comes unasked."""

    channels: list[str]
    id: int | str | None = None
    reason: str | None = None


class Subscriptions(Struct):
    """The answer to `get_subscriptions`."""

    channels: list[str]
    id: int | str | None = None


class Pong(Struct):
    """The answer to `ping`."""

    timestamp: str = ""
    id: int | str | None = None


class Ping(Struct):
    """The server's heartbeat for clients that see no pings."""


class Authenticated(Struct):
    """The answer to `authenticate`."""

    user_id: str | None = None
    role: str = ""
    expires_at: str | None = None
    id: int | str | None = None


class ReconnectionToken(Struct):
    """The answer to `get_reconnection_token`."""

    token: str
    id: int | str | None = None


class PublishedMessage(Struct):
    """The answer to `publish`."""

    channel: str
    seq: tuple[int, int]
    subscribers: int = 0
    timestamp: str = ""
    id: int | str | None = None


class HistoryMessage(Struct):
    """The answer to `history`."""

    channel: str
    epoch: str
    events: list[dict[str, Any]]
    complete: bool = True
    more: bool = False
    id: int | str | None = None


class Resumed(Struct):
    """Behind the replay of a resume."""

    channels: list[str] = []
    replayed: int = 0
    id: int | str | None = None


class GapMessage(Struct):
    """Events are missing at this place."""

    of: str
    epoch: str
    reason: str
    start: int | None = field(name="from")
    to: int | None
    count: int | None


class PositionMessage(Struct):
    """Where streams have got to without an event that says so."""

    positions: dict[str, At]


class TokenExpiring(Struct):
    """The token ends soon."""

    expires_at: str


class Goodbye(Struct):
    """The last message before a planned close."""

    reason: str = ""
    reconnect_after_ms: float | None = None


class ErrorMessage(Struct):
    """The server could not do what a message asked for."""

    code: str
    message: str = ""
    id: int | str | None = None
    index: int | None = None
    retry_after: float | None = None
    epoch: str | None = None


Message = (
    Connected | Subscribed | Unsubscribed | Subscriptions | Pong | Ping | Authenticated | ReconnectionToken
    | PublishedMessage | HistoryMessage | Resumed | GapMessage | PositionMessage | TokenExpiring | Goodbye
    | ErrorMessage
)  # fmt: skip

_KINDS: Final[dict[str, type[Message]]] = {
    "connected": Connected, "subscribed": Subscribed, "unsubscribed": Unsubscribed, "subscriptions": Subscriptions,
    "pong": Pong, "ping": Ping, "authenticated": Authenticated, "reconnection_token": ReconnectionToken,
    "published": PublishedMessage, "history": HistoryMessage, "resumed": Resumed, "gap": GapMessage,
    "position": PositionMessage, "token_expiring": TokenExpiring, "goodbye": Goodbye, "error": ErrorMessage,
}  # fmt: skip
#: A mistake in one of these may hide events, or their loss.
STREAM_KINDS: Final = frozenset({"connected", "subscribed", "unsubscribed", "resumed", "gap", "position"})


def read(message: dict[str, Any]) -> Message | None:
    """What a message says that is no event; None: a kind that this version does not know, to be passed over.

    Raises:
        ProtocolError: A field that is read here is missing, or has another type.
    """
    kind = message["type"]
    struct = _KINDS.get(kind) if isinstance(kind, str) else None
    if struct is None:
        return None
    try:
        return msgspec.convert(message, struct)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"the server sent a malformed {kind!r}: {error}") from None
