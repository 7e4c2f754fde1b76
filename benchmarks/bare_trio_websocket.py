"""A server of trio-websocket and nothing else, as its documentation shows one: what an idle connection needs.

Run as `python -m benchmarks.bare_trio_websocket [PORT]`; prints `listening PORT` and runs until it is ended.
"""

import sys
import uuid
from functools import partial

import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from .machine import raise_open_files


async def hold(request: WebSocketRequest) -> None:
    """Greets a client and reads what it says, until it goes."""
    connection = await request.accept()
    greeting = {
        "type": "connected",
        "client_id": str(uuid.uuid4()),
        "user_id": None,
        "timestamp": "2024-12-29T12:00:00.123Z",
        "role": "anonymous",
    }
    try:
        await connection.send_message(msgspec.json.encode(greeting).decode())
        while True:
            await connection.get_message()
    except ConnectionClosed:
        return


async def main(port: int) -> None:
    """Serves until it is cancelled."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, hold, "127.0.0.1", port, ssl_context=None))
        print(f"listening {server.port}", flush=True)


if __name__ == "__main__":
    raise_open_files()
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 0)
