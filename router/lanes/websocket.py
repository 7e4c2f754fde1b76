"""The WebSocket library, trio-websocket, imported here only.

It does the handshake, control frames, fragments and every error that RFC 6455 names, over the lane in place of a
socket. Only its public interface is used. It waits for ever in two places, both under a deadline here: after a bad
handshake, and for a peer that does not answer a close.
"""

from __future__ import annotations

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from router.frames import close_frame
from router.lanes.lane import Deliver, Lane


class WebSocket:
    """The WebSocket of one lane. The mutable state is the library's connection, once there is one."""

    __slots__ = ("_connection", "_lane")

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._connection: WebSocketConnection | None = None

    async def open(
        self, nursery: trio.Nursery, *, max_message_bytes: int, within_s: float, subprotocol: str | None = None
    ) -> bool:
        """Do the handshake; the library's reading task lives in `nursery` from now on.

        Returns:
            Whether there is a WebSocket; where not, the library has answered or the peer has left.
        """
        lane = self._lane
        with trio.move_on_after(within_s) as deadline:
            lane.on_left = deadline.cancel
            request = await wrap_server_stream(nursery, lane, max_message_size=max_message_bytes)
            try:
                self._connection = await request.accept(subprotocol=subprotocol)
            except ConnectionClosed:
                return False
        lane.on_left = None
        return self._connection is not None

    def read(self, deliver: Deliver) -> None:
        """Begin to hand over messages."""
        assert self._connection is not None
        self._lane.open(deliver, self._connection.get_message)

    @property
    def closed_by_peer(self) -> tuple[int, str] | None:
        """Code and reason, where the peer closed or broke the protocol."""
        closed = None if self._connection is None else self._connection.closed
        return None if closed is None else (closed.code, closed.reason or "")

    async def close(self, within_s: float) -> None:
        """Do our part of the close: ask for it, or say what the peer did wrong, where the library did not.

        The peer may be unable to read, so this ends after `within_s` seconds. Cancellation: safe.
        """
        lane = self._lane
        if lane.ended or self._connection is None or not (lane.left or lane.close_request or lane.close_sent):
            return
        with trio.move_on_after(within_s):
            if lane.close_request is not None and not lane.left:
                await self._connection.aclose(*lane.close_request)
            if not lane.left:  # the peer was quicker, and the library is about to answer it
                left = trio.Event()
                lane.on_left = left.set
                await left.wait()
            await self._say_fault()

    async def _say_fault(self) -> None:
        """After a frame that breaks the protocol the library may close without a word (RFC 6455 section 7.1.7)."""
        assert self.closed_by_peer is not None, "the library does not leave without a reason"
        code, _ = self.closed_by_peer
        try:
            await self._lane.send_all(close_frame(code))
        except trio.BrokenResourceError:
            pass  # there was no fault, and a close frame is out; or the peer has left
