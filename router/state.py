"""What the router owns, apart from the actor that works on it: it survives that actor's crash.

Plain objects, changed by the router alone, in sync functions that finish or change nothing. After a crash the
supervisor hands them to the next incarnation, which goes on with them if they are sound, and else begins a new
epoch and tells everyone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import trio

from router.access import Access
from router.batches import Slice
from router.channels import Channels
from router.clock import Clock
from router.config import Config
from router.engine.memory import Stream, new_epoch
from router.engine.streams import Streams
from router.errors import CloseCode, GapReason
from router.fanning import FanOut
from router.ledger import CLOSED, Ledger
from router.letters import Depart, Emit, Message, Receipt
from router.protocol import Position, encode
from router.queues import Queue
from router.recovery import EpochBreak
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
    #: By channel and key, until when a publish is remembered, in Unix seconds, and its answer.
    publish_keys: dict[tuple[str, str], tuple[float, Receipt]] = field(default_factory=dict)
    #: By channel, the accounts of subscriptions that have ended.
    ledgers: dict[str, Ledger] = field(default_factory=dict)
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
        self.streams = Streams(self.channels, self.config)
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

    def published_before(self, channel: str, key: str) -> Receipt | None:
        """What a publish with this key was answered, if it is not long ago."""
        until_s, receipt = self.publish_keys.get((channel, key), (0.0, None))
        return receipt if self.clock.unix_s() < until_s else None

    def remember_key(self, channel: str, key: str, receipt: Receipt) -> None:
        """A later publish with this key is to change nothing."""
        self.publish_keys.pop((channel, key), None)
        self.publish_keys[channel, key] = (self.clock.unix_s() + self.config.publish_key_s, receipt)
        if len(self.publish_keys) > self.config.max_publish_keys:
            del self.publish_keys[next(iter(self.publish_keys))]

    def forget_keys(self) -> None:
        """Let go of the keys whose time is over."""
        now = self.clock.unix_s()
        while self.publish_keys:
            oldest = next(iter(self.publish_keys))
            if self.publish_keys[oldest][0] > now:
                break
            del self.publish_keys[oldest]

    def announce(self, event_type: str, session: Session, **fields: object) -> None:
        """Tell the `connections` channel about a client."""
        data = {
            "client_id": session.client_id,
            "user_id": session.identity.user_id,
            "total_connections": self.sessions.connected,
        }
        self.emit(Emit("connections", event_type, encode(data | fields)))

    # Sessions and what they listen to

    def subscribe(self, session: Session, subscription: Subscription) -> None:
        """Enter a subscription, or what it asks for now."""
        session.subscriptions[subscription.channel] = subscription
        self.subscriptions.add(subscription)

    def unsubscribe(self, session: Session, channels: Iterable[str]) -> list[str]:
        """End subscriptions, and forget what waits of them. Returns those that there were, sorted."""
        removed = sorted({name for name in channels if name in session.subscriptions})
        for name in removed:
            subscription = session.subscriptions.pop(name)
            self.close_account(session, subscription, "unsubscribed")
            self.subscriptions.remove(subscription)
            self.counters.matched -= session.outbox.discard(subscription.queue)
        return removed

    def expel(self, session: Session, code: CloseCode, reason: str) -> None:
        """End a session for good, and close its connection where it has one."""
        lane, ledger = session.lane, self.ledger_of_session(session).closed(CLOSED)
        if lane is not None:
            lane.close(code, reason)
        self.end(session)
        if lane is not None:
            self.announce("client.disconnected", session, code=code, reason=reason, ledger=ledger)

    def end(self, session: Session) -> None:
        """Forget a session and its subscriptions."""
        for subscription in session.subscriptions.values():
            self.close_account(session, subscription, CLOSED)
            self.subscriptions.remove(subscription)
        session.subscriptions.clear()
        self.sessions.end(session)

    def positions(self, session: Session, channels: Iterable[str]) -> dict[str, Position]:
        """Where each channel goes on for a session, as the wire has it: what follows has a greater seq.

        That is its mark, behind the last event handed whole to the socket or in flight there. What has not been
        fanned out is still to come.
        """
        return {name: self._mark(session.subscriptions[name]) for name in channels}

    def _mark(self, subscription: Subscription) -> Position:
        then = subscription.queue.first()
        if then is None:
            return Position(self.epoch, self.streams[subscription.channel].flushed_seq)
        seq = subscription.before(then) if then.epoch == self.epoch else then.before
        assert seq is not None, "events of a subscription have positions"
        return Position(then.epoch, seq)

    def untold_positions(self, session: Session) -> dict[str, Position]:
        """Where channels have come to of which a client was sent no event, as its filters left all out; told now."""
        untold = {}
        for name, subscription in session.subscriptions.items():
            seq = self.scanned(name)
            if seq > subscription.told and self._is_told_nothing(session, subscription, seq):
                untold[name] = Position(self.epoch, seq)
                subscription.told = seq
        return untold

    def _is_told_nothing(self, session: Session, subscription: Subscription, seq: int) -> bool:
        """Whether no event or gap tells a client, or is to tell it, of a position."""
        group, queue, lane = subscription.group, subscription.queue, session.lane
        return (
            group is not None
            and group.filter is not None
            and group.last_seq != seq
            and not session.outbox.held
            and not session.outbox.holds(queue)
            and not (lane is not None and lane.carries(queue))
            and not (self.fan_out is not None and self.fan_out.on_the_way_to(subscription))
        )

    def buffered_events(self) -> int:
        """Events that wait in outboxes."""
        return sum(session.outbox.waiting for session in self.sessions)

    def dropped_events(self) -> int:
        """Events lost to the bounds of outboxes, those of ended sessions included."""
        return self.sessions.dropped + sum(session.outbox.dropped for session in self.sessions)

    # The account

    def scanned(self, channel: str) -> int:
        """The position up to which a channel's events were looked at for their readers."""
        if self.fan_out is not None and self.fan_out.stream.name == channel:
            return self.fan_out.scanned
        return self.streams[channel].flushed_seq

    def ledger(self, session: Session, subscription: Subscription) -> Ledger:
        """The account of a subscription, exact at any moment."""
        queue, lane = subscription.queue, session.lane
        queued = session.outbox.queued(queue) + (0 if lane is None else lane.in_flight(queue))
        if self.fan_out is not None:
            queued += self.fan_out.on_the_way_to(subscription)
        offered = self.scanned(subscription.channel) - subscription.start
        return Ledger.of(
            offered,
            subscription.matched_by_now,
            queued,
            queue.replaced,
            {reason.value: events for reason, events in queue.dropped.items()},
            queue.resent - self._to_resend(session, queue),
        )

    def _to_resend(self, session: Session, queue: Queue) -> int:
        """Events that are to be sent again and are not out."""
        in_flight = 0 if session.lane is None else session.lane.in_flight(queue, again=True)
        return session.outbox.to_resend(queue) + in_flight

    def ledger_of_session(self, session: Session) -> Ledger:
        """The sum of the accounts of a session's subscriptions."""
        accounts = (self.ledger(session, subscription) for subscription in session.subscriptions.values())
        return sum(accounts, Ledger())

    def drop_idle_channels(self) -> None:
        """Let go of channels that nobody uses, and of their sums: names come from clients, without end."""
        idle_since_ms = self.clock.unix_ms() - int(self.config.channel_idle_s * 1000)
        for name in self.streams.drop_idle(idle_since_ms, self.subscriptions.is_read):
            self.ledgers.pop(name, None)

    def close_account(self, session: Session, subscription: Subscription, reason: str) -> None:
        """Add the account of a subscription that ends to its channel's sums; what waits is dropped for that reason."""
        ledger = self.ledger(session, subscription).closed(reason)
        self.ledgers[subscription.channel] = self.ledgers.get(subscription.channel, Ledger()) + ledger

    def ledger_of_channel(self, channel: str) -> Ledger:
        """The sum of all accounts of a channel, those of ended subscriptions among them."""
        total = self.ledgers.get(channel, Ledger())
        for session in self.sessions:
            subscription = session.subscriptions.get(channel)
            if subscription is not None:
                total += self.ledger(session, subscription)
        return total

    def _begin_account(self, session: Session, subscription: Subscription) -> None:
        """Begin anew with what waits, as with a new epoch."""
        queue, lane = subscription.queue, session.lane
        waiting = session.outbox.queued(queue) + (0 if lane is None else lane.in_flight(queue))
        queue.replaced, queue.dropped, queue.resent = 0, {}, self._to_resend(session, queue)
        subscription.start, subscription.matched = -waiting, waiting
        subscription.joined_behind = subscription.last_before = subscription.told = 0
        subscription.joined_at = 0 if subscription.group is None else subscription.group.matched

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
        self.publish_keys.clear()  # what they name may be lost: a publish that is tried again is done again
        self.subscriptions.rebuild(
            subscription for session in self.sessions for subscription in session.subscriptions.values()
        )
        for session in self.sessions:
            for name, subscription in session.subscriptions.items():
                subscription.outlet = session.outlet
                first = missed_from if subscription in missed else lost_from[name]
                gap = EpochBreak(name, old, first, None, None, GapReason.EPOCH_CHANGED, successor=self.epoch)
                session.outbox.put_gap(subscription.queue, gap)
                self._begin_account(session, subscription)
            if session.lane is not None:
                session.lane.wake()

    def _missed(self) -> tuple[int, set[Subscription]]:
        """Who has not got the events that were being fanned out, and the seq of the first of those."""
        if self.fan_out is None:
            return 0, set()
        if not self.fan_out.all_asked:
            return self.fan_out.first_seq, set(self.subscriptions.readers(self.fan_out.stream.name))
        missed = self.fan_out.unreached()
        # With the last one it broke off: it has them only if they wait for it.
        last = self.fan_out.reached_last()
        if last is not None and not _ends_with(last.queue, self.fan_out.first_seq):
            missed.add(last)
        return self.fan_out.first_seq, missed


def _ends_with(queue: Queue, first_seq: int) -> bool:
    """Whether the last that waits is of the batch that begins with `first_seq`."""
    last = queue.entries[-1] if queue.entries else None
    return isinstance(last, Slice) and last.batch.seqs is not None and last.batch.seqs[-1] >= first_seq
