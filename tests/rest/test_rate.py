"""How many calls an address may make."""

import pytest
import trio
from trio.testing import MockClock

from router.limits import Rate
from router.rest.asgi import Receive, Scope, Send
from router.rest.rate import RateLimit
from tests.rest.calls import ADDRESS, API, NDJSON, WITH_KEY, Api, api

STATUS = f"{API}/status"
LIMITED = {"rate_http": Rate(burst=3, per_s=2), **WITH_KEY}


async def use_up(rest: Api) -> None:
    for _ in range(3):
        (await rest.call(STATUS)).ok()


async def test_over_the_rate_a_call_is_told_when_to_come_back(autojump_clock: MockClock) -> None:
    async with api(**LIMITED) as rest:
        await use_up(rest)
        answer = await rest.call(STATUS, Origin="http://localhost:8000")
        assert "more than 2 requests a second" in answer.problem(429, "rate_limited")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["access-control-allow-origin"] == "http://localhost:8000"
        wait_s = answer.json()["retry_after"]
        assert 0.5 <= wait_s < 0.6
        await trio.sleep(wait_s)
        (await rest.call(STATUS)).ok()
        (await rest.call(STATUS)).problem(429, "rate_limited")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_who_watches_the_server_is_not_counted(path: str, autojump_clock: MockClock) -> None:
    async with api(**LIMITED) as rest:
        for _ in range(10):
            assert (await rest.call(path)).status == 200
        await use_up(rest)
        assert (await rest.call(path)).status == 200


@pytest.mark.parametrize(("path", "method"), [("/docs", "GET"), ("/", "GET"), (f"{API}/events", "POST")])
async def test_all_other_calls_are(path: str, method: str, autojump_clock: MockClock) -> None:
    async with api(**LIMITED) as rest:
        await use_up(rest)
        (await rest.call(path, method, **NDJSON)).problem(429, "rate_limited")


async def test_each_address_has_its_own(autojump_clock: MockClock) -> None:
    async with api(**LIMITED) as rest:
        await use_up(rest)
        (await rest.call(STATUS, address="192.0.2.8")).ok()
        (await rest.call(STATUS, address=None)).ok()
        (await rest.call(STATUS, address=ADDRESS)).problem(429, "rate_limited")


@pytest.mark.parametrize("settings", [{}, {"rate_http": None, **WITH_KEY}])
async def test_there_may_be_no_limit(settings: dict[str, None], autojump_clock: MockClock) -> None:
    async with api(**settings) as rest:
        for _ in range(150):
            (await rest.call(STATUS)).ok()


async def test_the_default_is_100_a_second(autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        for _ in range(100):
            (await rest.call(STATUS)).ok()
        (await rest.call(STATUS)).problem(429, "rate_limited")


async def test_the_addresses_longest_at_rest_are_forgotten() -> None:
    served: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        served.append(scope["client"][0])

    limit = RateLimit(app, Rate(burst=2, per_s=1), lambda: 0.0, max_addresses=2)

    async def ignore(event: dict[str, object]) -> None:
        pass

    async def nothing() -> dict[str, object]:
        raise AssertionError("the body is not looked at")

    async def call(address: str) -> bool:
        before = len(served)
        await limit({"type": "http", "path": "/", "client": (address, 1)}, nothing, ignore)
        return len(served) > before

    assert [await call("a"), await call("a"), await call("a")] == [True, True, False]
    assert await call("b")
    assert not await call("a")  # used after b, so that c takes b's place
    assert [await call("c"), await call("c"), await call("c")] == [True, True, False]
    assert not await call("a")
    assert [await call("b"), await call("b"), await call("b")] == [True, True, False]
    assert [await call("c"), await call("c")] == [True, True]
