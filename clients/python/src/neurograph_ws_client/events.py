"""The channels, their events, and what the client's calls give back, as types."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict, final

#: A JWT, or a function, sync or async, that gives one; None: without one.
Token = str | Callable[[], str | Awaitable[str | None] | None] | None
#: Takes what `on` tells; sync or async.
Callback = Callable[[Any], object]


class Channel(enum.StrEnum):
    """The channels that every server has; its configuration may add more, which are named by plain strings."""

    METRICS = "metrics"
    SIGNALS = "signals"
    ACTIONS = "actions"
    LOGS = "logs"
    STATUS = "status"
    CONNECTIONS = "connections"
    #: To this client, or this user; nobody subscribes to it at the server, and it has no past.
    PERSONAL = "personal"
    #: To all.
    GLOBAL = "global"


class State(enum.StrEnum):
    """Where a client is."""

    IDLE = "idle"
    #: Until `connected` was heard.
    CONNECTING = "connecting"
    OPEN = "open"
    #: For the time of the next attempt.
    WAITING = "waiting"
    #: For good.
    CLOSED = "closed"


class Policy(enum.StrEnum):
    """What the server gives up where the client is too slow."""

    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"
    LATEST = "latest"
    DISCONNECT = "disconnect"


class Position(TypedDict):
    """A place in a channel's stream: behind the event `seq` of the epoch."""

    epoch: str
    seq: int


@final  # so that a type checker sees by `"type" in item` whether it is a gap; as those below
class Event(TypedDict):
    """An event of any channel. `seq` is missing on `personal` and `global`."""

    channel: str
    timestamp: str
    event_type: str
    data: dict[str, Any]
    seq: NotRequired[int]


class TextEvent(dict[str, Any]):
    """An event, where the client was made with `keep_text=True`: a dict as any other, with the bytes that it came in.

    Attributes:
        text: The message as the server sent it, JSON in UTF-8.
    """

    __slots__ = ("text",)

    def __init__(self, fields: dict[str, Any], text: bytes) -> None:
        super().__init__(fields)
        self.text = text


class MetricsData(TypedDict, total=False):
    """Data of `metrics`; other fields may be there too, as on every channel."""

    #: Of the server's process; 100 is one core.
    cpu_percent: float
    #: 0 to 100.
    host_cpu_percent: float
    #: Resident, in 10^6 bytes.
    memory_mb: float
    events_per_sec: float
    deliveries_per_sec: float
    total_connections: int
    total_channels: int
    total_subscriptions: int
    buffered_events: int
    total_tokens: int | None


class SignalsData(TypedDict, total=False):
    """Data of `signals`."""

    event_id: str
    event_type: str
    is_novel: bool
    #: 0 to 255.
    priority: int
    #: 0 to 1.
    resonance_score: float | None
    neighbors_count: int


class ActionsData(TypedDict, total=False):
    """Data of `actions`."""

    action_id: str
    action_type: str
    status: str
    result: Any
    execution_time_ms: float
    error: str | None


class LogsData(TypedDict, total=False):
    """Data of `logs`."""

    level: str
    message: str
    service: str
    correlation_id: str | None


class StatusData(TypedDict, total=False):
    """Data of `status`."""

    status: str
    uptime_seconds: float
    version: str


class ConnectionsData(TypedDict, total=False):
    """Data of `connections`."""

    client_id: str
    user_id: str | None
    total_connections: int
    channels: list[str]
    reason: str | None
    code: int | None


@final
class MetricsEvent(TypedDict):
    """An event of `metrics`."""

    channel: str
    timestamp: str
    event_type: str
    data: MetricsData
    seq: int


@final
class SignalsEvent(TypedDict):
    """An event of `signals`."""

    channel: str
    timestamp: str
    event_type: str
    data: SignalsData
    seq: int


@final
class ActionsEvent(TypedDict):
    """An event of `actions`."""

    channel: str
    timestamp: str
    event_type: str
    data: ActionsData
    seq: int


@final
class LogsEvent(TypedDict):
    """An event of `logs`."""

    channel: str
    timestamp: str
    event_type: str
    data: LogsData
    seq: int


@final
class StatusEvent(TypedDict):
    """An event of `status`."""

    channel: str
    timestamp: str
    event_type: str
    data: StatusData
    seq: int


@final
class ConnectionsEvent(TypedDict):
    """An event of `connections`."""

    channel: str
    timestamp: str
    event_type: str
    data: ConnectionsData
    seq: int


#: Events are missing at this place of a channel's stream. `from` and `to` are the first and last seq that are missing,
#: `count` how many of those the filter lets through; None where that is not known. `exact` is there, and false, where
#: the filter could not be asked.
Gap = TypedDict(
    "Gap",
    {
        "type": Literal["gap"],
        "of": str,
        "epoch": str,
        "from": int | None,
        "to": int | None,
        "count": int | None,
        "reason": str,
        "exact": NotRequired[bool],
    },
)


class SubscribeOptions(TypedDict, total=False):
    """Options of a subscription; at most one of `recover`, `last` and `since`.

    `filter`: which events are wanted. `policy`: what the server gives up where we are too slow. `key`: with the policy
    `latest`, the path of what tells events apart. `recover`: a position to go on behind. `last`: first the last so many
    events. `since`: first the events from that time on, RFC 3339 with a zone.
    """

    filter: dict[str, Any] | None
    policy: str | None
    key: str | None
    recover: Position | Mapping[str, object] | None
    last: int | None
    since: str | None


class SubscribeMultipleOptions(TypedDict, total=False):
    """As `SubscribeOptions`, but `recover` has a position for each channel that has one."""

    filter: dict[str, Any] | None
    policy: str | None
    key: str | None
    recover: Mapping[str, Position | Mapping[str, object]] | None
    last: int | None
    since: str | None


class EventToPublish(TypedDict):
    """One event of a batch."""

    event_type: str
    data: NotRequired[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Published:
    """What the server says of a publish.

    Attributes:
        channel: Where to.
        first: The first event's seq.
        last: The last event's seq; the same for a single one.
        subscribers: How many subscriptions the channel had at that moment, before filters.
        timestamp: When.
    """

    channel: str
    first: int
    last: int
    subscribers: int
    timestamp: str


@dataclass(frozen=True, slots=True)
class History:
    """A part of a channel's past.

    Attributes:
        channel: Whose.
        epoch: In which the events' seqs count.
        events: Ascending.
        complete: False where a part of what was asked for is gone.
        more: True where only the limit cut it; go on `after` the last event.
    """

    channel: str
    epoch: str
    events: list[Event]
    complete: bool
    more: bool


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Who the server takes us for.

    Attributes:
        user_id: The user; None: nobody in particular.
        role: The role.
        expires_at: When the token ends; None: never.
    """

    user_id: str | None
    role: str
    expires_at: str | None


class ConnectionInfo(TypedDict):
    """What `get_connection_info()` tells. None: not known before the first connection.

    `positions` are those of the events that handlers have worked on; `reconnects` counts connections after the first;
    `queued` is how many publishes are not answered yet.
    """

    url: str
    state: State
    client_id: str | None
    user_id: str | None
    role: str | None
    epoch: str | None
    connected_at: str | None
    subscriptions: list[str]
    positions: dict[str, Position]
    reconnects: int
    queued: int
