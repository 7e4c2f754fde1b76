"""One connection of a client, from the handshake to the close."""

from __future__ import annotations

import enum
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import trio
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI
from websockets.trio.client import ClientConnection
from websockets.trio.client import connect as open_websocket

from router.errors import CloseCode, RouterError
from router.nursery import bare_nursery
from router.talk.said import Connected, Goodbye, Message, read
from router.talk.target import CLOSE_S, OPEN_S, Target

#: How long an answer to our `ping` is waited for when the server has been silent.
ANSWER_S: Final = 15.0
_ABNORMAL: Final = 1006
_RETURN_AT: Final = (
    CloseCode.GOING_AWAY, _ABNORMAL, CloseCode.INTERNAL_ERROR, CloseCode.SERVICE_RESTART, CloseCode.TRY_AGAIN_LATER,
)  # fmt: skip

_encode = msgspec.json.Encoder().encode


class Return(enum.Enum):
    """Whether to connect again."""

    YES = "yes"
    WITH_FRESH_TOKEN = "with a fresh token"  # noqa: S105 - no secret
    NO = "no"


def may_return(code: int) -> Return:
    """Whether a client connects again after a close code; by its range, so that a code never seen before is met."""
    if code in (CloseCode.POLICY_VIOLATION, CloseCode.TOKEN_EXPIRED):
        return Return.WITH_FRESH_TOKEN
    return Return.YES if code in _RETURN_AT or 4000 <= code <= 4499 else Return.NO


class Lost(RouterError):
    """A connection has ended, or never came about.

    Attributes:
        may_return: Whether to connect again.
        code: Of the close; None: there was no WebSocket yet.
        after_s: When to come back, where the server said so.
    """

    def __init__(self, reason: str, may_return: Return, code: int | None = None, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.may_return = may_return
        self.code = code
        self.after_s = after_s


class Conversation:
    """One open connection. The mutable state is what the server has said of itself."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._silence_s = OPEN_S
        self._ended = "refused"
        self._after_s: float | None = None

    async def send(self, message: Mapping[str, object] | bytes) -> None:
        """Send a message, as fields or as JSON.

        Raises:
            Lost: The connection has ended.

        Cancellation: part of it may be out; the conversation can only be ended.
        """
        try:
            await self._connection.send(message if isinstance(message, bytes) else _encode(message), text=True)
        except ConnectionClosed as closed:
            raise self._lost(closed) from None

    async def receive(self) -> tuple[Message, bytes]:
        """The next message, and its bytes as they came.

        Raises:
            Lost: The connection has ended; also where the server is silent and does not answer.

        Cancellation: safe.
        """
        try:
            with trio.move_on_after(self._silence_s):
                return self._read(await self._connection.recv(decode=False))
            await self.send({"type": "ping"})
            with trio.move_on_after(ANSWER_S):
                return self._read(await self._connection.recv(decode=False))
        except ConnectionClosed as closed:
            raise self._lost(closed) from None
        raise Lost(f"{self._ended}: silent for {self._silence_s + ANSWER_S:g} s", Return.YES, _ABNORMAL)

    async def hear_connected(self) -> Connected:
        """The server's first message.

        Raises:
            Lost: It refuses us, or has nothing to say.
        """
        with trio.move_on_after(OPEN_S):
            message, _ = await self.receive()
            if isinstance(message, Connected):
                self._silence_s = message.heartbeat_s
                self._ended = "connection lost"
                return message
            raise Lost("it does not speak this protocol: its first message is not `connected`", Return.NO)
        raise Lost(f"the server said nothing for {OPEN_S:g} s", Return.YES)

    def _read(self, payload: bytes) -> tuple[Message, bytes]:
        try:
            message = read(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Lost(f"it does not speak this protocol: {error}", Return.NO) from None
        if isinstance(message, Goodbye) and message.reconnect_after_ms is not None:
            self._after_s = message.reconnect_after_ms / 1000
        return message, payload

    def _lost(self, closed: ConnectionClosed) -> Lost:
        close = closed.rcvd or closed.sent
        code, reason = (_ABNORMAL, "") if close is None else (close.code, close.reason)
        text = f"{self._ended}: {reason or 'no reason given'} ({code})"
        return Lost(text, may_return(code), code, self._after_s)


@asynccontextmanager
async def connect(target: Target, token: str | None, session: str | None = None) -> AsyncIterator[Conversation]:
    """Open a connection, on which the server speaks first; at the end it is closed, under a deadline.

    Args:
        target: Whom to talk to.
        token: The JWT to come with.
        session: The reconnection token of the session to resume.

    Raises:
        TalkError: The target or the token cannot be used.
        Lost: It cannot be reached, or does not accept a WebSocket.

    Cancellation: the connection is closed all the same, which ends the session; it may take `CLOSE_S`.
    """
    opening = open_websocket(target.address(session), **target.options(token))
    async with bare_nursery() as watching:
        ours = trio.CancelScope()
        watching.start_soon(_pass_on_cancellation, ours)
        # The library's tasks must outlive a cancellation: without them nothing can be closed in order.
        with trio.CancelScope(shield=True):
            async with bare_nursery() as tasks:
                with ours:
                    connection = await _open(target, opening, tasks)
                    try:
                        yield Conversation(connection)
                    finally:
                        with trio.move_on_after(CLOSE_S, shield=True):
                            await connection.aclose()


async def _pass_on_cancellation(scope: trio.CancelScope) -> None:
    try:
        await trio.sleep_forever()
    finally:
        scope.cancel()


async def _open(target: Target, opening: open_websocket, tasks: trio.Nursery) -> ClientConnection:
    try:
        return await opening.connect(tasks)
    except (OSError, trio.BrokenResourceError, InvalidHandshake, InvalidURI) as error:
        raise _unreachable(target, error) from None


def _unreachable(target: Target, error: OSError | trio.BrokenResourceError | InvalidHandshake | InvalidURI) -> Lost:
    """Say why there is no connection."""
    again, why = Return.YES, str(error)
    match error:
        case InvalidStatus(response=response):
            again = Return.YES if response.status_code == 429 or response.status_code >= 500 else Return.NO
            why = f"it answers {response.status_code} and opens no WebSocket; the path is /ws"
        case InvalidMessage():
            why = "it does not answer as a WebSocket server; does it want wss://?"
        case InvalidURI(msg=reason):
            again, why = Return.NO, reason
        case InvalidHandshake():
            again = Return.NO
        case trio.BrokenResourceError(__cause__=ssl.SSLCertVerificationError() as cause):
            again, why = Return.NO, f"its certificate is not trusted: {cause.verify_message}; give its CA with --ca"
        case trio.BrokenResourceError(__cause__=ssl.SSLError() as cause):
            again, why = Return.NO, f"TLS failed: {cause.reason or cause}; does it want ws://?"
        case trio.BrokenResourceError():
            why = "it hung up"
        case _:
            why = _reason(error)
    return Lost(f"cannot connect to {target.shown}: {why}", again)


def _reason(error: OSError) -> str:
    """What the system says of the attempt: Trio tries each address of a name and chains what came of it."""
    cause = error.__cause__
    if isinstance(cause, ExceptionGroup):
        cause = cause.exceptions[0]
    root = cause if isinstance(cause, OSError) else error
    if root.errno is not None and root.errno > 0:
        return os.strerror(root.errno)
    return root.strerror or str(root)
