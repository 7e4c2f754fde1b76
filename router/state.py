"""What the router owns, apart from the actor that works on it: it survives that actor's crash.

Plain objects, changed by the router alone, in sync functions that finish or change nothing. After a crash the
supervisor hands them to the next incarnation, which goes on with them if they are sound, and else begins a new
epoch and tells everyone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import trio

from router.access import Access
from router.channels import Channels
from router.clock import Clock
from router.config import Config
from router.engine.memory import Stream, new_epoch
from router.engine.streams import Streams
from router.errors import CloseCode, GapReason
from router.letters import Depart, Emit, Message
from router.outbox import Gap, Queue, Slice
from router.protocol import encode, reply
from router.revocations import Revocations
from router.sessions import Session, Sessions
from router.subscriptions import Subscription, Subscriptions


@dataclass(slots=True)
class Counters:
    """Sums since the start."""

    events: int = 0
    #: Events handed to sessions; those that wait or were lost are among them.
    matched: int = 0


@dataclass(slots=True)
class InHand:
    """The message being worked on, and how many of its items are done where it is a letter."""

    message: Message
    done: int = 0


#: Events on their way to their readers: the stream, the seq of the first, and the readers that have not got them.
FanOut = tuple[Stream, int, Iterator[Subscription]]


class EpochBreak(Gap, tag="gap"):
    """The gap of a channel whose numbering begins anew. Where it goes on is told right behind it.

    Attributes:
        successor: The epoch that begins.
    """

    successor: str

    def frame(self) -> bytes:
        """Both messages, framed."""
        gap = Gap(self.of, self.epoch, self.first, self.last, self.count, self.reason)
        return gap.frame() + reply("position", positions={self.of: _position(self.successor, 0)})


@dataclass
class RouterState:
    """The router's state."""

    config: Config
    clock: Clock = field(default_factory=Clock)
    epoch: str = field(default_factory=new_epoch)
    #: Streams with something to fan out.
    touched: dict[str, Stream] = field(default_factory=dict)
    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    counters: Counters = field(default_factory=Counters)
    in_hand: InHand | None = None
    #: A crash amid it leaves some readers without the events.
    fan_out: FanOut | None = None
    #: Connections that are over and whose departures found the router's mailbox full.
    departures: deque[Depart] = field(default_factory=deque)
    #: Set with the goodbye: whoever waits for more of a request ends it.
    going_down: trio.Event = field(default_factory=trio.Event)
    #: That a token came which nobody can check is logged once.
    token_ignored: bool = False

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.config)
        self.channels = Channels(self.config.channels)
        self.access = Access(self.config.roles, self.channels)
        self.streams = Streams(self.channels, self.config.max_channels)
        self.revocations = Revocations(self.config.max_revocations, self.clock.unix_s)

    @property
    def draining(self) -> bool:
        """Whether the goodbye was said."""
        return self.going_down.is_set()

    # Events

    def stamped(self, channel: str) -> Stream | None:
        """A channel's stream, to append events of this moment to; None: there is no such channel, or no room for it."""
        stream = self.streams.open(channel)
        if stream is not None:
            self.touched[channel] = stream
            stream.stamp(self.clock.unix_ms(), self.clock)
        return stream

    def emit(self, event: Emit) -> None:
        """Append an event of the server's own."""
        stream = self.stamped(event.channel)
        assert stream is not None, "the server's own events are of the system's channels"
        stream.append((event,))
        self.counters.events += 1

    def announce(self, event_type: str, session: Session, **fields: object) -> None:
        """Tell the `connections` channel about a client."""
        data = {
            "client_id": session.client_id,
            "user_id": session.identity.user_id,
            "total_connections": self.sessions.connected,
        }
        self.emit(Emit("connections", event_type, encode(data | fields)))

    # Sessions and what they listen to

    def subscribe(self, session: Session, channels: Iterable[str]) -> None:
        """Enter subscriptions that the session does not have."""
        for name in channels:
            subscription = session.subscriptions[name] = Subscription(name, session.outlet)
            self.subscriptions.add(subscription)

    def unsubscribe(self, session: Session, channels: Iterable[str]) -> list[str]:
        """End subscriptions, and forget what waits of them. Returns those that there were, sorted."""
        removed = sorted({name for name in channels if name in session.subscriptions})
        for name in removed:
            subscription = session.subscriptions.pop(name)
            self.subscriptions.remove(subscription)
            self.counters.matched -= session.outbox.discard(subscription.queue)
        return removed

    def expel(self, session: Session, code: CloseCode, reason: str) -> None:
        """End a session for good, and close its connection where it has one."""
        lane = session.lane
        if lane is not None:
            lane.close(code, reason)
        self.end(session)
        if lane is not None:
            self.announce("client.disconnected", session, code=code, reason=reason)

    def end(self, session: Session) -> None:
        """Forget a session and its subscriptions."""
        for subscription in session.subscriptions.values():
            self.subscriptions.remove(subscription)
        session.subscriptions.clear()
        self.sessions.end(session)

    def positions(self, session: Session, channels: Iterable[str]) -> dict[str, dict[str, str | int]]:
        """Where each channel goes on for a session, as the wire has it: what follows has a greater seq.

        That is its mark, behind the last event handed whole to the socket or in flight there. What has not been
        fanned out is still to come.
        """
        return {name: self._mark(session.subscriptions[name]) for name in channels}

    def _mark(self, subscription: Subscription) -> dict[str, str | int]:
        waiting = subscription.queue.entries
        if not waiting:
            return _position(self.epoch, self.streams[subscription.channel].flushed_seq)
        then = waiting[0]
        epoch, seq = (then.epoch, then.first) if isinstance(then, Gap) else (then.batch.epoch, then.seq(then.start))
        assert seq is not None, "events of a subscription have positions"
        return _position(epoch, seq - 1)

    def buffered_events(self) -> int:
        """Events that wait in outboxes."""
        return sum(session.outbox.events for session in self.sessions)

    def dropped_events(self) -> int:
        """Events lost to the bounds of outboxes, those of ended sessions included."""
        return self.sessions.dropped + sum(session.outbox.dropped for session in self.sessions)

    # After a crash

    def is_sound(self) -> bool:
        """Whether everybody got what was fanned out, and the parts of the state agree with one another."""
        return (
            self.fan_out is None
            and all(stream.is_sound() for stream in self.streams)
            and self.subscriptions.is_sound()
            and self.subscriptions.total == sum(len(session.subscriptions) for session in self.sessions)
            and all(
                subscription.outlet is session.outlet
                for session in self.sessions
                for subscription in session.subscriptions.values()
            )
        )

    def begin_epoch(self) -> None:
        """Number all channels anew, rebuild the table from the sessions, and announce the break to every reader."""
        lost_from = {stream.name: stream.flushed_seq + 1 for stream in self.streams}
        missed_from, missed = self._missed()
        self.fan_out = None
        old, self.epoch = self.epoch, new_epoch()
        self.touched.clear()
        self.streams.restart()
        self.subscriptions.rebuild(
            subscription for session in self.sessions for subscription in session.subscriptions.values()
        )
        for session in self.sessions:
            for name, subscription in session.subscriptions.items():
                subscription.outlet = session.outlet
                first = missed_from if subscription in missed else lost_from[name]
                gap = EpochBreak(name, old, first, None, None, GapReason.EPOCH_CHANGED, self.epoch)
                session.outbox.put_gap(subscription.queue, gap)
            if session.lane is not None:
                session.lane.wake()

    def _missed(self) -> tuple[int, set[Subscription]]:
        """Who has not got the events that were being fanned out, and the seq of the first of those."""
        if self.fan_out is None:
            return 0, set()
        stream, first_seq, left = self.fan_out
        missed = set(left)
        reached = [reader for reader in self.subscriptions.readers(stream.name) if reader not in missed]
        # With the last one it broke off: it has them only if they wait for it.
        missed.update(reader for reader in reached[-1:] if not _ends_with(reader.queue, first_seq))
        return first_seq, missed


def _ends_with(queue: Queue, first_seq: int) -> bool:
    """Whether the last that waits is the batch that begins with `first_seq`."""
    last = queue.entries[-1] if queue.entries else None
    return isinstance(last, Slice) and last.batch.first_seq == first_seq


def _position(epoch: str, seq: int) -> dict[str, str | int]:
    return {"epoch": epoch, "seq": seq}
