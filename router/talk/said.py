"""What the server says, decoded for a client: one struct for each kind of message that it acts on.

An event alone has no `type`. Fields and types that are not known here may come from a later server and are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw, Struct


class Position(Struct):
    """A place in a channel's stream."""

    epoch: str
    seq: int


class Event(Struct):
    """An event."""

    channel: str
    event_type: str
    timestamp: str = ""
    data: Raw = Raw(b"{}")
    seq: int | None = None


class Connected(Struct):
    """The server's first message."""

    client_id: str
    role: str
    reconnection_token: str
    max_message_bytes: int
    heartbeat_s: float = 30.0
    user_id: str | None = None
    reconnected: bool = False
    channels: list[str] = []
    positions: dict[str, Position] = {}
    denied: list[str] = []
    reasons: dict[str, str] = {}


class Subscribed(Struct):
    """The answer to a `subscribe`."""

    channels: list[str]
    positions: dict[str, Position] = {}
    denied: list[str] = []
    reasons: dict[str, str] = {}


class Unsubscribed(Struct):
    """Channels whose events come no more."""

    channels: list[str]
    reason: str = ""


class Published(Struct):
    """Events are accepted, from the first seq to the last."""

    channel: str
    seq: tuple[int, int]
    id: int | str | None = None
    subscribers: int = 0


class Gap(Struct, rename={"start": "from"}):
    """Events are missing at this place of the stream."""

    of: str
    reason: str
    start: int | None = None
    to: int | None = None
    count: int | None = None


class Positions(Struct):
    """Where streams have got to without an event that says so."""

    positions: dict[str, Position]


class Goodbye(Struct):
    """The last message before a planned close."""

    reason: str = ""
    reconnect_after_ms: float | None = None


class Error(Struct):
    """A message of ours is not done."""

    code: str
    message: str = ""
    id: int | str | None = None
    index: int | None = None
    retry_after: float | None = None


class TokenExpiring(Struct):
    """The token in force ends soon."""

    expires_at: str = ""


class Other(Struct):
    """Anything else: it may come from a later server and is nothing to us."""


Message = (
    Event
    | Connected
    | Subscribed
    | Unsubscribed
    | Published
    | Gap
    | Positions
    | Goodbye
    | Error
    | TokenExpiring
    | Other
)


class _Envelope(Struct):
    type: str | None = None


_KINDS: Final[Mapping[str | None, type[Message]]] = {
    None: Event, "connected": Connected, "subscribed": Subscribed, "unsubscribed": Unsubscribed,
    "published": Published, "gap": Gap, "position": Positions, "goodbye": Goodbye, "error": Error,
    "token_expiring": TokenExpiring,
}  # fmt: skip
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode: Final = {kind: msgspec.json.Decoder(struct).decode for kind, struct in _KINDS.items()}


def read(payload: bytes) -> Message:
    """Decode one message of the server.

    Raises:
        msgspec.DecodeError: It is none; a UnicodeDecodeError where it is no UTF-8.
    """
    kind = _decode_envelope(payload).type
    return _decode[kind](payload) if kind in _decode else Other()
