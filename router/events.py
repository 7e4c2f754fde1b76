"""Channels, the shape of their data, and event types.

`data` passes through as the bytes that the publisher sent: the structs here only check it. Every field is
optional; one that is there must have its type and range; fields that are not listed pass unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from router.config import UNCONFIGURED, ChannelSettings

#: How deep the lists and objects of an event's data may nest, themselves included. Decoders take a level of Python's
#: stack for each, so how much deeper they get depends on who asks: what is published all readers must be able to read.
MAX_DEPTH: Final = 512
#: Data of fewer bytes than this cannot nest deeper.
SHALLOW_BYTES: Final = 2 * (MAX_DEPTH + 1)
#: How an error says it.
TOO_DEEP: Final = f"data nests deeper than {MAX_DEPTH} lists and objects; flatten it, or send the deep part as a string"

#: Raises `msgspec.ValidationError` for data that do not fit; the error tells the field.
Check = Callable[[Raw | bytes], object]

_Byte = Annotated[int, Meta(ge=0, le=255)]
_Unit = Annotated[float, Meta(ge=0, le=1)]
_Count = Annotated[int, Meta(ge=0)]
_Amount = Annotated[float, Meta(ge=0)]


class MetricsData(Struct):
    """How the server and its process are doing."""

    cpu_percent: _Amount | UnsetType = UNSET
    host_cpu_percent: Annotated[float, Meta(ge=0, le=100)] | UnsetType = UNSET
    memory_mb: _Amount | UnsetType = UNSET
    events_per_sec: _Amount | UnsetType = UNSET
    deliveries_per_sec: _Amount | UnsetType = UNSET
    total_connections: _Count | UnsetType = UNSET
    total_channels: _Count | UnsetType = UNSET
    total_subscriptions: _Count | UnsetType = UNSET
    buffered_events: _Count | UnsetType = UNSET
    total_tokens: _Count | UnsetType | None = UNSET


class SignalData(Struct):
    """A signal that the system has taken in."""

    event_id: str | UnsetType = UNSET
    event_type: str | UnsetType = UNSET
    is_novel: bool | UnsetType = UNSET
    priority: _Byte | UnsetType = UNSET
    resonance_score: _Unit | UnsetType | None = UNSET
    neighbors_count: _Count | UnsetType = UNSET


class ActionData(Struct):
    """An action that was executed, or failed."""

    action_id: str | UnsetType = UNSET
    action_type: str | UnsetType = UNSET
    status: str | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    execution_time_ms: _Amount | UnsetType | None = UNSET
    error: str | UnsetType | None = UNSET


class LogData(Struct):
    """A log record."""

    level: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    service: str | UnsetType = UNSET
    correlation_id: str | UnsetType | None = UNSET


class StatusData(Struct):
    """What the system is doing as a whole."""

    status: str | UnsetType = UNSET
    uptime_seconds: _Amount | UnsetType = UNSET
    version: str | UnsetType = UNSET


class ConnectionData(Struct):
    """A client that came, left, or changed what it listens to."""

    client_id: str | UnsetType = UNSET
    user_id: str | UnsetType | None = UNSET
    total_connections: _Count | UnsetType = UNSET
    channels: list[str] | UnsetType = UNSET
    reason: str | UnsetType | None = UNSET
    code: int | UnsetType | None = UNSET


class AnyData(Struct):
    """The data of a channel without a struct: any object."""


#: The check of such a channel.
check_object: Check = msgspec.json.Decoder(AnyData).decode


class ChannelSpec:
    """What is known of a channel, or of a family of channels, before its first event.

    Attributes:
        name: 1 to 64 characters of `a–z 0–9 . _ -`; a family's ends in `.*`.
        description: One sentence for people.
        check: Looks at `data`, for the error it raises. Any thread may call it.
        settings: What the configuration says of it; the defaults where it says nothing.
        schema: Its JSON Schema; None: it has none of the configuration's.
        system: Whether it is one of the system's own.
    """

    __slots__ = ("check", "description", "name", "schema", "settings", "system")

    def __init__(
        self,
        name: str,
        description: str,
        check: Check,
        settings: ChannelSettings = UNCONFIGURED,
        *,
        schema: Raw | None = None,
        system: bool = False,
    ) -> None:
        self.name = name
        self.description = description
        self.check = check
        self.settings = settings
        self.schema = schema
        self.system = system

    @property
    def is_family(self) -> bool:
        """Whether it stands for all channels under its name."""
        return self.name.endswith("*")


#: The system's own channels.
CHANNELS: Mapping[str, ChannelSpec] = MappingProxyType(
    {
        name: ChannelSpec(name, description, msgspec.json.Decoder(data_type).decode, system=True)
        for name, description, data_type in (
            ("metrics", "System metrics: CPU, memory, events per second", MetricsData),
            ("signals", "Signals as the system takes them in", SignalData),
            ("actions", "Actions executed, and those that failed", ActionData),
            ("logs", "Log records", LogData),
            ("status", "Changes of the system's state", StatusData),
            ("connections", "Clients coming, going and subscribing", ConnectionData),
        )
    }
)


def is_too_deep(data: Raw | bytes) -> bool:
    """Whether data, which are JSON, nest deeper than `MAX_DEPTH`; in time linear in their size."""
    if len(memoryview(data)) < SHALLOW_BYTES:
        return False
    text = bytes(data)
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return False
    outside = b"".join(text.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
    brackets = outside.translate(_AS_LISTS, _NO_BRACKETS)
    for _ in range(_INNERMOST):  # most of what is wide is gone after this, and each pair that is left is of many
        brackets = brackets.replace(b"[]", b"")
    depth = _INNERMOST
    for run in _RUNS(brackets):
        depth += len(run) if run.startswith(b"[") else -len(run)
        if depth > MAX_DEPTH:
            return True
    return False


_INNERMOST = 8
_AS_LISTS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_RUNS = re.compile(rb"\[+|\]+").findall


class EventTypeError(ValueError):
    """An event type that is empty, too long, or has a character that is not allowed."""

    def __init__(self, event_type: str) -> None:
        shown = event_type if len(event_type) <= 32 else event_type[:32] + "…"
        super().__init__(f"event_type must be 1 to 128 characters of A-Z a-z 0-9 . _ - : (got {shown!r})")


class _EventTypeJson(dict[str, bytes]):
    """Event types that were seen to be valid, each with the bytes that an event has from it to its data."""

    MAX_ENTRIES = 4096

    def __missing__(self, event_type: str) -> bytes:
        if not _EVENT_TYPE(event_type):
            raise EventTypeError(event_type)
        if len(self) >= self.MAX_ENTRIES:
            self.clear()
        piece = self[event_type] = b'%b","data":' % event_type.encode()
        return piece


_EVENT_TYPE = re.compile(r"[A-Za-z0-9._:-]{1,128}").fullmatch

#: `EVENT_TYPE_JSON[event_type]` checks an event type and gives its part of the event, at the price of a look-up.
EVENT_TYPE_JSON = _EventTypeJson()
