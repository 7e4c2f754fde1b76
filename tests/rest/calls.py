"""Calls to the HTTP app of a router that runs in memory, and to a server behind a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from msgspec.structs import replace

from router.config import Config
from router.rest.app import make_app
from router.rest.asgi import App
from tests.router.harness import HS_KEY, World, running

API = "/api/v1/websocket"
JSON: dict[str, Any] = {"content-type": "application/json"}
NDJSON: dict[str, Any] = {"content-type": "application/x-ndjson"}
#: With a key nothing in a request but its token counts.
WITH_KEY: dict[str, Any] = {"jwt_keys": (HS_KEY,)}
#: Of calls in memory.
ADDRESS = "192.0.2.7"


class Answer:
    """What came back."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int, code: str) -> str:
        """That this is a problem document of that status and code; its detail."""
        assert self.status == status, self.body
        assert self.headers["content-type"] == "application/problem+json"
        problem = self.json()
        assert {"title", "status", "detail", "code", "type"} <= set(problem)
        assert (problem["status"], problem["code"]) == (status, code)
        return str(problem["detail"])

    def ok(self) -> Any:
        """That it is done; the body."""
        assert self.status == 200, self.body
        assert self.headers["content-type"] == "application/json"
        return self.json()


class Upload:
    """A request's body that comes in pieces.

    Attributes:
        asked: How many times the app has asked for more.
    """

    def __init__(self, pieces: Sequence[bytes], *, breaks_off: bool = False) -> None:
        self._pieces = list(pieces)
        self._breaks_off = breaks_off
        self.asked = 0

    async def receive(self) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self._pieces:
            piece = self._pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or self._breaks_off}
        if not self._breaks_off:
            await trio.sleep_forever()
        return {"type": "http.disconnect"}


class Api:
    """The app over a router."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.app: App = make_app(world.state, world.authenticator, world.router)

    async def call(
        self,
        target: str,
        method: str = "GET",
        *,
        json_body: object = None,
        body: bytes | Upload = b"",
        address: str | None = ADDRESS,
        http_version: str = "1.1",
        more_headers: Sequence[tuple[bytes, bytes]] = (),
        **headers: str,
    ) -> Answer:
        """Make a call; a header's name is written with underscores. A `json_body` is sent as such."""
        if json_body is not None:
            body, headers = json.dumps(json_body).encode(), {**JSON, **headers}
        upload = body if isinstance(body, Upload) else Upload([body])
        path, _, query = target.partition("?")
        given = {"host": "localhost:8000"} | {name.lower().replace("_", "-"): each for name, each in headers.items()}
        scope = {
            "type": "http",
            "http_version": http_version,
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [*((name.encode(), each.encode("latin-1")) for name, each in given.items()), *more_headers],
            "client": None if address is None else (address, 1234),
        }
        sent: list[dict[str, Any]] = []

        async def send(event: dict[str, Any]) -> None:
            await trio.lowlevel.checkpoint()
            sent.append(event)

        await self.app(scope, upload.receive, send)
        assert sent, "there was no answer"
        got = {}
        for name, value in sent[0]["headers"]:
            assert name.lower() not in got, f"{name} twice"
            got[name.lower().decode()] = value.decode("latin-1")
        return Answer(sent[0]["status"], got, b"".join(event["body"] for event in sent[1:]))

    async def post(self, path: str, content: object, **headers: Any) -> Answer:
        """POST JSON to the API."""
        return await self.call(f"{API}/{path}", "POST", json_body=content, **headers)

    async def get(self, path: str, **headers: Any) -> Answer:
        """GET from the API."""
        return await self.call(f"{API}/{path}", **headers)

    def bearer(self, user_id: str | None = "ada", **claims: Any) -> str:
        """An `Authorization` of this server's key."""
        return "Bearer " + self.world.jwt(user_id, **claims)


@asynccontextmanager
async def api(**settings: Any) -> AsyncIterator[Api]:
    """A router that runs, with its app; in development mode, unless a key is among the settings."""
    async with running(replace(Config(), **settings)) as world:
        yield Api(world)


async def http(port: int, target: str, method: str = "GET", *, body: bytes = b"", **headers: str) -> Answer:
    """One call over a socket of its own."""
    fields = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return await read_answer(stream)


async def read_answer(stream: trio.abc.ReceiveStream) -> Answer:
    """The last answer on a connection that the server closes behind it."""
    data = b""
    async for piece in stream:
        data += piece
    while data.startswith(b"HTTP/1.1 100"):
        data = data.partition(b"\r\n\r\n")[2]
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Answer(int(first.split()[1]), headers, body)
