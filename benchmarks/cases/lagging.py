"""Clients that lag behind: what does the server hold for them?"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from ..errors import BenchmarkError
from ..plan import Plan
from ..report import Column, Report
from ..servers import Server, router_as
from ..session import Session, opened, read_by_a_thread

_CHANNELS = [f"load.{number}" for number in range(1, 7)]
_EVENT_BYTES = 1_024
_EVENT = {"event_type": "load", "data": {"pad": "x" * (_EVENT_BYTES - len('{"pad":""}'))}}
# Sessions, and events of each channel.
_FULL = (1_000, 1_000)
_QUICK = (50, 100)
# What a server opens besides its clients: listeners, pipes, its own files.
_OTHER_FILES = 200
_IN_BURSTS = 50
_SETTLE_S = 1.0
_LOOK_EVERY_S = 0.25
_TIMEOUT_S = 120.0
_KIB = 1024
_MIB = 1024 * 1024

# Room for all events of all channels, so that none is dropped, and patience with clients that answer no ping.
_ROUTER = router_as(
    "router",
    channels='{"load.*":{"description":"events that are measured"}}',
    outbox_bytes=str(16 * _MIB),
    heartbeat_s="600",
    silence_s="1800",
)


class _Figures(msgspec.Struct):
    total_connections: int
    total_subscriptions: int
    buffered_events: int


class _Status(msgspec.Struct):
    websocket: _Figures


@dataclass(frozen=True)
class _Run:
    """Resident memory in bytes: with nobody there, with all sessions connected, and when they lag."""

    sessions: int
    empty: int
    connected: int
    lagging: int
    waiting: int

    @property
    def more(self) -> int:
        return self.lagging - self.connected


_COLUMNS: list[Column[_Run]] = [
    Column("empty MiB", lambda run: run.empty / _MIB, 1),
    Column("connected MiB", lambda run: run.connected / _MIB, 1),
    Column("then MiB", lambda run: run.lagging / _MIB, 1),
    Column("more, KiB/session", lambda run: run.more / run.sessions / _KIB, 2),
    Column("events waiting/session", lambda run: run.waiting / run.sessions),
    Column("as copies, KiB/session", lambda run: run.waiting * _EVENT_BYTES / run.sessions / _KIB),
]


@dataclass(frozen=True)
class _Load:
    """What is done to one server; each step returns when the server has taken it in."""

    server: Server
    sessions: Sequence[Session]
    events: int
    at_once: int

    def subscribe(self, **options: int) -> None:
        """Every session subscribes to every channel. What is sent in answer is left unread."""
        for session in self.sessions:
            for channel in _CHANNELS:
                session.say(type="subscribe", channels=[channel], **options)
        wanted = len(self.sessions) * len(_CHANNELS)
        self._until("subscribed", lambda now: now.total_subscriptions == wanted)

    def publish(self) -> None:
        """All events, the channels in turn."""
        with opened(self.server.port, 1) as [publisher]:
            for _ in range(self.events // self.at_once):
                for channel in _CHANNELS:
                    publisher.publish(channel, [_EVENT] * self.at_once)

    def publish_to_readers(self) -> None:
        """The same, and everybody reads."""
        with read_by_a_thread(self.sessions):
            self.publish()
            self._until("up to date", lambda now: now.buffered_events == 0)
            if self._figures().total_connections < len(self.sessions):
                raise BenchmarkError("the server closed connections though their clients read")

    def publish_to_detached(self) -> None:
        """The same, and everybody has gone, to come back some time."""
        for session in self.sessions:
            session.socket.close()
        self._until("detached", lambda now: now.total_connections == 0)
        self.publish()

    def publish_and_replay(self) -> None:
        """The same, and only then everybody subscribes, and asks for all of it."""
        self.publish()
        self.subscribe(last=self.events)

    def waiting(self) -> int:
        """Events that wait in outboxes, once these take and give no more."""
        found = [-1]

        def is_steady(now: _Figures) -> bool:
            found.append(now.buffered_events)
            return found[-1] == found[-2]

        self._until("at rest", is_steady)
        return found[-1]

    def _figures(self) -> _Figures:
        return self.server.get("status?limit=1", _Status).websocket

    def _until(self, what: str, reached: Callable[[_Figures], bool]) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while not reached(now := self._figures()):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"the sessions are not all {what} after {_TIMEOUT_S:g} s; the server has {now}")
            time.sleep(_LOOK_EVERY_S)


@dataclass(frozen=True)
class _State:
    """A way to lag.

    Attributes:
        label: what the table calls it.
        reach: how sessions get there.
        subscribed: whether they are subscribed before; their memory is then no part of what lagging costs.
        at_once: how many events come in a message; a message is a batch, and a batch is what is referred to.
    """

    label: str
    reach: Callable[[_Load], None]
    subscribed: bool = True
    at_once: Sequence[int] = (_IN_BURSTS, 1)


_STATES = [
    _State("all read", _Load.publish_to_readers, at_once=(_IN_BURSTS,)),
    _State("read nothing", _Load.publish),
    _State("detached", _Load.publish_to_detached),
    _State("replay unread", _Load.publish_and_replay, subscribed=False),
]


def lagging(plan: Plan) -> Report[_Run]:
    """Measures resident memory before, with sessions that are up to date, and with the same when they lag."""
    count, events = _QUICK if plan.quick else _FULL
    count = min(count, plan.open_files - _OTHER_FILES)
    report = Report(
        f"{count:,} sessions that lag behind on {len(_CHANNELS)} channels of {events:,} events of 1 KiB each",
        "sessions",
        _COLUMNS,
    )
    for state in _STATES:
        for at_once in state.at_once:
            label = f"{state.label}, {at_once} at once"
            once = partial(_once, state=state, count=count, events=events, at_once=at_once)
            report.add(label, plan.by_turns([_ROUTER], label, once))
    report.notes.append(
        "Resident memory of the server's process. What the kernel keeps for sockets is not in it, and what it has "
        "taken does not wait; nor do up to 256 KiB a connection that are being written, though they are referred to. "
        "A detached session keeps its newest 1,000 events. As copies: what waits × 1 KiB, as it would be without "
        "sharing."
    )
    return report


def _once(server: Server, *, state: _State, count: int, events: int, at_once: int) -> _Run:
    time.sleep(_SETTLE_S)
    empty = server.resident_bytes()
    with opened(server.port, count, reads=state.reach is _Load.publish_to_readers) as sessions:
        load = _Load(server, sessions, events, at_once)
        if state.subscribed:
            load.subscribe()
        time.sleep(_SETTLE_S)
        connected = server.resident_bytes()
        state.reach(load)
        waiting = load.waiting()
        time.sleep(_SETTLE_S)
        return _Run(count, empty, connected, server.resident_bytes(), waiting)
