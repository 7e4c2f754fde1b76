"""What the router owns, apart from the actor that works on it: it survives that actor's crash.

Plain objects, changed by the router alone, in sync functions that finish or change nothing. After a crash the
supervisor hands them to the next incarnation, which goes on with them if they are sound, and else begins a new
epoch and tells everyone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from router.clock import Clock
from router.config import Config
from router.engine.memory import Stream, new_epoch
from router.errors import GapReason
from router.events import CHANNELS
from router.letters import Depart, Message
from router.outbox import Gap
from router.permissions import grants
from router.sessions import Session, Sessions
from router.subscriptions import Subscription, Subscriptions


@dataclass(slots=True)
class Counters:
    """Sums since the start."""

    events: int = 0
    #: Events handed to subscriptions; those that wait or were lost are among them.
    matched: int = 0
    errors: int = 0


@dataclass(slots=True)
class InHand:
    """The message being worked on, and which of its items where it is a letter."""

    message: Message
    index: int = 0


@dataclass
class RouterState:
    """The router's state."""

    config: Config
    clock: Clock = field(default_factory=Clock)
    epoch: str = field(default_factory=new_epoch)
    streams: dict[str, Stream] = field(default_factory=lambda: {name: Stream(spec) for name, spec in CHANNELS.items()})
    subscriptions: Subscriptions = field(default_factory=lambda: Subscriptions(CHANNELS))
    counters: Counters = field(default_factory=Counters)
    in_hand: InHand | None = None
    #: Between the first and the last reader of a batch: a crash there leaves some without it.
    fanning_out: bool = False
    #: What found the router's mailbox full: connections that are over. Looked at once a second.
    departures: deque[Depart] = field(default_factory=deque)
    draining: bool = False

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.config)
        roles = self.config.roles
        self.grants_by_role = {role: grants(role, None, None, self.streams, roles) for role in roles}

    def is_sound(self) -> bool:
        """Whether the parts of the state agree with one another."""
        return (
            all(stream.is_sound() for stream in self.streams.values())
            and self.subscriptions.is_sound()
            and self.subscriptions.total == sum(len(session.subscriptions) for session in self.sessions)
        )

    def begin_epoch(self) -> None:
        """Number all channels anew, rebuild the table from the sessions, and announce the break to every reader."""
        self.fanning_out = False
        old, self.epoch = self.epoch, new_epoch()
        lost_from = {name: stream.flushed_seq + 1 for name, stream in self.streams.items()}
        for stream in self.streams.values():
            stream.restart()
        self.subscriptions.rebuild(self._all_subscriptions())
        for session in self.sessions:
            for channel, subscription in session.subscriptions.items():
                gap = Gap(channel, old, lost_from[channel], None, None, GapReason.EPOCH_CHANGED)
                session.outbox.put_gap(subscription.queue, gap)
            if session.lane is not None:
                session.lane.wake()

    def _all_subscriptions(self) -> Iterator[Subscription]:
        for session in self.sessions:
            yield from session.subscriptions.values()

    def marks(self, session: Session) -> dict[str, int]:
        """The seq of the last event handed whole to the socket, by channel; all fanned out, nothing in flight."""
        marks = {}
        for channel, subscription in session.subscriptions.items():
            waiting = subscription.queue.first_waiting_seq()
            marks[channel] = self.streams[channel].flushed_seq if waiting is None else waiting - 1
        return marks

    def positions(self, channels: dict[str, int]) -> dict[str, dict[str, str | int]]:
        """Positions as the wire has them."""
        return {channel: {"epoch": self.epoch, "seq": seq} for channel, seq in channels.items()}

    def buffered_events(self) -> int:
        """Events that wait in outboxes."""
        return sum(session.outbox.events for session in self.sessions)

    def dropped_events(self) -> int:
        """Events lost to the bounds of outboxes, those of ended sessions included."""
        return self.sessions.dropped + sum(session.outbox.dropped for session in self.sessions)
