"""nginx in front: upgrades over kept connections, who calls, and how they came."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import websockets.trio.client
from websockets.exceptions import InvalidStatus

from tests.certificates import certificate
from tests.e2e.clients import Client
from tests.e2e.nginx import Relay, proxying
from tests.e2e.program import running

STATUS = "/api/v1/websocket/status"


class Site:
    """The router as it is seen from outside, behind nginx.

    Attributes:
        host: Host and port.
        relay: Counts the connections between the two.
    """

    def __init__(self, port: int, trusted: ssl.SSLContext, relay: Relay) -> None:
        self.host = f"localhost:{port}"
        self.relay = relay
        self._port = port
        self._trusted = trusted

    @asynccontextmanager
    async def connected(self, **headers: str) -> AsyncIterator[Client]:
        """A WebSocket with these headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._open(named) as connection:
            yield Client(connection, connection.stream)  # type: ignore[arg-type] # nobody resets it

    def _open(self, headers: dict[str, str]) -> websockets.trio.client.connect:
        return websockets.trio.client.connect(
            f"wss://{self.host}/ws", ssl=self._trusted, proxy=None, additional_headers=headers
        )

    async def refused(self, **headers: str) -> int:
        """The status that a handshake with these headers is refused by."""
        try:
            async with self.connected(**headers):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
        """A connection for requests."""
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as plain:
            yield trio.SSLStream(plain, self._trusted, server_hostname="localhost", https_compatible=True)

    async def ask(
        self, stream: trio.abc.Stream, path: str, *headers: str, method: str = "GET", body: bytes = b""
    ) -> tuple[int, Any]:
        """Make one request on such a connection; its status and body."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}", f"Content-Length: {len(body)}", *headers]
        await stream.send_all("\r\n".join([*lines, "", ""]).encode() + body)
        answer = b""
        while True:
            head, end, rest = answer.partition(b"\r\n\r\n")
            if end and len(rest) >= int(head.lower().partition(b"content-length:")[2].split()[0]):
                return int(head.split()[1]), json.loads(rest)
            more = await stream.receive_some()
            assert more, f"the connection ended behind {answer!r}"
            answer += more


@asynccontextmanager
async def site(folder: Path, **settings: Any) -> AsyncIterator[Site]:
    """A router behind nginx, with no key and open to anybody, but it trusts nginx unless told otherwise."""
    cert = certificate(folder)
    settings = {"insecure": "true", "trusted_proxies": "127.0.0.1"} | settings
    async with running(**settings) as program, trio.open_nursery() as nursery:
        relay = Relay(program.port)
        between = await nursery.start(relay.run)
        async with proxying(between, folder, cert) as port:
            yield Site(port, cert.trusted(), relay)
        nursery.cancel_scope.cancel()


async def test_requests_and_a_websocket_go_over_one_kept_connection(tmp_path: Path) -> None:
    async with site(tmp_path) as outside, outside.asking() as stream:
        for _ in range(3):
            assert (await outside.ask(stream, STATUS))[0] == 200
        assert (await outside.ask(stream, "/nope", method="POST", body=b"x" * 1000))[0] == 404
        async with outside.connected() as client:
            await client.hear(type="connected")
            assert outside.relay.connections == 1, "the kept connection was not used for the upgrade"
            await client.subscribe("metrics")
            assert (await outside.ask(stream, STATUS))[1]["websocket"]["total_connections"] == 1
        assert outside.relay.connections == 2
        for _ in range(3):
            assert (await outside.ask(stream, STATUS))[0] == 200
        assert outside.relay.connections == 2


@pytest.mark.parametrize("upgrade", ["h2c", "h2c, websocket", "other"])
async def test_no_other_upgrade_is_handed_on(tmp_path: Path, upgrade: str) -> None:
    """By HTTP/2 a client would go on past nginx, and say itself who calls."""
    lines = (f"Upgrade: {upgrade}", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__")
    async with site(tmp_path) as outside, outside.asking() as stream:
        assert (await outside.ask(stream, STATUS, *lines))[0] == 200
        assert b"upgrade" not in outside.relay.handed_on.lower()
        assert (await outside.ask(stream, STATUS))[0] == 200
        assert outside.relay.connections == 1


async def test_requests_at_the_same_time_are_served(tmp_path: Path) -> None:
    async with site(tmp_path) as outside:

        async def ask_on() -> None:
            async with outside.asking() as stream:
                for _ in range(20):
                    assert (await outside.ask(stream, STATUS))[0] == 200
            async with outside.connected() as client:
                assert (await client.ask(type="ping"))["type"] == "pong"

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask_on)


async def test_the_limit_of_an_address_goes_by_who_calls(tmp_path: Path) -> None:
    """nginx appends the address that it is called from, which is trusted here, to what the client says."""
    async with site(tmp_path, max_connections_per_address=2) as outside, AsyncExitStack() as stack:
        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
            client = await stack.enter_async_context(outside.connected(X_Forwarded_For=address))
            await client.hear(type="connected")
        async with outside.connected(X_Forwarded_For="192.0.2.1") as client:
            assert await client.close_of() == (1013, "the limit of 2 connections from one address is reached")


async def test_a_proxy_that_is_not_trusted_is_the_caller(tmp_path: Path) -> None:
    async with (
        site(tmp_path, max_connections_per_address=1, trusted_proxies="192.0.2.1") as outside,
        outside.connected(X_Forwarded_For="192.0.2.1") as first,
    ):
        await first.hear(type="connected")
        async with outside.connected(X_Forwarded_For="192.0.2.2") as client:
            assert (await client.close_of())[0] == 1013


@pytest.mark.parametrize(("trusted", "served"), [("127.0.0.0/8", True), ("192.0.2.1", False)])
async def test_the_own_origin_is_what_it_is_outside(tmp_path: Path, trusted: str, served: bool) -> None:
    """nginx speaks plain HTTP to the router; only a trusted one is believed that the page came by https."""
    async with site(tmp_path, trusted_proxies=trusted) as outside, outside.asking() as stream:
        origin = f"https://{outside.host}"
        assert await outside.refused(Origin=origin) == (101 if served else 403)
        assert (await outside.ask(stream, STATUS, f"Origin: {origin}"))[0] == (200 if served else 403)
        assert await outside.refused(Origin=f"http://{outside.host}") == (403 if served else 101)
