"""How much of a bare loop's speed the client has: events per second of both, in one run, under asyncio and under Trio.

The bare loop reads the socket, feeds the same WebSocket core, and decodes each event; nothing else. The server is a
process of its own that writes frames made beforehand as fast as the socket takes them.

    python clients/python/bench/ratio.py [events]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import time
from collections.abc import Callable
from typing import Any

import msgspec
import trio
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from neurograph_ws_client import NeurographWSClient
from neurograph_ws_client.wire import SUBPROTOCOL

ROUNDS = 5
PER_WRITE = 500
READ = 1 << 18
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode
CONNECTED = {
    "type": "connected", "client_id": "c", "user_id": None, "role": "admin", "reconnected": False, "protocol": 1,
    "epoch": "e", "heartbeat_s": 30, "max_message_bytes": 65536, "expires_in": 300, "timestamp": "",
}  # fmt: skip


def frame(message: dict[str, Any]) -> bytes:
    return Frame(Opcode.TEXT, encode(message)).serialize(mask=False)


def event(seq: int) -> dict[str, Any]:
    data = {
        "event_id": f"e-{seq}",
        "is_novel": True,
        "priority": seq % 256,
        "resonance_score": 0.5,
        "neighbors_count": 4,
    }
    return {
        "channel": "signals", "timestamp": "2024-12-29T12:00:00.123Z", "event_type": "signal.input.text",
        "data": data, "seq": seq,
    }  # fmt: skip


def serve(listener: socket.socket, events: int) -> None:
    """Each connection is sent all events, as soon as it has sent a message; it is the client that closes."""
    frames = [frame(event(seq)) for seq in range(1, events + 1)]
    writes = [b"".join(frames[at : at + PER_WRITE]) for at in range(0, events, PER_WRITE)]
    at = {"signals": {"epoch": "e", "seq": 0}}
    while True:
        connection, _ = listener.accept()
        protocol = ServerProtocol(subprotocols=[SUBPROTOCOL])
        asked = False
        while not asked:
            data = connection.recv(READ)
            if not data:
                break
            protocol.receive_data(data)
            for item in protocol.events_received():
                if isinstance(item, Frame):
                    asked = True
                    reply = {"type": "subscribed", "id": decode(item.data).get("id"), "channels": ["signals"]}
                    connection.sendall(frame({**reply, "positions": at}))
                else:
                    protocol.send_response(protocol.accept(item))  # type: ignore[arg-type]  # a Request
                    connection.sendall(b"".join(protocol.data_to_send()) + frame(CONNECTED))
        try:
            for data in writes if asked else ():
                connection.sendall(data)
            while connection.recv(READ):
                pass
        except OSError:
            pass
        connection.close()


class Bare:
    """The loop to compare with."""

    def __init__(self, port: int, events: int) -> None:
        self._protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/ws"), subprotocols=[SUBPROTOCOL])
        self._protocol.send_request(self._protocol.connect())
        self._left = events
        self._asked = False
        self.started = self.ended = 0.0

    def take(self, data: bytes) -> bytes:
        protocol = self._protocol
        if data:
            protocol.receive_data(data)
        for item in protocol.events_received():
            if type(item) is Frame:
                if not self._asked:
                    self._asked = True
                    protocol.send_text(encode({"type": "subscribe", "channels": ["signals"], "id": 1}))
                    self.started = time.perf_counter()
                message = decode(item.data)
                if "type" not in message:
                    self._left -= 1
        if not self._left:
            self.ended = time.perf_counter()
        return b"".join(protocol.data_to_send())

    async def on_asyncio(self, port: int) -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 17)
        writer.write(self.take(b""))
        while not self.ended:
            writer.write(self.take(await reader.read(READ)))
        writer.close()
        return self.ended - self.started

    async def on_trio(self, port: int) -> float:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(self.take(b""))
            while not self.ended:
                out = self.take(await stream.receive_some(READ))
                if out:
                    await stream.send_all(out)
        return self.ended - self.started


async def client(port: int, events: int, done: Any) -> float:
    """What a program with a handler takes."""
    left, started, ended = events, 0.0, 0.0

    def handle(event: Any) -> None:
        nonlocal left, ended
        left -= 1
        if not left:
            ended = time.perf_counter()
            done.set()

    async with NeurographWSClient(f"ws://127.0.0.1:{port}/ws") as one:
        started = time.perf_counter()
        one.subscribe("signals", handle)
        await done.wait()
    return ended - started


def main(events: int) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]
    server = multiprocessing.get_context("fork").Process(target=serve, args=(listener, events), daemon=True)
    server.start()
    try:
        runs: dict[str, tuple[Callable[[], float], Callable[[], float]]] = {
            "asyncio": (
                lambda: asyncio.run(Bare(port, events).on_asyncio(port)),
                lambda: asyncio.run(client(port, events, asyncio.Event())),
            ),
            "trio": (
                lambda: trio.run(Bare(port, events).on_trio, port),
                lambda: trio.run(client, port, events, trio.Event()),
            ),
        }
        for name, (bare, ours) in runs.items():
            pairs = [(bare(), ours()) for _ in range(ROUNDS)]
            ratio = statistics.median(b / o for b, o in pairs)
            bare_s, ours_s = (statistics.median(times) for times in zip(*pairs, strict=True))
            print(f"{name}: bare {events / bare_s:,.0f}/s, client {events / ours_s:,.0f}/s, ratio {ratio:.2f}")
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "events", nargs="?", type=int, default=100_000, help="how many each run reads (default: 100000)"
    )
    main(parser.parse_args().events)
