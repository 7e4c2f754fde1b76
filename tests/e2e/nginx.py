"""nginx in front of the router, configured as docs/nginx.conf says."""

import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from tests.certificates import Certificate
from tests.e2e.program import ROOT

DOCUMENTED: Final = ROOT / "docs" / "nginx.conf"

#: All in one folder and one process, whoever starts it.
AROUND: Final = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {documented}
}}
"""


@asynccontextmanager
async def proxying(upstream: int, folder: Path, cert: Certificate) -> AsyncIterator[int]:
    """Run nginx in front of a port; gives its own. What it complains of is in the test's output."""
    while True:
        port = free_port()
        file = folder / "nginx.conf"
        file.write_text(AROUND.format(folder=folder, documented=documented(upstream, port, cert)))
        process = await trio.lowlevel.open_process(
            ["/usr/sbin/nginx", "-p", str(folder), "-c", str(file)], stdin=subprocess.DEVNULL
        )
        try:
            if await is_up(process, port):
                yield port
                return
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


def documented(upstream: int, port: int, cert: Certificate) -> str:
    """The documented configuration, with this test's ports and files in place of its examples."""
    text = DOCUMENTED.read_text()
    for example, actual in (
        ("server 127.0.0.1:8000;", f"server 127.0.0.1:{upstream};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/router.example.com.pem", str(cert.file)),
        ("/etc/ssl/router.example.com.key", str(cert.key_file)),
    ):
        assert text.count(example) == 1, f"docs/nginx.conf has no single {example!r}"
        text = text.replace(example, actual)
    return text


def free_port() -> int:
    """One that is free now; if somebody else is quicker, nginx ends and another is tried."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


async def is_up(process: trio.Process, port: int) -> bool:
    """Wait until it listens; False where it has ended instead."""
    while process.poll() is None:
        try:
            await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
        except OSError:
            await trio.sleep(0.01)
        else:
            return True
    assert process.returncode == 1, "nginx did not end for want of the port"
    return False


class Relay:
    """Stands between nginx and the router.

    Attributes:
        connections: How many nginx has opened.
        handed_on: What came from it.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.connections = 0
        self.handed_on = bytearray()

    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        """Hand on what comes, in both directions, until cancelled; tells its port."""
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, self._hand_on, 0, host="127.0.0.1"))
            task_status.started(listeners[0].socket.getsockname()[1])

    async def _hand_on(self, proxy: trio.SocketStream) -> None:
        self.connections += 1
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as server, trio.open_nursery() as nursery:
            nursery.start_soon(pump, proxy, server, self.handed_on)
            nursery.start_soon(pump, server, proxy, bytearray())


async def pump(source: trio.SocketStream, sink: trio.SocketStream, passed: bytearray) -> None:
    try:
        async for data in source:
            passed += data
            await sink.send_all(data)
        await sink.send_eof()
    except trio.BrokenResourceError:
        pass  # one end has gone; the other is told by the end of its own stream
