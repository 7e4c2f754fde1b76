"""The router actor: it alone numbers events, changes the subscription table and puts things into outboxes.

It works through its mailbox letter by letter, each from front to end, and itself sends the replies, in the same
sync step as the change that they report. Events are fanned out once the mailbox is empty or a batch is full: what
arrives while it is busy is the next batch, so batches form by themselves and nothing waits when there is no load.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec
import structlog
import trio

from actors import Mailbox
from router.administration import disconnect, reconfigure, revoke, withdraw
from router.attachment import attach, depart, fresh_token, sign_in
from router.batches import Batch
from router.engine.memory import FULL_BATCH_BYTES, Stream
from router.errors import ErrorCode
from router.fanning import FanOut
from router.filters import Candidate
from router.frames import text_frame
from router.letters import (
    Attach,
    Broadcast,
    Change,
    Depart,
    Disconnect,
    Drain,
    Emit,
    Events,
    HostEvents,
    Letter,
    Message,
    Receipt,
    Reconfigure,
    Revoke,
    SendTo,
    SendToCall,
    SignIn,
    SubscribeTo,
)
from router.protocol import (
    GetReconnectionToken,
    GetSubscriptions,
    History,
    Position,
    Refusal,
    Resume,
    Unsubscribe,
    denied_fields,
    encode,
    reply,
)
from router.recovery import Missed
from router.replays import history, past_of, resume, send_past
from router.sessions import Session
from router.state import InHand, RouterState
from router.subscriptions import Subscription

log = structlog.get_logger("router.hub")

#: After this long at one go the loop lets others run, so that reading goes on.
YIELD_AFTER_S = 0.002
#: The clock is looked at once for this many readers.
_READERS_BETWEEN_LOOKS = 64
#: Letters taken before events are fanned out, however many more there are.
_LETTERS_AT_ONCE = 64
#: How often the hub looks for sessions whose time is over, by its own clock: a full mailbox refuses a `tick`.
_EXPIRE_EVERY_S = 0.5


class Hub:
    """The router actor. Its state is a `RouterState`, which outlives it."""

    def __init__(self, state: RouterState) -> None:
        self._state = state
        self._yield_at = 0.0
        self._expire_at = 0.0

    async def run(self, mailbox: Mailbox[Message], *, task_status: trio.TaskStatus[None]) -> None:
        """Work until the mailbox ends."""
        self._recover()
        task_status.started()
        await self._flush()
        async for message in mailbox:
            now = trio.current_time()
            self._yield_at = now + YIELD_AFTER_S
            await self._handle(message)
            for _ in range(_LETTERS_AT_ONCE):
                try:
                    message = mailbox.receive_nowait()
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
                await self._handle(message)
            if now >= self._expire_at:
                self._expire_at = now + _EXPIRE_EVERY_S
                self._expire(now)
            while self._state.departures:
                await self._handle(self._state.departures.popleft())
            await self._flush()

    def _recover(self) -> None:
        """Go on after a crash: see whether the state can be trusted, and answer for the lost message."""
        state = self._state
        lost, state.in_hand = state.in_hand, None
        if not state.is_sound():
            log.error("state unsound after a crash, beginning a new epoch", old_epoch=state.epoch)
            state.begin_epoch()
        if lost is None:
            return
        match lost.message:
            case Letter() as letter:
                for item in letter.items[lost.done :]:
                    if isinstance(item, bytes):
                        letter.lane.send_control(item)
                    elif item.id is not msgspec.UNSET:
                        refusal = Refusal(ErrorCode.INTERNAL, "the router failed on this message", id=item.id)
                        letter.lane.send_control(refusal.frame())
                if letter.done is not None:
                    letter.done.set()
            case Depart() as departure:
                depart(state, departure, trio.current_time())  # nobody else would let its session go
            case _:
                pass  # an asker has been told, and has what it was given so far

    async def _handle(self, message: Message) -> None:
        state = self._state
        hand = state.in_hand = InHand(message)
        match message:
            case Letter():
                await self._work(message, hand)
            case Emit():
                state.emit(message)
            case SendTo():
                self._send_to(message)
            case HostEvents():
                await self._work_for_host(message)
            case Broadcast() | SendToCall() if state.draining:
                message.reply.abandon()  # all have had their last message
            case Broadcast():
                message.reply.send([await self._publish(item) for item in message.items])
            case SendToCall():
                message.reply.send(self._send_to(message.message))
            case Disconnect():
                message.reply.send(disconnect(state, message.client_id))
            case Revoke():
                message.reply.send(revoke(state, message))
            case Reconfigure():
                await self._flush()
                message.reply.send(reconfigure(state, message))
            case Attach():
                now = trio.current_time()
                self._expire(now)
                attach(state, message, now)
            case Depart():
                depart(state, message, trio.current_time())
            case Drain():
                await self._flush()
                message.reply.send(self._say_goodbye())
            case "tick":
                pass  # it has woken the hub
            case _:
                assert_never(message)
        state.in_hand = None

    # One letter

    async def _work(self, letter: Letter, hand: InHand) -> None:
        session, lane = letter.session, letter.lane
        if session.previous_token is not None and session.lane is lane:
            self._state.sessions.confirm_token(session)
        if session.resume_by is not None and session.lane is lane and not _says_where_to_go_on(letter):
            self._state.sessions.go_on(session)
        for item in letter.items:
            if isinstance(item, Events):
                receipt = self._append(item)
                if item.id is not msgspec.UNSET or isinstance(receipt, Refusal):
                    lane.send_control(self._answer(item, receipt))
                hand.done += 1
                if (stream := self._full(item.channel)) is not None:
                    await self._fan_out(stream)
            elif isinstance(item, bytes):
                lane.send_control(item)
                hand.done += 1
            elif session.lane is lane:
                await self._flush()
                answer = self._change(session, item)
                if answer is not None:
                    lane.send_control(answer)
                hand.done += 1
                if isinstance(item, SignIn):
                    withdraw(self._state, session)
            else:
                hand.done += 1  # the session has left this connection, where nobody waits for a reply
        if letter.done is not None:
            letter.done.set()

    def _append(self, item: Events) -> Receipt | Refusal:
        """Number events and keep them for the next fan-out."""
        state = self._state
        stream = state.stamped(item.channel)
        if stream is None:
            return _no_stream(state, item)
        if item.key is not None and (known := state.published_before(item.channel, item.key)) is not None:
            return known
        first = stream.seq + 1
        stream.append(item.events)
        state.counters.events += len(item.events)
        receipt = Receipt(first, stream.seq, state.subscriptions.count(item.channel))
        if item.key is not None:
            state.remember_key(item.channel, item.key, receipt)
        return receipt

    def _answer(self, item: Events, answer: Receipt | Refusal) -> bytes:
        if isinstance(answer, Refusal):
            return answer.frame()
        return reply(
            "published",
            item.id,
            channel=item.channel,
            seq=(answer.first, answer.last),
            subscribers=answer.subscribers,
            timestamp=self._state.clock.timestamp(),
        )

    async def _publish(self, item: Events) -> Receipt | Refusal:
        """Append events for somebody who has no connection."""
        answer = self._append(item)
        if (stream := self._full(item.channel)) is not None:
            await self._fan_out(stream)
        return answer

    async def _work_for_host(self, message: HostEvents) -> None:
        for item in message.items:
            if isinstance(item, SendTo):
                self._send_to(item)
            else:
                answer = await self._publish(item)
                if isinstance(answer, Refusal):
                    log.error("events of the host program lost", events=len(item.events), reason=answer.message)

    def _change(self, session: Session, item: Change) -> bytes | None:
        """Do what one message asks of the session. Returns the reply, to be sent in the same step, if there is one."""
        state = self._state
        now = state.clock.timestamp()
        match item:
            case SubscribeTo():
                return self._subscribe(session, item, now)
            case Unsubscribe():
                removed = state.unsubscribe(session, item.channels)
                if removed:
                    state.announce("client.unsubscribed", session, channels=removed)
                return reply("unsubscribed", item.id, channels=removed, timestamp=now)
            case GetSubscriptions():
                return reply("subscriptions", item.id, channels=sorted(session.subscriptions), timestamp=now)
            case GetReconnectionToken():
                return fresh_token(state, session, item, now)
            case SignIn():
                return sign_in(state, session, item, now)
            case History():
                return history(state, item)
            case Resume():
                if session.resume_by is None:
                    text = "resume must be the first message of a connection that was opened with resume=1"
                    return Refusal(ErrorCode.INVALID_MESSAGE, text, id=item.id).frame()
                resume(state, session, item, now)
                state.sessions.go_on(session)
                return None
            case _:
                assert_never(item)

    def _subscribe(self, session: Session, item: SubscribeTo, now: str) -> bytes:
        state = self._state
        fresh = [name for name in item.channels if name not in session.subscriptions]
        limit = state.config.max_subscriptions
        if len(session.subscriptions) + len(fresh) > limit:
            message = f"a connection may have {limit} subscriptions; it has {len(session.subscriptions)}"
            return Refusal(ErrorCode.TOO_MANY_SUBSCRIPTIONS, message, id=item.id).frame()
        # The configuration may have changed since the message was judged, and families' channels are made here.
        denied = {name: reason for name in fresh if (reason := _refuse_subscription(state, session, name)) is not None}
        fresh = [name for name in fresh if name not in denied]
        channels = [name for name in item.channels if name not in denied]
        past = past_of(state, item, fresh)
        for name in channels:
            self._enter(session, name, item, past.get(name))
        positions = state.positions(session, channels)
        fields: dict[str, Any] = {"channels": channels, "timestamp": now, "positions": positions}
        if past:
            positions |= {name: Position(state.epoch, each.start) for name, each in past.items()}
            fields["recovered"] = {name: each.complete for name, each in past.items()}
        if fresh:
            state.announce("client.subscribed", session, channels=fresh)
        return reply("subscribed", item.id, **fields, **denied_fields({**item.denied, **denied}))

    def _enter(self, session: Session, channel: str, item: SubscribeTo, past: Missed | None) -> None:
        """Make a subscription, or have one ask for something else from its channel's next event on."""
        state = self._state
        position = state.streams[channel].flushed_seq
        subscription = session.subscriptions.get(channel)
        if subscription is None:
            subscription = Subscription(channel, session.outlet, position)
        subscription.set_options(item.filter, item.policy, item.key, position)
        state.subscribe(session, subscription)
        if past is not None:
            send_past(state, session, subscription, past)

    # Coming and going

    def _expire(self, now: float) -> None:
        state = self._state
        for session in state.sessions.expired(now):
            state.end(session)
        for session in tuple(state.sessions.holding):
            if session.resume_by is not None and session.resume_by <= now:
                state.sessions.go_on(session)
        state.forget_keys()
        state.streams.expire(state.clock.unix_ms())
        state.drop_idle_channels()

    def _say_goodbye(self) -> int:
        """Put the last message into every outbox, each client with a slot of its own to come back in."""
        state = self._state
        state.going_down.set()
        lanes = [session.lane for session in state.sessions if session.lane is not None]
        spread_ms = state.config.reconnect_spread_s * 1000
        for slot, lane in enumerate(lanes):
            after = int(250 + spread_ms * slot / len(lanes))
            lane.finish(reply("goodbye", reason="shutdown", reconnect_after_ms=after))
        return len(lanes)

    # Events

    def _send_to(self, message: SendTo) -> int:
        """Send an event that nobody subscribes to, under the same bounds as any other. Returns to how many."""
        state = self._state
        channel = "personal"
        if message.client_id is not None:
            one = state.sessions.by_client(message.client_id)
            targets = [] if one is None else [one]
        elif message.user_id is not None:
            targets = list(state.sessions.by_user(message.user_id))
        else:
            targets, channel = list(state.sessions), "global"
        event = {
            "channel": channel,
            "timestamp": state.clock.timestamp(),
            "event_type": message.event_type,
            "data": msgspec.Raw(message.data),
        }
        frame = text_frame(encode(event))
        batch = Batch(frame, (len(frame),), None, state.epoch)
        state.counters.matched += len(targets)
        for session in targets:
            session.outlet.offer(session.queue(channel), batch)
        return len(targets)

    async def _flush(self) -> None:
        """Fan out what has been appended."""
        touched = self._state.touched
        while touched:
            await self._fan_out(touched.popitem()[1])

    def _full(self, channel: str) -> Stream | None:
        """A channel's stream, if it has enough for a fan-out."""
        stream = self._state.touched.get(channel)
        return stream if stream is not None and stream.pending_bytes >= FULL_BATCH_BYTES else None

    async def _fan_out(self, stream: Stream) -> None:
        state = self._state
        fan_out = state.fan_out = FanOut(stream)
        batch = stream.flush(state.epoch)
        if batch is not None:
            # Nobody else changes the table, so it may be walked over a checkpoint.
            candidates: list[Candidate] = []
            for group in state.subscriptions.groups(stream.name):
                if group.filter is not None and not candidates:
                    candidates = [batch.candidate(index) for index in range(len(batch))]
                selected = group.select(batch, candidates)
                if selected is not None:
                    fan_out.add(group, selected)
                if group.filter is not None:
                    await self._yield_if_due()
            state.counters.matched += fan_out.begin()
            until_look = _READERS_BETWEEN_LOOKS
            for selected, left in fan_out.walk():
                for reader in left:
                    reader.outlet.offer(reader.queue, selected)
                    until_look -= 1
                    if not until_look:
                        until_look = _READERS_BETWEEN_LOOKS
                        fan_out.paused = True
                        await self._yield_if_due()
                        fan_out.paused = False
        state.fan_out = None

    async def _yield_if_due(self) -> None:
        if trio.current_time() >= self._yield_at:
            await trio.lowlevel.checkpoint()
            self._yield_at = trio.current_time() + YIELD_AFTER_S


def _says_where_to_go_on(letter: Letter) -> bool:
    return bool(letter.items) and isinstance(letter.items[0], Resume)


def _no_stream(state: RouterState, item: Events) -> Refusal:
    if state.channels.find(item.channel) is None:  # it was there when the message was judged
        text = f"Unknown channel: {item.channel}"
    else:
        text = f"no room for channel {item.channel}: max_channels, {state.config.max_channels}, are in use"
    return Refusal(ErrorCode.UNKNOWN_CHANNEL, text, id=item.id)


def _refuse_subscription(state: RouterState, session: Session, channel: str) -> ErrorCode | None:
    if not session.grants.may_subscribe(channel):
        known = state.channels.find(channel) is not None
        return ErrorCode.PERMISSION_DENIED if known else ErrorCode.UNKNOWN_CHANNEL
    return ErrorCode.UNKNOWN_CHANNEL if state.streams.open(channel) is None else None
