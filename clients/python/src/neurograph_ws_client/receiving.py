"""What the server says, taken apart: events into the inbox, replies to those who wait, the rest into the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from neurograph_ws_client.errors import ProtocolError, RequestRefusedError, RequestTimeoutError
from neurograph_ws_client.events import Authenticated, Event, Gap, History, State, TextEvent
from neurograph_ws_client.inbox import Item, Mark
from neurograph_ws_client.messages import (
    DECODE_ERRORS,
    STREAM_KINDS,
    At,
    Connected,
    ErrorMessage,
    GapMessage,
    Goodbye,
    HistoryMessage,
    Message,
    Ping,
    Pong,
    PositionMessage,
    PublishedMessage,
    ReconnectionToken,
    Resumed,
    Subscribed,
    Subscriptions,
    TokenExpiring,
    Unsubscribed,
    decode,
    read,
)
from neurograph_ws_client.messages import Authenticated as AuthenticatedMessage
from neurograph_ws_client.requests import Asked
from neurograph_ws_client.subscriptions import DIRECT, Ask, Subscription

if TYPE_CHECKING:
    from neurograph_ws_client.core import Core
    from neurograph_ws_client.wire import Payload


#: So much is held back until `resume` is answered, at most: many times what a server replays.
MAX_HELD_BYTES: Final = 16 << 20


class Receiver:
    """Takes a connection's messages, for the core that owns it."""

    def __init__(self, core: Core, *, keep_text: bool) -> None:
        self._core = core
        self._keep_text = keep_text
        #: What goes to the inbox with the read that is being taken.
        self._items: list[Item] = []
        self._now = 0.0
        #: What this connection brings leaves out something, so it must not move positions.
        self._astray = False
        #: While `resume` is not answered: by read, what came since. If it was late, that leaves out something, too.
        self._held: list[tuple[list[Item], int]] = []
        self._held_bytes = 0
        #: While it is not answered: where the streams were.
        self._before: list[tuple[Subscription, At]] = []
        self._resuming = False

    def take(self, texts: list[Payload], size: int, now: float) -> None:
        """Take what came with one read of `size` bytes.

        Raises:
            ProtocolError: The server broke the contract where it may hide events. What came before is taken.
        """
        self._now = now
        items = self._items = list[Item]()
        try:
            self._take(texts, items)
        except DECODE_ERRORS as error:
            raise ProtocolError(f"the server sent a message that is not JSON: {error}") from None
        finally:
            if items and self._core.state is not State.CLOSED:
                if self._resuming:
                    self._hold_back(items, size)
                else:
                    self._core.inbox.put(items, size)

    def _take(self, texts: list[Payload], items: list[Item]) -> None:
        """The loop that each event passes: one decoding, one look-up, one comparison."""
        wanted = self._core.subscriptions.wanted
        append, keep_text = items.append, self._keep_text
        opened = self._core.state is not State.CONNECTING
        if opened and self._astray:
            return
        for text in texts:
            message = decode(text)
            if type(message) is not dict:
                raise ProtocolError("the server sent JSON that is not an object")
            if "type" in message:
                self._take_message(message)
                if self._astray:
                    return
                opened = opened or self._core.state is not State.CONNECTING
                continue
            channel, seq = message.get("channel"), message.get("seq")
            if type(channel) is not str or not opened:
                raise ProtocolError("the server sent a message without type or channel, or an event before `connected`")
            subscription = wanted.get(channel)
            if subscription is None:
                continue
            if seq is not None:
                if type(seq) is not int:
                    raise ProtocolError(f"the server sent an event of {channel!r} whose seq is not an integer")
                if seq <= subscription.head:
                    continue  # we have it already; or the stream is shut
                subscription.head = seq
            append((subscription, TextEvent(message, bytes(text)) if keep_text else message))

    def _take_message(self, raw: dict[str, Any]) -> None:
        try:
            message = read(raw)
        except ProtocolError as error:
            if raw["type"] in STREAM_KINDS:
                raise
            self._core.notices.error(error)
            return
        if message is None:
            return
        if self._core.state is State.CONNECTING:
            if not isinstance(message, Connected):
                raise ProtocolError(f"the server's first message is {raw['type']!r}, not 'connected'")
        elif isinstance(message, Connected):
            return  # said once for a connection
        _TAKE[type(message)](self, message, raw)

    # One for each kind

    def _connected(self, message: Connected, raw: dict[str, Any]) -> None:
        core, wanted = self._core, self._core.subscriptions.wanted
        self._astray = False
        self._go_back()  # the last connection may have ended before its `resumed`
        core.open(message, raw, self._now)
        self._moved(core.subscriptions.connected(message))
        if message.reconnected:
            core.resume(message.channels, self._now)
            self._resuming = True
            self._before = [(one, at) for one in wanted.values() if (at := one.position) is not None]
        core.notices.denied({c: message.reasons.get(c, "permission_denied") for c in message.denied if c in wanted})
        core.on_output()

    def _subscribed(self, message: Subscribed, raw: dict[str, Any]) -> None:
        core = self._core
        asked = core.requests.answered(message.id, "subscribe")
        ask = asked.about if asked is not None and isinstance(asked.about, Ask) else None
        self._moved(core.subscriptions.subscribed(message, ask))
        core.notices.denied({channel: message.reasons.get(channel, "permission_denied") for channel in message.denied})

    def _unsubscribed(self, message: Unsubscribed, raw: dict[str, Any]) -> None:
        core = self._core
        core.requests.answered(message.id, "unsubscribe")
        if message.reason is not None:
            core.subscriptions.withdrawn(message.channels)
            core.notices.denied(dict.fromkeys(message.channels, message.reason), withdrawn=True)

    def _resumed(self, message: Resumed, raw: dict[str, Any]) -> None:
        if self._core.requests.answered(message.id, "resume") is not None:
            self._release()

    def _gap(self, message: GapMessage, raw: dict[str, Any]) -> None:
        subscription = self._core.subscriptions.wanted.get(message.of)
        at = None
        if message.of not in DIRECT:
            if subscription is None or subscription.is_shut:
                return  # of a subscription that was left
            if message.to is not None:
                at = subscription.move(At(message.epoch, message.to))
            else:
                subscription.begins_anew = True
        self._items.append((None, Mark(subscription, at, cast(Gap, raw))))

    def _position(self, message: PositionMessage, raw: dict[str, Any]) -> None:
        core = self._core
        assert core.connected is not None
        for channel, at in message.positions.items():
            core.connected.epoch = at.epoch
            subscription = core.subscriptions.wanted.get(channel)
            if subscription is not None and not subscription.is_shut:
                self._items.append((None, Mark(subscription, subscription.move(at))))

    def _moved(self, positions: list[Any]) -> None:
        self._items.extend((None, Mark(subscription, at)) for subscription, at in positions)

    def _published(self, message: PublishedMessage, raw: dict[str, Any]) -> None:
        self._core.publishes.published(message)
        if self._core.publishes.waiting:
            self._core.on_output()

    def _error(self, message: ErrorMessage, raw: dict[str, Any]) -> None:
        core = self._core
        error = RequestRefusedError(
            message.code, message.message, index=message.index, retry_after=message.retry_after, epoch=message.epoch
        )
        if core.publishes.refused(message.id, error, self._now):
            core.on_change()
            return
        asked = core.requests.answered(message.id)
        if asked is None:
            core.notices.error(error)
            return
        if asked.kind == "resume":
            self._not_resumed(str(error))
        error.channel = ", ".join(asked.channels) or None
        asked.reply.fail(error)
        if isinstance(asked.about, Ask):
            wait = message.retry_after
            core.subscriptions.refused(asked.about, None if wait is None else self._now + wait)
            core.on_change()
            if wait is not None:
                return
        if not asked.reply.awaited:
            core.notices.error(error)

    def _not_resumed(self, reason: str) -> None:
        """The server goes on from its own marks, and what was on its way to us would be missing: come back."""
        self._astray = True
        self._items.clear()
        self._go_back()
        self._core.abandon(f"resume failed: {reason}")

    def _hold_back(self, items: list[Item], size: int) -> None:
        self._held.append((items, size))
        self._held_bytes += size
        if self._held_bytes > MAX_HELD_BYTES:
            self._release()

    def _release(self) -> None:
        """What came since `resume` counts."""
        for items, size in self._held:
            self._core.inbox.put(items, size)
        self._hold_no_more()

    def _go_back(self) -> None:
        """What came since `resume`, and is held, does not count."""
        for subscription, at in self._before:
            subscription.go_back(at)
        self._hold_no_more()

    def _hold_no_more(self) -> None:
        self._resuming, self._held_bytes = False, 0
        self._held, self._before = [], []

    def missed(self, late: list[Asked]) -> None:
        """No reply has come to these in time."""
        for asked in late:
            if asked.kind == "resume":
                self._not_resumed("no reply in time")
            if not asked.reply.awaited:
                self._core.notices.error(RequestTimeoutError(f"{asked.kind}: no reply in time"))

    def _pong(self, message: Pong, raw: dict[str, Any]) -> None:
        asked = self._core.requests.answered(message.id, "ping")
        if asked is not None:
            asked.reply.succeed(self._now - asked.sent_at)
        self._core.notices.add("pong", raw)

    def _ping(self, message: Ping, raw: dict[str, Any]) -> None:
        self._core.say({"type": "pong"})
        self._core.on_output()

    def _subscriptions(self, message: Subscriptions, raw: dict[str, Any]) -> None:
        asked = self._core.requests.answered(message.id, "get_subscriptions")
        if asked is not None:
            asked.reply.succeed(message.channels)

    def _authenticated(self, message: AuthenticatedMessage, raw: dict[str, Any]) -> None:
        core = self._core
        asked = core.requests.answered(message.id, "authenticate")
        core.subscriptions.signed_in()
        assert core.connected is not None
        core.connected.user_id, core.connected.role = message.user_id, message.role or core.connected.role
        if asked is not None:
            core.token = asked.about["token"]
            asked.reply.succeed(Authenticated(message.user_id, message.role, message.expires_at))
        core.on_output()

    def _reconnection_token(self, message: ReconnectionToken, raw: dict[str, Any]) -> None:
        assert self._core.connected is not None
        self._core.connected.reconnection_token = message.token

    def _history(self, message: HistoryMessage, raw: dict[str, Any]) -> None:
        asked = self._core.requests.answered(message.id, "history")
        if asked is not None:
            events = cast(list[Event], message.events)
            asked.reply.succeed(History(message.channel, message.epoch, events, message.complete, message.more))

    def _token_expiring(self, message: TokenExpiring, raw: dict[str, Any]) -> None:
        self._core.wants_token = True
        self._core.notices.add("token_expiring", raw)

    def _goodbye(self, message: Goodbye, raw: dict[str, Any]) -> None:
        if message.reconnect_after_ms is not None:
            self._core.returning.after_s = max(0.0, message.reconnect_after_ms / 1000)
        self._core.notices.add("goodbye", raw)


_Take = Callable[[Receiver, Any, dict[str, Any]], None]
_TAKE: Final[dict[type[Message], _Take]] = {
    Connected: Receiver._connected, Subscribed: Receiver._subscribed, Unsubscribed: Receiver._unsubscribed,
    Resumed: Receiver._resumed, GapMessage: Receiver._gap, PositionMessage: Receiver._position,
    PublishedMessage: Receiver._published, ErrorMessage: Receiver._error, Pong: Receiver._pong, Ping: Receiver._ping,
    Subscriptions: Receiver._subscriptions, AuthenticatedMessage: Receiver._authenticated,
    ReconnectionToken: Receiver._reconnection_token, HistoryMessage: Receiver._history,
    TokenExpiring: Receiver._token_expiring, Goodbye: Receiver._goodbye,
}  # fmt: skip
