"""The router actor: it alone numbers events, changes the subscription table and puts things into outboxes.

It works through its mailbox letter by letter, each from front to end, and itself sends the replies, in the same
sync step as the change that they report. Events are fanned out once the mailbox is empty or a batch is full: what
arrives while it is busy is the next batch, so batches form by themselves and nothing waits when there is no load.
"""

from __future__ import annotations

from typing import assert_never

import msgspec
import structlog
import trio

from actors import Mailbox
from router.errors import ErrorCode
from router.hub.administration import disconnect, reconfigure, revoke, withdraw
from router.hub.attachment import attach, depart, fresh_token, sign_in
from router.hub.crash import begin_epoch, is_sound
from router.hub.distributing import Distributor
from router.hub.history_reply import history
from router.hub.publishing import answered, append, send_to
from router.hub.replays import resume
from router.hub.state import InHand, RouterState
from router.hub.subscribing import subscribe
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
    Refusal,
    Resume,
    Unsubscribe,
    reply,
)
from router.sessions import Session

log = structlog.get_logger("router.hub")

#: Letters taken before events are fanned out, however many more there are.
_LETTERS_AT_ONCE = 64
#: How often the hub looks for sessions whose time is over, by its own clock: a full mailbox refuses a `tick`.
_EXPIRE_EVERY_S = 0.5


class Hub:
    """The router actor. Its state is a `RouterState`, which outlives it."""

    def __init__(self, state: RouterState) -> None:
        self._state = state
        self._out = Distributor(state)
        self._expire_at = 0.0

    async def run(self, mailbox: Mailbox[Message], *, task_status: trio.TaskStatus[None]) -> None:
        """Work until the mailbox ends."""
        self._recover()
        task_status.started()
        await self._out.flush()
        async for message in mailbox:
            now = trio.current_time()
            self._out.begin_turn(now)
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
            await self._out.flush()

    def _recover(self) -> None:
        """Go on after a crash: see whether the state can be trusted, and answer for the lost message."""
        state = self._state
        lost, state.in_hand = state.in_hand, None
        if not is_sound(state):
            log.error("state unsound after a crash, beginning a new epoch", old_epoch=state.epoch)
            begin_epoch(state)
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
            case Depart() as departure:
                depart(state, departure, trio.current_time())  # nobody else would let its session go
            case _:
                pass  # an asker has been told, and has what it was given so far
        _say_done(lost.message)

    async def _handle(self, message: Message) -> None:
        state = self._state
        hand = state.in_hand = InHand(message)
        match message:
            case Letter():
                await self._work(message, hand)
            case Emit():
                state.emit(message)
            case SendTo():
                send_to(state, message)
            case HostEvents():
                await self._work_for_host(message)
            case Broadcast() | SendToCall() if state.draining:
                message.reply.abandon()  # all have had their last message
                _say_done(message)
            case Broadcast():
                message.reply.send([await self._publish(item) for item in message.items])
                await self._end(message)
            case SendToCall():
                message.reply.send(send_to(state, message.message))
            case Disconnect():
                message.reply.send(disconnect(state, message.client_id))
            case Revoke():
                message.reply.send(revoke(state, message))
            case Reconfigure():
                await self._out.flush()
                message.reply.send(reconfigure(state, message))
            case Attach():
                now = trio.current_time()
                self._expire(now)
                attach(state, message, now)
            case Depart():
                depart(state, message, trio.current_time())
            case Drain():
                await self._out.flush()
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
                receipt = append(self._state, item)
                if item.id is not msgspec.UNSET or isinstance(receipt, Refusal):
                    lane.send_control(answered(self._state, item, receipt))
                hand.done += 1
                if (stream := self._out.full(item.channel)) is not None:
                    await self._out.fan_out(stream)
            elif isinstance(item, bytes):
                lane.send_control(item)
                hand.done += 1
            elif session.lane is lane:
                await self._out.flush()
                answer = self._change(session, item)
                if answer is not None:
                    lane.send_control(answer)
                hand.done += 1
                if isinstance(item, SignIn):
                    withdraw(self._state, session)
            else:
                hand.done += 1  # the session has left this connection, where nobody waits for a reply
        await self._end(letter)

    async def _end(self, message: Letter | Broadcast) -> None:
        """Fan out what a message has published, if its sender waits for that."""
        if message.done is not None:
            await self._out.flush()
            message.done.set()

    async def _publish(self, item: Events) -> Receipt | Refusal:
        """Append events for somebody who has no connection."""
        answer = append(self._state, item)
        if (stream := self._out.full(item.channel)) is not None:
            await self._out.fan_out(stream)
        return answer

    async def _work_for_host(self, message: HostEvents) -> None:
        for item in message.items:
            if isinstance(item, SendTo):
                send_to(self._state, item)
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
                return subscribe(state, session, item, now)
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

    # Coming and going

    def _expire(self, now: float) -> None:
        state = self._state
        for session in state.sessions.expired(now):
            state.end(session)
        for session in tuple(state.sessions.holding):
            if session.resume_by is not None and session.resume_by <= now:
                state.sessions.go_on(session)
        state.publish_keys.expire()
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


def _say_done(message: Message) -> None:
    if isinstance(message, Letter | Broadcast) and message.done is not None:
        message.done.set()


def _says_where_to_go_on(letter: Letter) -> bool:
    return bool(letter.items) and isinstance(letter.items[0], Resume)
