"""An echo server on the router's lanes and trio-websocket, so that any RFC 6455 suite can be pointed at them.

    python -m tests.conformance.echo PORT

Echoes text and binary messages of up to 64 MiB. Port 0 picks a free one; the first line printed names it.
"""

from __future__ import annotations

import sys
import traceback
from functools import partial
from http import HTTPStatus

import trio

from router.batches import Batch
from router.door.heads import Refused, parse_head, read_head, refuse
from router.frames import BINARY, TEXT, Binary, frame
from router.lanes import Lane, WebSocket, socket_writer
from router.outbox import Outbox
from router.queues import Queue

MAX_MESSAGE_BYTES = 64 << 20
MAX_WAITING_EVENTS = 1_000_000
MAX_WAITING_BYTES = 256 << 20
MAX_HEAD_BYTES = 16 * 1024
DEADLINE_S = 10
CLOSE_S = 1


class Echo:
    """One connection."""

    def __init__(self, stream: trio.SocketStream, head: bytes) -> None:
        self._woken = trio.Event()
        self._outbox = Outbox(MAX_WAITING_EVENTS, MAX_WAITING_BYTES)
        self._queue = Queue("echo")
        self._lane = Lane(
            stream,
            head,
            wake=lambda: self._woken.set(),
            max_message_bytes=MAX_MESSAGE_BYTES,
            try_write=socket_writer(stream),
            wait_writable=partial(trio.lowlevel.wait_writable, stream.socket),
        )

    async def run(self) -> None:
        """From the handshake to the last byte."""
        lane = self._lane
        ws = WebSocket(lane)
        try:
            async with trio.open_nursery() as nursery:
                if await ws.open(nursery, max_message_bytes=MAX_MESSAGE_BYTES, within_s=DEADLINE_S):
                    lane.attach(self._outbox)
                    ws.read(self._echo)
                    await self._wait_for_end()
                    await ws.close(CLOSE_S)
                nursery.cancel_scope.cancel()
            await lane.hang_up(CLOSE_S)
        finally:
            with trio.move_on_after(CLOSE_S, shield=True):
                await lane.drop()

    async def _wait_for_end(self) -> None:
        lane = self._lane
        while not (lane.close_request or lane.left or lane.ended):
            await self._woken.wait()
            self._woken = trio.Event()
            await lane.write_waiting()

    async def _echo(self, messages: list[bytes]) -> None:
        for message in messages:
            answer = frame(BINARY if isinstance(message, Binary) else TEXT, message)
            self._lane.offer(self._queue, Batch(answer, (len(answer),), None, ""))
        await trio.lowlevel.checkpoint()


async def serve(port: int) -> None:
    """Echo until cancelled."""
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    print("listening", listeners[0].socket.getsockname()[1], flush=True)  # noqa: T201 - whoever started it reads this
    await trio.serve_listeners(handle, listeners)


async def handle(stream: trio.SocketStream) -> None:
    """Serve one connection; what goes wrong on it is shown and harms no other."""
    try:
        try:
            head = await read_head(stream, MAX_HEAD_BYTES, DEADLINE_S)
            if head and parse_head(head).http_version < b"1.1":
                raise Refused(HTTPStatus.BAD_REQUEST, "invalid_message", "a WebSocket needs HTTP/1.1")
        except Refused as refused:
            await refuse(stream, refused, CLOSE_S)
        else:
            if head:
                await Echo(stream, head).run()
    except Exception:
        traceback.print_exc()


if __name__ == "__main__":
    trio.run(serve, int(sys.argv[1]))
