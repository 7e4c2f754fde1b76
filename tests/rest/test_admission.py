"""Who may call: tokens, anonymous callers, roles."""

from typing import Any

import jwt
import pytest
import trio
from trio.testing import MockClock

from router.letters import Broadcast, Drain, Receipt
from router.protocol import Refusal
from router.rest.admission import ASK_S, ask, make_context
from tests.rest.calls import API, JSON, NDJSON, WITH_KEY, api

STATUS = f"{API}/status"
CHALLENGE = 'Bearer realm="neurograph-router"'
ADMINS_ONLY = [
    ("GET", "connections"),
    ("GET", "connections/x"),
    ("DELETE", "connections/x"),
    ("POST", "tokens/revoke"),
]


async def test_a_bad_token_is_refused_with_the_reason(autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        token = jwt.encode({}, "z" * 32, algorithm="HS256")
        answer = await rest.call(STATUS, Authorization=f"Bearer {token}")
        assert answer.problem(401, "invalid_token") == "the token's signature does not fit"
        assert answer.headers["www-authenticate"] == CHALLENGE


@pytest.mark.parametrize("authorization", [None, "Basic dTpw"])
async def test_anonymous_may_be_refused(authorization: str | None, autojump_clock: MockClock) -> None:
    headers: dict[str, Any] = {} if authorization is None else {"Authorization": authorization}
    async with api(allow_anonymous=False, **WITH_KEY) as rest:
        refused = await rest.call(STATUS, **headers)
        assert "a token is needed" in refused.problem(401, "invalid_token")
        assert refused.headers["www-authenticate"] == CHALLENGE
    async with api(**WITH_KEY) as rest:
        assert "clients" not in (await rest.call(STATUS, **headers)).ok()["websocket"]


async def test_two_tokens_are_no_token(autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        answer = await rest.call(STATUS, Authorization=f"{rest.bearer()}, {rest.bearer()}")
        answer.problem(401, "invalid_token")


@pytest.mark.parametrize("form", [JSON, NDJSON])
async def test_nor_are_they_in_two_headers(form: dict[str, Any], autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        token, events = rest.bearer(role="admin"), f"{API}/events"
        again = [(b"authorization", token.encode())]
        answer = await rest.call(events, "POST", body=b"[]", Authorization=token, more_headers=again, **form)
        answer.problem(401, "invalid_token")
        (await rest.call(STATUS, Authorization=token, more_headers=again)).problem(401, "invalid_token")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "broadcast", {"channel": "signals", "event_type": "x"}),
        ("POST", "broadcast", {"channel": "global", "event_type": "x"}),
        ("POST", "events", [{"channel": "signals", "event_type": "x"}]),
        ("POST", "tokens/revoke", {"jti": "t1"}),
        ("DELETE", "connections/x", None),
    ],
)
async def test_while_the_server_goes_down_nothing_is_done_any_more(
    method: str, path: str, body: object, autojump_clock: MockClock
) -> None:
    async with api(**WITH_KEY) as rest:
        await rest.world.router.ask(Drain)
        answer = await rest.call(f"{API}/{path}", method, json_body=body, Authorization=rest.bearer(role="admin"))
        assert "the server is going down" in answer.problem(503, "engine_unavailable")
        assert answer.headers["retry-after"] == "1"
        assert rest.world.state.streams["signals"].seq == 0


