"""How the app says no."""

import threading
from collections.abc import Mapping
from typing import Any

import pytest
import trio
from quart import Response
from quart_trio.testing import TrioClient
from trio.testing import MockClock

from router.errors import ErrorCode
from router.protocol import Refusal
from router.rest.admission import make_context
from router.rest.app import make_quart
from router.rest.problems import of_refusal
from tests.rest.calls import API, Upload, api

STATUS = f"{API}/status"


@pytest.mark.parametrize(
    ("path", "method", "status", "code", "headers"),
    [
        ("/", "GET", 404, "not_found", {}),
        ("/static/x", "POST", 404, "not_found", {}),
        (STATUS + "/", "GET", 404, "not_found", {}),
        (STATUS.replace("/v1", "//v1"), "GET", 404, "not_found", {}),
        (STATUS, "POST", 405, "method_not_allowed", {"allow": {"GET", "HEAD", "OPTIONS"}}),
        (STATUS, "DELETE", 405, "method_not_allowed", {"allow": {"GET", "HEAD", "OPTIONS"}}),
        (f"{API}/events", "GET", 405, "method_not_allowed", {"allow": {"POST", "OPTIONS"}}),
        ("/healthz", "POST", 405, "method_not_allowed", {"allow": {"GET", "HEAD", "OPTIONS"}}),
        ("/ws", "GET", 426, "upgrade_required", {"upgrade": {"websocket"}, "connection": {"Upgrade"}}),
        ("/ws", "POST", 405, "method_not_allowed", {"allow": {"GET", "HEAD", "OPTIONS"}}),
    ],
)
async def test_every_error_is_a_problem_document(
    path: str, method: str, status: int, code: str, headers: Mapping[str, set[str]], autojump_clock: MockClock
) -> None:
    async with api() as rest:
        answer = await rest.call(path, method)
        answer.problem(status, code)
        assert set(answer.json()) == {"type", "title", "status", "detail", "code"}
        assert {name: set(answer.headers[name].split(", ")) for name in headers} == headers


async def test_what_is_not_there_is_named(autojump_clock: MockClock) -> None:
    async with api() as rest:
        assert "'/nope'" in (await rest.call("/nope")).problem(404, "not_found")
        assert "DELETE" in (await rest.call(STATUS, "DELETE")).problem(405, "method_not_allowed")


async def test_over_http2_no_upgrade_is_offered(autojump_clock: MockClock) -> None:
    async with api() as rest:
        answer = await rest.call("/ws", http_version="2")
        answer.problem(426, "upgrade_required")
        assert not {"upgrade", "connection"} & set(answer.headers)


async def test_head_is_answered(autojump_clock: MockClock) -> None:
    async with api() as rest:
        assert (await rest.call(STATUS, "HEAD")).status == 200


async def test_a_body_that_does_not_end_in_time_is_given_up(autojump_clock: MockClock) -> None:
    class Stalled(Upload):
        async def receive(self) -> dict[str, Any]:
            event = await super().receive()
            return event | {"more_body": True}

    async with api(message_s=7) as rest:
        begun = trio.current_time()
        answer = await rest.call(f"{API}/broadcast", "POST", body=Stalled([b"{"]), Content_Type="application/json")
        assert "7 s" in answer.problem(408, "timeout")
        assert trio.current_time() - begun == 7


@pytest.mark.parametrize("debug", [False, True])
async def test_a_failure_of_ours_is_a_problem_document_and_logged(
    debug: bool, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async with api() as rest:
        app = make_quart(make_context(rest.world.state, None, rest.world.router))
        app.debug = debug

        @app.get("/fail")
        def fail() -> Response:
            raise ValueError("not today")

        response = await TrioClient(app).get("/fail")
        assert response.status_code == 500
        problem = await response.get_json(force=True)
        assert problem["code"] == "internal"
        assert "not today" not in str(problem)
        (record,) = caplog.records
        assert record.name == "router.rest"
        assert record.exc_info is not None
        assert str(record.exc_info[1]) == "not today"


async def test_handlers_run_in_the_routers_thread(autojump_clock: MockClock) -> None:
    async with api() as rest:
        app = make_quart(make_context(rest.world.state, None, rest.world.router))

        @app.get("/thread")
        def thread() -> Response:
            return Response(str(threading.get_ident()))

        response = await TrioClient(app).get("/thread")
        assert await response.get_data(as_text=True) == str(threading.get_ident())


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.INVALID_JSON, 400),
        (ErrorCode.INVALID_MESSAGE, 422),
        (ErrorCode.UNKNOWN_CHANNEL, 404),
        (ErrorCode.PERMISSION_DENIED, 403),
        (ErrorCode.RATE_LIMITED, 429),
        (ErrorCode.PAYLOAD_TOO_LARGE, 413),
        (ErrorCode.ENGINE_UNAVAILABLE, 503),
    ],
)
def test_what_a_refusal_is_over_http(code: ErrorCode, status: int) -> None:
    error = of_refusal(Refusal(code, "no", retry_after=0.2))
    assert (error.status, error.problem.code, error.problem.detail) == (status, code, "no")
    assert (error.problem.retry_after, error.headers["Retry-After"]) == (0.2, "1")
    assert "Retry-After" not in of_refusal(Refusal(code, "no")).headers
