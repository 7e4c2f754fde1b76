"""One request and its answer (ASGI), between Hypercorn and the app: the caller, the deadlines, and always an answer."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import structlog
import trio

from router.addresses import Peer
from router.rest.asgi import App, Message, Receive, Scope, Send, refuse
from router.rest.problems import ProblemError

log = structlog.get_logger("router.exchange")


class Exchange:
    """What came of one request, and what went out.

    The mutable state is how far both are.

    Attributes:
        begun: An answer has begun.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        *,
        read_s: float,
        send_s: float,
        last: Callable[[], bool],
        ask: Callable[[], Awaitable[None]],
    ) -> None:
        """Make it for one request.

        Args:
            receive: Hypercorn's.
            send: Likewise.
            read_s: How long the body may pause.
            send_s: How long the peer may take for each piece of the answer.
            last: Asked when the answer begins: whether the connection ends with it, and the peer is to know.
            ask: Called before the app receives: has the peer send its body, if it waits to be asked.
        """
        self._receive = receive
        self._send = send
        self._read_s = read_s
        self._send_s = send_s
        self._last = last
        self._ask = ask
        self._whole = False
        self._gone = False
        self._late = False
        self._ended = False
        self.begun = False

    async def serve(self, app: App, scope: Scope) -> bool:
        """Have the app answer, and answer for it where it does not.

        Returns:
            Whether the peer has all of the answer, or none, or has left; if not, nothing can follow it.

        Cancellation: as the app's.
        """
        with trio.CancelScope() as self._scope:
            try:
                await app(scope, self.receive, self.send)
            except Exception:
                log.exception("a request failed", method=scope["method"], path=scope["path"])
            if not (self.begun or self._gone):
                await self._answer_for_it()
        return self._ended or self._gone or not self.begun

    async def receive(self) -> Message:
        """What comes next of the request; its end where the body has paused for too long. Cancellation: safe."""
        with trio.move_on_after(math.inf if self._whole else self._read_s):
            await self._ask()
            message = await self._receive()
            self._gone = message["type"] == "http.disconnect"
            self._whole = self._gone or not message.get("more_body")
            return message
        self._late = True
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        """Send what comes next of the answer. A peer that does not take it in time ends it, and the app.

        Cancellation: the answer may be out in part.
        """
        if message["type"] == "http.response.start":
            self.begun = True
            if self._last():
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        ends = message["type"] == "http.response.body" and not message.get("more_body")
        with trio.move_on_after(self._send_s):
            if ends:
                await self._send_last(message)
            else:
                await self._send(message)
            return
        self._scope.cancel()
        await trio.lowlevel.checkpoint()

    async def _send_last(self, message: dict[str, Any]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.discard)
            await self._send(message)
            self._ended = True
            nursery.cancel_scope.cancel()

    async def discard(self) -> None:
        """Take what is left of the request, to its end or the connection's.

        Hypercorn ends an answer only once there is room for what it has read, and would wait for ever.
        """
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _answer_for_it(self) -> None:
        if self._late:
            detail = f"nothing came of the request's body for {self._read_s:g} s"
            problem = ProblemError(HTTPStatus.REQUEST_TIMEOUT, detail)
        else:
            problem = ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "the request failed; the server's log says why")
        await refuse(self.send, problem)


def scope_of(scope: Scope, peer: Peer) -> Scope:
    """The scope of a request, with the caller's address and scheme, whatever proxy handed it on."""
    caller = peer.caller(scope["headers"])
    client = scope["client"] if caller.address == peer.address else (caller.address, 0)
    return {**scope, "client": client, "scheme": caller.scheme}
