"""The app: what it says to whom, who may call it from a browser, and how it says no."""

import threading
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import jwt
import msgspec
import pytest
import trio
from quart import Response
from quart_trio import QuartTrio
from quart_trio.testing import TrioClient
from werkzeug.datastructures import Headers

from router.auth import Authenticator, JwtSettings
from router.clock import Clock
from router.config import Config
from router.rest.app import make_app
from router.state import RouterState
from tests.router.serving import connect, hear, serving

KEY = "k" * 32
STATUS = "/api/v1/websocket/status"
#: With a key nothing in a request but its token counts.
PRODUCTION = {"jwt_keys": (KEY,)}


def app_of(**settings: Any) -> QuartTrio:
    config = Config(**settings)
    authenticator = Authenticator(JwtSettings(jwt_keys=config.jwt_keys)) if config.has_key else None
    return make_app(RouterState(config), authenticator)


async def call(app: QuartTrio, path: str = STATUS, *, method: str = "GET", **headers: str) -> Response:
    """Make a call; a header's name is written with underscores."""
    given = Headers({"Host": "localhost:8000"})
    for name, value in headers.items():
        given[name.replace("_", "-")] = value
    return await TrioClient(app).open(path, method=method, headers=given)


async def body_of(response: Response) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(await response.get_data(as_text=False))
    return decoded


def bearer(**claims: object) -> str:
    return "Bearer " + jwt.encode(claims, KEY, algorithm="HS256")


# Status


async def test_the_status_has_all_sums() -> None:
    response = await call(app_of())
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert await body_of(response) == {
        "status": "ok",
        "websocket": {
            "endpoint": "/ws",
            "protocol": "ws",
            "total_connections": 0,
            "total_channels": 6,
            "total_subscriptions": 0,
            "buffered_events": 0,
            "clients": [],
        },
    }


@pytest.mark.parametrize("role", ["developer", "viewer", "bot", "nobody"])
async def test_only_administrators_see_who_is_there(role: str) -> None:
    response = await call(app_of(**PRODUCTION), Authorization=bearer(sub="u", role=role))
    assert response.status_code == 200
    assert "clients" not in (await body_of(response))["websocket"]


async def test_an_administrator_is_known_by_the_token() -> None:
    response = await call(app_of(**PRODUCTION), Authorization=bearer(sub="u", role="admin"))
    assert (await body_of(response))["websocket"]["clients"] == []


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "1.5", "", "x", quote("٣"), "9" * 5000])
async def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    response = await call(app_of(), f"{STATUS}?limit={limit}")
    assert response.status_code == 400
    problem = await body_of(response)
    assert problem["code"] == "invalid_message"
    assert "limit must be a whole number from 1 to 1000" in problem["detail"]


@pytest.mark.parametrize("limit", ["1", "1000", "007"])
async def test_a_limit_in_range_is_taken(limit: str) -> None:
    assert (await call(app_of(), f"{STATUS}?limit={limit}")).status_code == 200


async def test_head_has_no_body() -> None:
    response = await call(app_of(), method="HEAD")
    assert response.status_code == 200


# Tokens


async def test_a_bad_token_is_refused_with_the_reason() -> None:
    response = await call(app_of(**PRODUCTION), Authorization="Bearer " + jwt.encode({}, "z" * 32, algorithm="HS256"))
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="neurograph-router"'
    problem = await body_of(response)
    assert (problem["code"], problem["detail"]) == ("invalid_token", "the token's signature does not fit")


