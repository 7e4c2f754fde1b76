"""What the router owns, apart from the actor that works on it: it survives that actor's crash.

Plain objects, changed by the router alone, in sync functions that finish or change nothing. After a crash the
supervisor hands them to the next incarnation, which goes on with them if they are sound, and else begins a new
epoch and tells everyone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import trio

from router.accounts import Accounts, account
from router.auth.access import Access
from router.auth.revocations import Revocations
from router.blocking import Blocking
from router.channels import Channels
from router.clock import Clock
from router.config import Config
from router.engine.memory import Stream, new_epoch
from router.engine.streams import Streams
from router.errors import CloseCode, ErrorCode
from router.fanning import FanOut
from router.history import Ring
from router.hub.publish_keys import PublishKeys
from router.ledger import CLOSED, Ledger
from router.letters import Depart, Emit, Message
from router.protocol import Id, Position, Refusal, encode, no_room_for, unknown_channel
from router.schemas import Schema
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
    #: What the channels' schema files held at the start.
    schemas: Mapping[str, Schema] = field(default_factory=dict)
    #: Streams with something to fan out.
    touched: dict[str, Stream] = field(default_factory=dict)
    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    counters: Counters = field(default_factory=Counters)
    in_hand: InHand | None = None
    #: A crash amid it leaves some readers without the events.
    fan_out: FanOut | None = None
    #: Of subscriptions that have ended.
    accounts: Accounts = field(default_factory=Accounts)
    #: Connections that are over and whose departures found the router's mailbox full.
    departures: deque[Depart] = field(default_factory=deque)
    #: Set with the goodbye: whoever waits for more of a request ends it.
    going_down: trio.Event = field(default_factory=trio.Event)
    #: That a token came which nobody can check is logged once.
    token_ignored: bool = False

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.config)
        self.channels = Channels(self.config.channels, self.schemas)
        self.access = Access(self.config.roles, self.channels)
        self.streams = Streams(self.channels, self.config)
        self.blocking = Blocking(self.channels, self.subscriptions)
        self.revocations = Revocations(self.config.max_revocations, self.clock.unix_s)
        self.publish_keys = PublishKeys(self.config.max_publish_keys, self.config.publish_key_s, self.clock.unix_s)

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

    def past(self, channel: str) -> Ring:
        """A channel's past, without what is too old by now."""
        ring = self.streams.look(channel).ring
        ring.expire(self.clock.unix_ms())
        return ring

    def no_stream(self, channel: str, id: Id) -> Refusal:  # noqa: A002 - the wire's name
        """Why a channel has no stream and gets none, though it existed when the message about it was judged."""
        if self.channels.find(channel) is None:
            return unknown_channel(channel, id)
        return Refusal(ErrorCode.UNKNOWN_CHANNEL, no_room_for([channel], self.config.max_channels), id=id)

    def emit(self, event: Emit) -> None:
        """Append an event of the server itself."""
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

    def subscribe(self, session: Session, subscription: Subscription) -> None:
        """Enter a subscription, or what it asks for now."""
        session.subscriptions[subscription.channel] = subscription
        self.subscriptions.add(subscription)

    def unsubscribe(self, session: Session, channels: Iterable[str]) -> list[str]:
        """End subscriptions, and forget what waits for them. Returns those that existed, sorted."""
        removed = sorted({name for name in channels if name in session.subscriptions})
        for name in removed:
            subscription = session.subscriptions.pop(name)
            self.subscriptions.remove(subscription)
            lost = session.outbox.discard(subscription.queue)
            self.counters.matched -= lost
            self.accounts.leave(subscription, self.scanned(name), lost)
        return removed

    def expel(self, session: Session, code: CloseCode, reason: str) -> None:
        """End a session for good, and close its connection where it has one."""
        lane = session.lane
        if lane is not None:
            lane.close(code, reason)
        ledger = self.end(session)
        if lane is not None:
            self.announce("client.disconnected", session, code=code, reason=reason, ledger=ledger)

    def end(self, session: Session) -> Ledger:
        """Forget a session and its subscriptions. Returns the sum of their accounts."""
        total = Ledger()
        if session.lane is not None:
            session.lane.claim_frame()
        self.accounts.part(session.outlet)
        for name, subscription in tuple(session.subscriptions.items()):
            ledger = self.ledger(subscription).closed(CLOSED)
            del session.subscriptions[name]
            self.accounts.add(name, ledger)
            self.subscriptions.remove(subscription)
            total += ledger
        self.sessions.end(session)
        return total

    def positions(self, session: Session, channels: Iterable[str]) -> dict[str, Position]:
        """Where each channel goes on for a session, as the wire has it: what follows has a greater seq.

        That is its mark, after the last event handed whole to the socket or in flight there. What has not been
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
        """Where channels stand that a client was sent no event of, since its filters left all out; counts as told."""
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
            and (self.fan_out is None or self.fan_out.stream.name != subscription.channel)
        )

    def buffered_events(self) -> int:
        """Events that wait in outboxes."""
        return sum(session.outbox.waiting for session in self.sessions)

    def dropped_events(self) -> int:
        """Events lost to the bounds of outboxes, those of ended sessions included."""
        return self.sessions.dropped + sum(session.outbox.dropped for session in self.sessions)

    # The accounts

    def scanned(self, channel: str) -> int:
        """The position up to which a channel's events were looked at for their readers."""
        if self.fan_out is not None and self.fan_out.stream.name == channel:
            return self.fan_out.scanned
        return self.streams[channel].flushed_seq

    def ledger(self, subscription: Subscription) -> Ledger:
        """The account of a subscription, exact at any moment."""
        on_the_way = 0 if self.fan_out is None else self.fan_out.on_the_way_to(subscription)
        return account((subscription,), self.scanned(subscription.channel), on_the_way)

    def ledger_of_session(self, session: Session) -> Ledger:
        """The sum of the accounts of a session's subscriptions."""
        return sum(map(self.ledger, session.subscriptions.values()), Ledger())

    def ledger_of_channel(self, channel: str) -> Ledger:
        """The sum of all accounts of a channel since the start, those of ended subscriptions among them."""
        ended = self.accounts.ended(channel)
        if not self.subscriptions.is_read(channel):
            return ended
        fan_out = self.fan_out
        on_the_way = fan_out.on_the_way if fan_out is not None and fan_out.stream.name == channel else 0
        return ended + account(self.subscriptions.readers(channel), self.scanned(channel), on_the_way)

    def drop_idle_channels(self) -> None:
        """Let go of channels that nobody uses."""
        self.accounts.settle()
        idle_since_ms = self.clock.unix_ms() - int(self.config.channel_idle_s * 1000)
        for name in self.streams.drop_idle(idle_since_ms, self._is_used):
            self.accounts.drop(name)
            self.blocking.forget(name)

    def _is_used(self, channel: str) -> bool:
        return self.subscriptions.is_read(channel) or self.accounts.awaits(channel)
