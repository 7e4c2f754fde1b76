"""A real browser: Debian's Chromium, without a window, on a page that the test writes."""

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

#: Nothing but the page: no window, no sandbox (tests may run as root), no calls home.
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

#: The page tells what it has to say by `done`, once, errors included.
AROUND: Final = """<!doctype html><meta charset="utf-8"><script>
const done = (said) => fetch('/done', {{method: 'POST', body: JSON.stringify(said)}})
addEventListener('unhandledrejection', (event) => done({{error: String(event.reason)}}))
addEventListener('error', (event) => done({{error: event.message}}))
{script}
</script>"""


async def run_page(script: str, folder: Path, *flags: str) -> Any:
    """Open a page with this script; what it tells by `done(value)`.

    Args:
        script: Runs at http://127.0.0.1, on a port of its own.
        folder: For the browser's profile.
        flags: More of them.
    """
    tell, said = trio.open_memory_channel[Any](1)
    page = AROUND.format(script=script).encode()
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, answering(page, tell.send), 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        async with browsing(f"http://127.0.0.1:{port}/", *flags, f"--user-data-dir={folder}"):
            value = await said.receive()
        nursery.cancel_scope.cancel()
    return value


@asynccontextmanager
async def browsing(url: str, *flags: str) -> AsyncIterator[None]:
    """A browser at this address, which is gone when the context ends."""
    process = await trio.lowlevel.open_process(
        ["/usr/bin/chromium", *FLAGS, *flags, url],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it is many processes
        with trio.CancelScope(shield=True):
            await process.wait()


def answering(page: bytes, tell: Callable[[Any], Awaitable[None]]) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """A server of that page, which takes what it has to say."""
    found = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"

    async def answer(stream: trio.SocketStream) -> None:
        head, body = await read_request(stream)
        if head.startswith(b"POST /done"):
            await tell(json.loads(body))
        await stream.send_all(found % (len(page), page) if head.startswith(b"GET / ") else found % (0, b""))

    return answer


async def read_request(stream: trio.SocketStream) -> tuple[bytes, bytes]:
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split()
        if end and len(body) >= int(length[0] if length else 0):
            return head, body
        more = await stream.receive_some()
        if not more:
            return b"", b""  # it only tried the connection
        data += more