@pytest.mark.parametrize("channel", ["signals", "global"])
async def test_nor_is_what_the_router_gets_behind_its_goodbye(
    channel: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api() as rest, trio.open_nursery() as nursery:
        gate = await rest.world.hold(monkeypatch)
        nursery.start_soon(rest.world.router.ask, Drain)
        await rest.world.settle()

        async def publish() -> None:
            answer = await rest.post("broadcast", {"channel": channel, "event_type": "x"})
            assert answer.problem(503, "engine_unavailable") == "the server is going down"

        nursery.start_soon(publish)
        await rest.world.settle()
        gate.set()
        await rest.world.settle()
        assert not nursery.child_tasks
        assert rest.world.state.streams["signals"].seq == 0


@pytest.mark.parametrize("name", ["bearer", "BEARER", "Bearer "])
async def test_a_good_token_is_taken(name: str, autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        token = rest.world.jwt(role="admin")
        assert "clients" in (await rest.call(STATUS, Authorization=f"{name} {token}")).ok()["websocket"]


async def test_a_revoked_token_is_refused(autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        token = rest.bearer(jti="t1")
        (await rest.call(STATUS, Authorization=token)).ok()
        rest.world.state.revocations.revoke_token("t1")
        (await rest.call(STATUS, Authorization=token)).problem(401, "invalid_token")


async def test_in_development_mode_everybody_is_an_administrator_whatever_the_token(autojump_clock: MockClock) -> None:
    async with api() as rest:
        answer = await rest.call(STATUS, Authorization="Bearer whatever")
        assert "clients" in answer.ok()["websocket"]


async def test_without_a_key_beyond_loopback_nobody_is_an_administrator(autojump_clock: MockClock) -> None:
    async with api(insecure=True) as rest:
        answer = await rest.call(STATUS, Authorization="Bearer whatever")
        assert "clients" not in answer.ok()["websocket"]


@pytest.mark.parametrize(("method", "path"), ADMINS_ONLY)
@pytest.mark.parametrize("role", ["developer", "viewer", "bot", "nobody", None])
async def test_some_calls_are_for_administrators(
    method: str, path: str, role: str | None, autojump_clock: MockClock
) -> None:
    async with api(**WITH_KEY) as rest:
        headers: dict[str, Any] = {} if role is None else {"Authorization": rest.bearer(role=role)}
        answer = await rest.call(f"{API}/{path}", method, json_body={"jti": "x"}, **headers)
        detail = answer.problem(403, "permission_denied")
        assert f"for the role admin, and the caller is {role or 'anonymous'!r}" in detail


@pytest.mark.parametrize(("method", "path"), ADMINS_ONLY)
async def test_and_administrators_may_make_them(method: str, path: str, autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        answer = await rest.call(
            f"{API}/{path}", method, json_body={"jti": "x"}, Authorization=rest.bearer(role="admin")
        )
        assert answer.status in (200, 404)


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/ws", "GET", 426),
        ("/", "GET", 404),
        (STATUS, "POST", 405),
        ("/healthz", "GET", 200),
        ("/readyz", "GET", 200),
        ("/docs", "GET", 200),
        ("/openapi.json", "GET", 200),
    ],
)
async def test_these_need_no_token(path: str, method: str, status: int, autojump_clock: MockClock) -> None:
    async with api(allow_anonymous=False, **WITH_KEY) as rest:
        assert (await rest.call(path, method)).status == status


async def test_a_router_that_does_not_answer_is_unavailable(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api() as rest:
        world = rest.world
        gate = await world.hold(monkeypatch)
        begun = trio.current_time()
        answer = await rest.call(f"{API}/connections/x", "DELETE")
        assert trio.current_time() - begun == ASK_S
        assert "within 10 s" in answer.problem(503, "engine_unavailable")
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["retry_after"] == 1
        gate.set()


async def test_a_router_that_has_ended_is_unavailable(autojump_clock: MockClock) -> None:
    async with api() as rest:
        rest.world.services.stop()
        await rest.world.settle()
        answer = await rest.call(f"{API}/connections/x", "DELETE")
        assert "has ended" in answer.problem(503, "engine_unavailable")


async def test_an_answer_in_time_is_passed_on(autojump_clock: MockClock) -> None:
    async with api() as rest:
        context = make_context(rest.world.state, None, rest.world.router)
        answer: list[Receipt | Refusal] = await ask(context, lambda reply: Broadcast(reply, []))
        assert answer == []
