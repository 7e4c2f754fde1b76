"""What the real server refuses, as the contract's cases have it, and what the client's user gets to know of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import jwt
import pytest

from neurograph_ws_client import ClosedError, NeurographWSClient, RequestRefusedError, SubscriptionDeniedError
from ws_line import fixture
from ws_peer import Collected, Run, both_loops
from ws_router import Router, router
from ws_talk import Talk, filled, overhear, say_raw

REFUSED: Final = [case for case in fixture("client_messages.json") if not case["valid"]]
PERMISSIONS: Final = fixture("permissions.json")
CHANNELS: Final[list[str]] = PERMISSIONS["channels"]
KEY: Final = "0123456789abcdef0123456789abcdef"

#: What each token, or none, is to allow.
GRANTS: Final = [
    *(({"role": role}, allows) for role, allows in PERMISSIONS["table"].items()),
    *((case["claims"], case["allows"]) for case in PERMISSIONS["claims"]),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Router]:
    with router() as one:
        yield one


@pytest.fixture(scope="module")
def wide_server() -> Iterator[Router]:
    """It takes messages so large that an event in one may be too large."""
    with router(max_message_bytes=131_072) as one:
        yield one


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[Router]:
    with router(jwt_keys=KEY) as one:
        yield one


def token(claims: dict[str, Any]) -> str | None:
    return None if claims.get("role") == "anonymous" else jwt.encode({"sub": "alice", **claims}, KEY, "HS256")


@both_loops
@pytest.mark.parametrize("case", REFUSED, ids=[case["name"] for case in REFUSED])
def test_a_refused_message(run: Run, case: Any, server: Router, wide_server: Router) -> None:
    assert case.get("config") in (None, {"max_message_bytes": 131_072})

    async def scenario() -> None:
        async with NeurographWSClient((wide_server if "config" in case else server).url) as client:
            errors = Collected()
            client.on("error", errors)
            say_raw(client, filled(case.get("text_parts", [case.get("text")])))
            if "close" in case:
                with pytest.raises(ClosedError) as caught:
                    await client.run_forever()
                assert caught.value.code == case["close"]
                return
            [error] = await errors.until(1)
            expected = case["error"]
            assert isinstance(error, RequestRefusedError)
            assert (error.code, error.index) == (expected["code"], expected.get("index"))
            assert error.message == expected.get("message", error.message)
            assert error.message.startswith(expected.get("begins", ""))
            assert all(name in error.message for name in expected.get("names", ()))
            assert await client.ping() >= 0, "an error never closes the connection"

    run(scenario)


@both_loops
@pytest.mark.parametrize(("claims", "allows"), GRANTS)
def test_a_role(run: Run, claims: Any, allows: Any, guarded_server: Router) -> None:
    async def scenario() -> None:
        async with NeurographWSClient(guarded_server.url, token(claims)) as client:
            errors = Collected()
            client.on("error", errors)
            client.subscribe_multiple(CHANNELS, lambda event: None)
            assert await client.fetch_subscriptions() == sorted(name for name in CHANNELS if allows[name][0])
            denied = await errors.until(sum(not allows[name][0] for name in CHANNELS))
            assert all(isinstance(error, SubscriptionDeniedError) for error in denied)
            assert {error.channel: error.code for error in denied} == {
                name: "permission_denied" for name in CHANNELS if not allows[name][0]
            }
            published = {name: await _may_publish(client, name) for name in CHANNELS}
            assert published == {name: allows[name][1] for name in CHANNELS}

    run(scenario)


async def _may_publish(client: NeurographWSClient, channel: str) -> bool:
    try:
        await client.publish(channel, "x")
    except RequestRefusedError as error:
        if error.code != "permission_denied":
            raise
        return False
    return True


@both_loops
@pytest.mark.parametrize("case", PERMISSIONS["cases"], ids=[case["name"] for case in PERMISSIONS["cases"]])
def test_a_message_of_a_role(run: Run, case: Any, guarded_server: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        heard = overhear(monkeypatch)
        async with NeurographWSClient(guarded_server.url, token({"role": case["role"]})) as client:
            talk = Talk(client, heard)
            await talk.step({"expect": {"type": "connected"}})
            await talk.step({"send": case["send"]})
            await talk.step({"expect": case["expect"]})

    run(scenario)
