"""Which pages and host names may call, and what browsers are told."""

from typing import Any

import pytest
from trio.testing import MockClock

from tests.rest.calls import API, WITH_KEY, api

STATUS = f"{API}/status"
LOCAL = "http://localhost:3000"
FOREIGN = "https://example.com"
#: Served by Quart, by the app that takes uploads, and by none.
EVERYWHERE = [
    (STATUS, "GET", {}),
    (f"{API}/events", "POST", {"Content_Type": "application/x-ndjson"}),
    ("/", "GET", {}),
]


@pytest.mark.parametrize(("path", "method", "headers"), EVERYWHERE)
async def test_a_foreign_page_is_refused(
    path: str, method: str, headers: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with api() as rest:
        answer = await rest.call(path, method, Origin=FOREIGN, **headers)
        assert "allowed_origins" in answer.problem(403, "permission_denied")
        assert answer.headers["vary"] == "Origin"
        assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(("path", "method", "headers"), EVERYWHERE)
async def test_a_page_that_may_is_told_so_in_refusals_too(
    path: str, method: str, headers: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with api() as rest:
        answer = await rest.call(path, method, Origin=LOCAL, **headers)
        assert answer.status in (200, 400, 404)
        assert answer.headers["access-control-allow-origin"] == LOCAL
        assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    ("origin", "settings"),
    [(LOCAL, {}), ("http://localhost:8000", WITH_KEY), (FOREIGN, {"allowed_origins": (FOREIGN,)})],
)
async def test_pages_that_may(origin: str, settings: dict[str, Any], autojump_clock: MockClock) -> None:
    async with api(**settings) as rest:
        answer = await rest.call(STATUS, Origin=origin)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == origin


async def test_without_an_origin_caches_are_told_that_it_counts(autojump_clock: MockClock) -> None:
    async with api() as rest:
        answer = await rest.call(STATUS)
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(("path", "method", "headers"), EVERYWHERE)
@pytest.mark.parametrize("host", ["example.com", ""])
async def test_in_development_mode_the_host_is_a_loopback_name(
    host: str, path: str, method: str, headers: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with api() as rest:
        answer = await rest.call(path, method, Host=host, **headers)
        assert "Host" in answer.problem(403, "permission_denied")


async def test_a_foreign_page_is_not_counted_against_the_rate(autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        for _ in range(200):
            (await rest.call("/", Origin=FOREIGN)).problem(403, "permission_denied")
        (await rest.call(STATUS)).ok()


# Browsers ask first


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("status", {"GET", "HEAD", "OPTIONS"}),
        ("events", {"POST", "OPTIONS"}),
        ("connections/x", {"GET", "HEAD", "DELETE", "OPTIONS"}),
    ],
)
async def test_a_browser_may_ask_first_without_a_token(path: str, methods: set[str], autojump_clock: MockClock) -> None:
    async with api(allow_anonymous=False, allowed_origins=(FOREIGN,), **WITH_KEY) as rest:
        answer = await rest.call(
            f"{API}/{path}",
            "OPTIONS",
            Origin=FOREIGN,
            Access_Control_Request_Method="GET",
            Access_Control_Request_Headers="authorization",
        )
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == FOREIGN
        assert set(answer.headers["access-control-allow-methods"].split(", ")) == methods
        allowed = answer.headers["access-control-allow-headers"].split(", ")
        assert {"Authorization", "Content-Type"} <= set(allowed)
        assert answer.headers["access-control-max-age"] == "600"


async def test_a_foreign_browser_that_asks_first_is_refused(autojump_clock: MockClock) -> None:
    async with api() as rest:
        answer = await rest.call(STATUS, "OPTIONS", Origin=FOREIGN, Access_Control_Request_Method="GET")
        answer.problem(403, "permission_denied")
        assert not any(name.startswith("access-control") for name in answer.headers)


async def test_options_alone_lists_the_methods(autojump_clock: MockClock) -> None:
    async with api() as rest:
        answer = await rest.call(STATUS, "OPTIONS", Origin=LOCAL)
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
        assert "access-control-allow-methods" not in answer.headers
