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
from router.attachment import attach, end_session, sign_in
from router.engine.memory import FULL_BATCH_BYTES, Stream
from router.errors import ErrorCode
from router.frames import text_frame
from router.letters import Attach, Depart, Drain, Emit, Events, Letter, Message, SendTo, SignIn, SubscribeTo
from router.outbox import Batch
from router.protocol import (
    GetReconnectionToken,
    GetSubscriptions,
    Refusal,
    Unsubscribe,
    denied_fields,
    encode,
    reply,
)
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


class Hub:
    """The router actor. Its state is a `RouterState`, which outlives it."""

    def __init__(self, state: RouterState) -> None:
        self._state = state
        self._touched: dict[str, Stream] = {}
        self._yield_at = 0.0

    async def run(self, mailbox: Mailbox[Message], *, task_status: trio.TaskStatus[None]) -> None:
        """Work until the mailbox ends."""
        self._recover()
        task_status.started()
        await self._flush()
        async for message in mailbox:
            self._yield_at = trio.current_time() + YIELD_AFTER_S
            await self._handle(message)
            for _ in range(_LETTERS_AT_ONCE):
                try:
                    message = mailbox.receive_nowait()
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
                await self._handle(message)
            await self._flush()

    def _recover(self) -> None:
        """Go on after a crash: answer for the lost letter, and see whether the state can be trusted."""
        state = self._state
        lost, state.in_hand = state.in_hand, None
        if lost is None:
            return
        if state.fanning_out or not state.is_sound():
            log.error("state unsound after a crash, beginning a new epoch", old_epoch=state.epoch)
            state.begin_epoch()
        if isinstance(lost.message, Letter):
            for item in lost.message.items[lost.index :]:
                if isinstance(item, bytes):
                    lost.message.lane.send_control(item)
                elif item.id is not msgspec.UNSET:
                    refusal = Refusal(ErrorCode.INTERNAL, "the router failed on this message", id=item.id)
                    lost.message.lane.send_control(refusal.frame())
        self._touched = dict(state.streams)

    async def _handle(self, message: Message) -> None:
        hand = self._state.in_hand = InHand(message)
        match message:
            case Letter():
                await self._work(message, hand)
            case Emit():
                self._append(message)
            case SendTo():
                self._send_to(message)
            case Attach():
                await self._flush()
                self._announce_all(attach(self._state, message))
            case Depart():
                self._depart(message)
            case Drain():
                await self._flush()
                message.reply.send(self._say_goodbye())
            case "tick":
                self._tick()
            case _:
                assert_never(message)
        self._state.in_hand = None

    # One letter

    async def _work(self, letter: Letter, hand: InHand) -> None:
        if letter.session.previous_token is not None:
            self._state.sessions.confirm_token(letter.session)
        for index, item in enumerate(letter.items):
            hand.index = index
            if isinstance(item, Events):
                stream = self._publish(letter, item)
                if stream.pending_bytes >= FULL_BATCH_BYTES:
                    await self._fan_out(stream)
            elif isinstance(item, bytes):
                letter.lane.send_control(item)
            elif not letter.session.ended:
                await self._flush()
                self._change(letter, item)

    def _publish(self, letter: Letter, item: Events) -> Stream:
        stream = self._stamped(item.channel)
        first = stream.seq + 1
        stream.append(item.events)
        self._state.counters.events += len(item.events)
        if item.id is not msgspec.UNSET:
            letter.lane.send_control(
                reply(
                    "published",
                    item.id,
                    channel=item.channel,
                    seq=(first, stream.seq),
                    subscribers=len(self._state.subscriptions.readers(item.channel)),
                    timestamp=self._state.clock.timestamp(),
                )
            )
        return stream

    def _change(
        self, letter: Letter, item: SubscribeTo | Unsubscribe | GetSubscriptions | GetReconnectionToken | SignIn
    ) -> None:
        """One message that reads or changes the session; its reply goes out in the same step."""
        session, state = letter.session, self._state
        now = state.clock.timestamp()
        match item:
            case SubscribeTo():
                frame = self._subscribe(session, item, now)
            case Unsubscribe():
                removed = self._unsubscribe(session, item.channels)
                frame = reply("unsubscribed", item.id, channels=removed, timestamp=now)
            case GetSubscriptions():
                frame = reply("subscriptions", item.id, channels=sorted(session.subscriptions), timestamp=now)
            case GetReconnectionToken():
                state.sessions.renew_token(session)
                ttl = int(state.config.session_ttl_s)
                frame = reply("reconnection_token", item.id, token=session.token, expires_in=ttl, timestamp=now)
            case SignIn():
                frame = sign_in(state, session, item, now)
            case _:
                assert_never(item)
        letter.lane.send_control(frame)
        if isinstance(item, SignIn):
            self._revoke(session, letter, now)

    def _subscribe(self, session: Session, item: SubscribeTo, now: str) -> bytes:
        state = self._state
        fresh = [name for name in item.channels if name not in session.subscriptions]
        limit = state.config.max_subscriptions
        if len(session.subscriptions) + len(fresh) > limit:
            message = f"a connection may have {limit} subscriptions; it has {len(session.subscriptions)}"
            return Refusal(ErrorCode.TOO_MANY_SUBSCRIPTIONS, message, id=item.id).frame()
        for name in fresh:
            subscription = Subscription(name, session.outlet)
            session.subscriptions[name] = subscription
            state.subscriptions.add(subscription)
        positions = state.positions({name: state.streams[name].seq for name in item.channels})
        fields: dict[str, Any] = {"channels": item.channels, "timestamp": now, "positions": positions}
        fields |= denied_fields(item.denied)
        if fresh:
            self._announce("client.subscribed", session, channels=fresh)
        return reply("subscribed", item.id, **fields)

    def _unsubscribe(self, session: Session, channels: list[str]) -> list[str]:
        removed = sorted({name for name in channels if name in session.subscriptions})
        for name in removed:
            subscription = session.subscriptions.pop(name)
            self._state.subscriptions.remove(subscription)
            session.outbox.discard(subscription.queue)
        if removed:
            self._announce("client.unsubscribed", session, channels=removed)
        return removed

    def _revoke(self, session: Session, letter: Letter, now: str) -> None:
        """End the subscriptions that new claims no longer allow."""
        lost = [name for name in session.subscriptions if name not in session.grants.subscribe]
        if lost:
            removed = self._unsubscribe(session, lost)
            letter.lane.send_control(
                reply("unsubscribed", channels=removed, reason=ErrorCode.PERMISSION_DENIED, timestamp=now)
            )

    # Coming and going

    def _depart(self, message: Depart) -> None:
        session = message.session
        if session.lane is not message.lane:
            return  # taken over by another connection, or departed before
        fields: dict[str, Any] = {"code": message.code, "reason": message.reason or None}
        if message.code == 1000 or 4500 <= message.code <= 4999:
            end_session(self._state, session)
        else:
            surplus = self._state.sessions.detach(session, trio.current_time())
            if surplus is not None:
                end_session(self._state, surplus)
        self._announce("client.disconnected", session, **fields)

    def _tick(self) -> None:
        state = self._state
        for session in state.sessions.expired(trio.current_time()):
            end_session(state, session)
        while state.departures:
            self._depart(state.departures.popleft())

    def _say_goodbye(self) -> int:
        """Put the last message into every outbox, each client with a slot of its own to come back in."""
        state = self._state
        state.draining = True
        lanes = [session.lane for session in state.sessions if session.lane is not None]
        spread_ms = state.config.reconnect_spread_s * 1000
        for slot, lane in enumerate(lanes):
            after = int(250 + spread_ms * slot / len(lanes))
            lane.finish(reply("goodbye", reason="shutdown", reconnect_after_ms=after))
        return len(lanes)

    # Events

    def _announce_all(self, announcements: list[tuple[str, Session, dict[str, Any]]]) -> None:
        for event_type, session, fields in announcements:
            self._announce(event_type, session, **fields)

    def _announce(self, event_type: str, session: Session, **fields: object) -> None:
        """Tell the `connections` channel about a client."""
        data = {
            "client_id": session.client_id,
            "user_id": session.identity.user_id,
            "total_connections": self._state.sessions.connected,
        }
        self._append(Emit("connections", event_type, encode(data | fields)))

    def _append(self, event: Emit) -> None:
        self._stamped(event.channel).append((event,))
        self._state.counters.events += 1

    def _stamped(self, channel: str) -> Stream:
        state = self._state
        stream = self._touched[channel] = state.streams[channel]
        stream.stamp(state.clock.unix_ms(), state.clock)
        return stream

    def _send_to(self, message: SendTo) -> None:
        """Send an event that nobody subscribes to, under the same bounds as any other."""
        sessions = self._state.sessions
        channel = "personal"
        if message.client_id is not None:
            one = sessions.by_client(message.client_id)
            targets = [] if one is None else [one]
        elif message.user_id is not None:
            targets = list(sessions.by_user(message.user_id))
        else:
            targets, channel = list(sessions), "global"
        event = {
            "channel": channel,
            "timestamp": self._state.clock.timestamp(),
            "event_type": message.event_type,
            "data": msgspec.Raw(message.data),
        }
        frame = text_frame(encode(event))
        batch = Batch(frame, (len(frame),), None, self._state.epoch)
        for session in targets:
            session.outlet.offer(session.queue(channel), batch)

    async def _flush(self) -> None:
        """Fan out what has been appended."""
        while self._touched:
            _, stream = self._touched.popitem()
            await self._fan_out(stream)

    async def _fan_out(self, stream: Stream) -> None:
        state = self._state
        batch = stream.flush(state.epoch)
        if batch is None:
            return
        # Nobody else changes the table, so it may be walked over a checkpoint.
        readers = state.subscriptions.readers(stream.spec.name)
        state.counters.matched += len(batch) * len(readers)
        state.fanning_out = True
        until_look = _READERS_BETWEEN_LOOKS
        for reader in readers:
            reader.outlet.offer(reader.queue, batch)
            until_look -= 1
            if not until_look:
                until_look = _READERS_BETWEEN_LOOKS
                await self._yield_if_due()
        state.fanning_out = False

    async def _yield_if_due(self) -> None:
        if trio.current_time() >= self._yield_at:
            await trio.lowlevel.checkpoint()
            self._yield_at = trio.current_time() + YIELD_AFTER_S