@pytest.mark.parametrize("authorization", [None, "Basic dTpw"])
async def test_anonymous_may_be_refused(authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    refused = await call(app_of(allow_anonymous=False, **PRODUCTION), **headers)
    assert (refused.status_code, (await body_of(refused))["code"]) == (401, "invalid_token")
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="neurograph-router"'
    allowed = await call(app_of(**PRODUCTION), **headers)
    assert allowed.status_code == 200
    assert "clients" not in (await body_of(allowed))["websocket"]


@pytest.mark.parametrize(("path", "method", "status"), [("/ws", "GET", 426), ("/", "GET", 404), (STATUS, "POST", 405)])
async def test_what_is_no_resource_needs_no_token(path: str, method: str, status: int) -> None:
    response = await call(app_of(allow_anonymous=False, **PRODUCTION), path, method=method)
    assert response.status_code == status


async def test_without_a_key_beyond_loopback_nobody_is_an_administrator() -> None:
    response = await call(app_of(insecure=True), Authorization="Bearer whatever")
    assert "clients" not in (await body_of(response))["websocket"]


# Browsers

FOREIGN = "https://example.com"


async def test_a_foreign_page_is_refused() -> None:
    response = await call(app_of(), Origin=FOREIGN)
    assert response.status_code == 403
    assert response.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Origin" not in response.headers
    problem = await body_of(response)
    assert problem["code"] == "permission_denied"
    assert "allowed_origins" in problem["detail"]


@pytest.mark.parametrize(
    ("origin", "settings"),
    [("http://localhost:3000", {}), ("http://localhost:8000", PRODUCTION), (FOREIGN, {"allowed_origins": (FOREIGN,)})],
)
async def test_a_page_that_may_is_told_so(origin: str, settings: dict[str, Any]) -> None:
    response = await call(app_of(**settings), Origin=origin)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == origin


async def test_a_page_that_may_can_read_refusals_too() -> None:
    response = await call(app_of(), "/nope", Origin="http://localhost:3000")
    assert response.status_code == 404
    assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"


@pytest.mark.parametrize("host", ["example.com", ""])
async def test_in_development_mode_the_host_is_a_loopback_name(host: str) -> None:
    response = await call(app_of(), Host=host)
    assert (response.status_code, (await body_of(response))["code"]) == (403, "permission_denied")


async def test_a_browser_may_ask_first_without_a_token() -> None:
    response = await call(
        app_of(allow_anonymous=False, allowed_origins=(FOREIGN,), **PRODUCTION),
        method="OPTIONS",
        Origin=FOREIGN,
        Access_Control_Request_Method="GET",
        Access_Control_Request_Headers="authorization",
    )
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == FOREIGN
    assert set(response.headers["Access-Control-Allow-Methods"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert "Authorization" in response.headers["Access-Control-Allow-Headers"].split(", ")
    assert response.headers["Access-Control-Max-Age"] == "600"


async def test_a_foreign_browser_that_asks_first_is_refused() -> None:
    response = await call(app_of(), method="OPTIONS", Origin=FOREIGN, Access_Control_Request_Method="GET")
    assert response.status_code == 403
    assert not any(name.lower().startswith("access-control") for name, _ in response.headers)


async def test_options_alone_lists_the_methods() -> None:
    response = await call(app_of(), method="OPTIONS", Origin="http://localhost:3000")
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert "Access-Control-Allow-Methods" not in response.headers


# Errors


@pytest.mark.parametrize(
    ("path", "method", "status", "code", "headers"),
    [
        ("/", "GET", 404, "not_found", {}),
        ("/healthz", "GET", 404, "not_found", {}),
        ("/static/x", "POST", 404, "not_found", {}),
        (STATUS + "/", "GET", 404, "not_found", {}),
        (STATUS.replace("/v1", "//v1"), "GET", 404, "not_found", {}),
        (STATUS, "POST", 405, "method_not_allowed", {"Allow": None}),
        (STATUS, "DELETE", 405, "method_not_allowed", {"Allow": None}),
        ("/ws", "GET", 426, "upgrade_required", {"Upgrade": "websocket", "Connection": "Upgrade"}),
        ("/ws", "POST", 405, "method_not_allowed", {"Allow": None}),
    ],
)
async def test_every_error_is_a_problem_document(
    path: str, method: str, status: int, code: str, headers: Mapping[str, str | None]
) -> None:
    response = await call(app_of(), path, method=method)
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    problem = await body_of(response)
    assert set(problem) == {"type", "title", "status", "detail", "code"}
    assert (problem["status"], problem["code"]) == (status, code)
    for name, value in headers.items():
        assert response.headers[name] == (value or response.headers[name])


async def test_over_http2_no_upgrade_is_offered() -> None:
    response = await TrioClient(app_of()).open("/ws", headers={"Host": "localhost"}, http_version="2")
    assert response.status_code == 426
    assert "Upgrade" not in response.headers
    assert "Connection" not in response.headers


@pytest.mark.parametrize("debug", [False, True])
async def test_a_failure_of_ours_is_a_problem_document_and_logged(
    debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_of()
    app.debug = debug

    @app.get("/fail")
    def fail() -> Response:
        raise ValueError("not today")

    response = await call(app, "/fail")
    assert response.status_code == 500
    problem = await body_of(response)
    assert problem["code"] == "internal"
    assert "not today" not in str(problem)
    (record,) = caplog.records
    assert record.name == "router.rest"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "not today"


async def test_handlers_run_in_the_routers_thread() -> None:
    app = app_of()

    @app.get("/thread")
    def thread() -> Response:
        return Response(str(threading.get_ident()))

    assert await (await call(app, "/thread")).get_data(as_text=True) == str(threading.get_ident())


# Who is there


async def status_of(port: int, query: str = "") -> dict[str, Any]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(f"GET {STATUS}{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        data = b""
        while more := await stream.receive_some():
            data += more
    websocket: dict[str, Any] = msgspec.json.decode(data.partition(b"\r\n\r\n")[2])["websocket"]
    return websocket


async def test_clients_are_described() -> None:
    started_at = Clock().timestamp()
    async with serving() as port, connect(port) as client:
        connected = await hear(client, type="connected")
        await client.send('{"type":"subscribe","channels":["status","metrics"]}')
        await hear(client, type="subscribed")
        status = await status_of(port)
        (described,) = status["clients"]
        assert set(described) == {"client_id", "user_id", "connected_at", "channels", "last_heartbeat"}
        assert described["client_id"] == connected["client_id"]
        assert described["user_id"] is None
        assert described["channels"] == ["metrics", "status"]
        assert started_at <= described["connected_at"] <= described["last_heartbeat"] <= Clock().timestamp()
        assert (status["total_connections"], status["total_subscriptions"]) == (1, 2)
        assert "next" not in status


async def test_clients_come_in_pages() -> None:
    async with serving() as port, AsyncExitStack() as stack:
        ids = set()
        for _ in range(5):
            client = await stack.enter_async_context(connect(port))
            ids.add((await hear(client, type="connected"))["client_id"])
        pages, after = [], ""
        while True:
            status = await status_of(port, f"?limit=2&after={after}")
            pages.append([client["client_id"] for client in status["clients"]])
            if "next" not in status:
                break
            after = status["next"]
        assert [len(page) for page in pages] == [2, 2, 1]
        assert [client_id for page in pages for client_id in page] == sorted(ids)


async def test_a_client_that_is_away_is_not_there() -> None:
    async with serving() as port, connect(port) as witness:
        await hear(witness, type="connected")
        await witness.send('{"type":"subscribe","channels":["connections"]}')
        await hear(witness, type="subscribed")
        client = await trio.open_tcp_stream("127.0.0.1", port)
        async with connect(port, stream=client) as gone:
            connected = await hear(gone, type="connected")
            await trio.aclose_forcefully(client)
        left = await hear(witness, channel="connections", event_type="client.disconnected")
        assert left["data"]["client_id"] == connected["client_id"]
        status = await status_of(port)
        assert status["total_connections"] == 1
        assert connected["client_id"] not in [client["client_id"] for client in status["clients"]]
