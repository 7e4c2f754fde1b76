"""The client's state machine, without I/O: it takes bytes, calls and the time, and says what to send and to deliver.

It has no clock, no task and no socket. Whoever drives it calls `start` and `begin`, then `receive` and `receive_eof`
with what the socket gives, until the connection is `over`, and then `ended`; `to_send` after each of these and when
`on_output` was called; `tick` when `deadline` has come, which may have changed when `on_change` was called; and `start`
again at `retry_at`. Events and gaps gather in `inbox`, in order; what callbacks are told gathers in `notices`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from neurograph_ws_client.codes import CloseCode, Reconnect, reconnect_after
from neurograph_ws_client.errors import (
    ClosedError,
    ConnectError,
    ConnectionLostError,
    NeurographError,
    NotConnectedError,
    ProtocolError,
)
from neurograph_ws_client.events import State
from neurograph_ws_client.inbox import Inbox
from neurograph_ws_client.liveness import Liveness, Sign
from neurograph_ws_client.log import log
from neurograph_ws_client.messages import Connected, encode
from neurograph_ws_client.notices import Notices
from neurograph_ws_client.publishing import PublishQueue, too_large
from neurograph_ws_client.receiving import Receiver
from neurograph_ws_client.requests import Asked, Reply, Requests
from neurograph_ws_client.returning import Returning
from neurograph_ws_client.settings import Settings
from neurograph_ws_client.subscriptions import Subscriptions
from neurograph_ws_client.wire import Address, Close, Wire

#: About so many bytes go out at once, so that replies and heartbeats come between.
_SEND_BYTES: Final = 1 << 16


class Core:
    """The state machine of one client.

    Args:
        address: Where the router is.
        settings: How to behave.
        random: Gives a number from 0 to 1, for the backoff.
    """

    def __init__(self, address: Address, settings: Settings, random: Callable[[], float]) -> None:
        self._address = address
        self._settings = settings
        self._wire: Wire | None = None
        self._numbers = 0

        self.state = State.IDLE
        #: Why it is closed, once it is; None: by `disconnect`.
        self.final: ClosedError | ConnectError | None = None
        #: When to `begin` again, while waiting.
        self.retry_at = 0.0
        self.inbox = Inbox(settings.queue_events, settings.queue_bytes)
        #: What callbacks are to be told.
        self.notices = Notices(lambda: self.on_change())
        #: There is something to send.
        self.on_output: Callable[[], None] = lambda: None
        #: Something else may have changed.
        self.on_change: Callable[[], None] = lambda: None

        self.subscriptions = Subscriptions()
        self.publishes = PublishQueue(settings.publish_queue, settings.publish_queue_bytes, self.notices.error)
        self.requests = Requests(settings.request_timeout_s)
        self._receiver = Receiver(self, keep_text=settings.keep_text)

        #: What the server said of itself last.
        self.connected: Connected | None = None
        self.connected_at: str | None = None
        self.reconnects = 0
        self.token: str | None = None
        #: The token ends soon, and a fresh one is to be asked for.
        self.wants_token = False
        self.returning = Returning(settings, random)
        self._opened_at = 0.0
        self._liveness = Liveness(0.0, 0.0)
        self._close_by: float | None = None
        self._closed_because = ""

    # Connecting

    def start(self) -> None:
        """An attempt to connect begins: the token is asked for."""
        self.state = State.CONNECTING

    def begin(self, token: str | None, now: float) -> None:
        """The token is there: the handshake is to be sent.

        Args:
            token: The JWT to come with.
            now: The time, as everywhere in seconds of a clock that never goes back.

        Raises:
            NeurographError: The last token was refused and this is the same; the client is closed.
        """
        refusal = self.returning.refusal(token)
        if refusal is not None:
            self._give_up(refusal)
            raise refusal
        self.token = token
        self._wire = Wire(self._address.resuming(self._session()), token)
        log.debug("connecting to %s", self._address.shown)

    def _session(self) -> str | None:
        """The token of the session to resume, if that can be said in one message."""
        server, size = self.connected, len(encode(self.subscriptions.received())) + 64
        return server.reconnection_token if server is not None and size < server.max_message_bytes else None

    def failed(self, error: ConnectError, now: float) -> None:
        """The attempt has failed: wait for the next one, or give up."""
        if self.state is not State.CONNECTING:
            return  # closed meanwhile
        self._wire = None
        last = self.returning.failed(error, self.token, self.connected)
        if last is not None:
            self._give_up(last)
        else:
            self._wait(self.returning.delay_after_failure(), now, error)

    def stop_connecting(self) -> None:
        """The attempt has failed, and was the only one: be as if it had not been made."""
        if self.state is State.CONNECTING:
            self._wire = None
            self.state = State.IDLE

    def open(self, message: Connected, info: dict[str, Any], now: float) -> None:
        """The server has said `connected`."""
        self.reconnects += self.connected is not None
        self.connected = message
        self.connected_at = info.get("timestamp")
        self.state = State.OPEN
        self.returning.opened()
        self._opened_at = now
        self._liveness = Liveness(message.heartbeat_s, now)
        log.debug("connected as %s (%s), resumed: %s", message.client_id, message.role, message.reconnected)
        self.notices.add("connected", {k: v for k, v in info.items() if k != "reconnection_token"})
        self.publishes.connected(message.epoch, now)

    # The connection

    def receive(self, data: bytes, now: float) -> None:
        """Take what came from the socket.

        Raises:
            ConnectError: The server refuses the connection, before `connected`.
        """
        wire = self._wire
        assert wire is not None
        self._liveness.heard(now)
        texts = wire.receive(data)
        if texts:
            try:
                self._receiver.take(texts, len(data), now)
            except ProtocolError as error:
                if self.state is State.OPEN:
                    self.notices.error(error)
                wire.fail(CloseCode.PROTOCOL_ERROR, str(error))
        self._refuse_if_early()

    def receive_eof(self) -> None:
        """The socket has ended.

        Raises:
            ConnectError: Before `connected`.
        """
        assert self._wire is not None
        self._wire.receive_eof()
        self._refuse_if_early()

    def abandon(self, reason: str) -> None:
        """End the connection without a word, and come back."""
        assert self._wire is not None
        self._wire.abandon(reason)
        self.on_change()

    def _refuse_if_early(self) -> None:
        assert self._wire is not None
        close = self._wire.ended
        if close is not None and self.state is State.CONNECTING:
            again = close.ours or reconnect_after(close.code) is not Reconnect.NO
            raise ConnectError(close.reason or "the server closed the connection", code=close.code, retry=again)

    @property
    def has_output(self) -> bool:
        """There is something to send that `on_output` was not called for."""
        return self._wire is not None and self._wire.has_output

    @property
    def over(self) -> bool:
        """The connection has ended: send what is left, close the socket, and say so by `ended`."""
        return self._wire is not None and self._wire.ended is not None

    def ended(self, now: float) -> None:
        """The socket is closed: wait for the next attempt, or stay closed."""
        wire, self._wire = self._wire, None
        close = (wire and wire.ended) or Close(CloseCode.ABNORMAL, "the connection was cut")
        why = f"{close.reason or 'no reason given'} ({close.code})"
        self.requests.fail_all(lambda one: ConnectionLostError(f"{one.kind}: connection lost before the reply: {why}"))
        self.publishes.lost()
        self.wants_token = False
        self._close_by = None
        if self.state is State.CLOSED:  # by `close`, which waited for this
            self._tell_disconnected(CloseCode.NORMAL, "disconnected", final=True)
            self._close_for_good(None)
            return
        last = self.returning.lost(close, self.token)
        if last is not None:
            self._give_up(last)
            return
        self._tell_disconnected(close.code, close.reason, final=False)
        delay_s = self.returning.delay_after_loss(now - self._opened_at)
        self._wait(delay_s, now, ConnectionLostError(f"connection lost: {why}"))

    def _tell_disconnected(self, code: int, reason: str, *, final: bool) -> None:
        log.debug("%s: %s (%d)", "closed for good" if final else "disconnected", reason or "no reason given", code)
        self.notices.add("disconnected", {"code": int(code), "reason": reason, "reconnect": not final})

    def _wait(self, delay_s: float, now: float, error: NeurographError) -> None:
        self.state = State.WAITING
        self.retry_at = now + delay_s
        log.debug("%s; another attempt in %.1f s", error, delay_s)
        self.notices.add("reconnecting", {"attempt": self.returning.attempts + 1, "delay": delay_s, "error": error})
        self.on_change()

    # The end

    def close(self, now: float, reason: str = "disconnect() was called") -> None:
        """Close for good: what waits to be published still goes out, then the close; bounded in time."""
        if self.state is State.CLOSED:
            return
        self._closed_because = reason
        wire = self._wire if self.state is State.OPEN else None
        if wire is not None:
            while wire.open and self._flush(now):
                pass
            wire.close()
            self._close_by = now + self._settings.close_timeout_s
        self.state = State.CLOSED
        self.inbox.clear()
        if wire is None:
            self._wire = None
            self._close_for_good(None)
        self.on_change()

    @property
    def closing(self) -> bool:
        """A connection is there, whose close is to be sent or answered."""
        return self._close_by is not None

    def _give_up(self, error: ClosedError | ConnectError) -> None:
        """Close for good, though nobody asked for it."""
        self._tell_disconnected(error.code or CloseCode.ABNORMAL, error.reason, final=True)
        self.notices.error(error)
        self._close_for_good(error)

    def _close_for_good(self, error: ClosedError | ConnectError | None) -> None:
        self.state = State.CLOSED
        self.final = error
        self.publishes.close(self.closed_error)
        self.requests.fail_all(lambda _: self.closed_error())
        self.on_change()

    def closed_error(self) -> ClosedError:
        """Why nothing goes any more."""
        if isinstance(self.final, ClosedError):
            return self.final
        if self.final is None:
            return ClosedError(CloseCode.NORMAL, self._closed_because)
        return ClosedError(self.final.code or CloseCode.ABNORMAL, str(self.final))

    # What goes out

    def to_send(self, now: float) -> bytes:
        """What is to be sent now; call again until it is empty."""
        if self._wire is None:
            return b""
        if self.state is State.OPEN and self._wire.open:
            self._flush(now)
        return self._wire.take()

    def _flush(self, now: float) -> bool:
        """Say what waits to be said; about `_SEND_BYTES` of publishes. Returns whether there were any."""
        assert self._wire is not None
        assert self.connected is not None
        limit = self.connected.max_message_bytes
        for kind, ask in self.subscriptions.take(now, limit):
            if (size := len(encode(ask.message)) + 32) > limit:
                self.notices.error(too_large(f"{kind} {', '.join(ask.channels)}", size, limit))
                self.subscriptions.refused(ask, None)
            else:
                self._ask(ask.message, Asked(kind, now, ask.channels, Reply(), ask))
        for text in (texts := self.publishes.take(now, self.connected.epoch, limit, _SEND_BYTES)):
            self._wire.send(text)
        return bool(texts)

    def request(self, kind: str, message: Mapping[str, Any], now: float, channel: str | None = None) -> Reply[Any]:
        """Ask something now.

        Raises:
            ClosedError: The client is closed.
            NotConnectedError: There is no connection.
            MessageTooLargeError: The server would not read it.
        """
        if self.state is State.CLOSED:
            raise self.closed_error()
        if self.state is not State.OPEN or self._wire is None or not self._wire.open or self.connected is None:
            raise NotConnectedError(f"{kind}: there is no connection now (state {self.state}); wait for `connected`")
        size = len(encode(message)) + 32
        if size > self.connected.max_message_bytes:
            raise too_large(kind, size, self.connected.max_message_bytes)
        self._flush(now)  # what was called before goes out before
        reply: Reply[Any] = Reply()
        self._ask(message, Asked(kind, now, () if channel is None else (channel,), reply, message))
        self.on_output()
        self.on_change()
        return reply

    def _ask(self, message: Mapping[str, Any], asked: Asked) -> None:
        number = self.number()
        self.say({**message, "id": number})
        self.requests.add(number, asked)

    def say(self, message: Mapping[str, Any]) -> None:
        """Send a message on the connection that is open."""
        assert self._wire is not None
        if self._wire.open:
            self._wire.send(encode(message))

    def resume(self, channels: list[str], now: float) -> None:
        """Say where to go on, which must be the first message of a connection."""
        message = {"type": "resume", "positions": self.subscriptions.received(channels)}
        self._ask(message, Asked("resume", now, tuple(channels), Reply()))

    def number(self) -> int:
        """The next `id`."""
        self._numbers += 1
        return self._numbers

    # Time

    def may_read(self, now: float) -> bool:
        """Whether to read the socket: not while too much waits for the handlers.

        While a reply is waited for, which a handler itself may do, up to twice as much may wait.
        """
        waits = bool(len(self.requests) or self.publishes.unanswered)
        reading = self.inbox.has_room(2 if waits else 1) or self.state is State.CLOSED
        if reading != self._liveness.reading:
            self._liveness.set_reading(reading, now)
            self.requests.put_off("resume", now)
            self.on_change()
        return reading

    def deadline(self, now: float) -> float | None:
        """When to `tick` next."""
        if self.over:
            return None
        if self._close_by is not None:
            return self._close_by
        if self.state is not State.OPEN:
            return self.publishes.deadline(now)
        times = (self.requests.deadline(), self.publishes.deadline(now), self._liveness.deadline())
        return min(time for time in (*times, self.subscriptions.deadline(now)) if time is not None)

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self._close_by is not None and now >= self._close_by:
            self.abandon("the server did not answer the close in time")
        if not self._liveness.reading:
            self.requests.put_off("resume", now)  # its answer is behind what waits in the socket
        self._receiver.missed(self.requests.expire(now))
        self.publishes.expire(now)
        if self.state is State.OPEN and self._wire is not None:
            sign = self._liveness.check(now)
            if sign is Sign.PONG:
                self._wire.pong()
            elif sign is Sign.DEAD:
                self.abandon(f"the server was silent for {self._liveness.silence_s:g} s")
        self.on_output()
