"""`POST tokens/revoke`."""

import pytest
from trio.testing import MockClock

from tests.rest.calls import WITH_KEY, api


async def test_one_token_is_revoked(autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        admin = rest.bearer("root", role="admin")
        bad, good = (rest.world.jwt("ada", jti=jti) for jti in ("t1", "t2"))
        lost, kept = await rest.world.connect(token=bad), await rest.world.connect(token=good)
        done = (await rest.post("tokens/revoke", {"jti": "t1"}, Authorization=admin)).ok()
        assert done == {"status": "ok", "sessions_ended": 1}
        assert (await lost.ended())[0] == 4501
        assert kept.usable
        (await rest.get("status", Authorization=f"Bearer {bad}")).problem(401, "invalid_token")
        (await rest.get("status", Authorization=f"Bearer {good}")).ok()


async def test_all_tokens_of_a_user_are_revoked(autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        admin = rest.bearer("root", role="admin")
        for _ in range(2):
            await rest.world.connect(token=rest.world.jwt("ada"))
        other = await rest.world.connect(token=rest.world.jwt("bob"))
        done = (await rest.post("tokens/revoke", {"sub": "ada"}, Authorization=admin)).ok()
        assert done["sessions_ended"] == 2
        assert other.usable
        assert (await rest.post("tokens/revoke", {"sub": "eve"}, Authorization=admin)).ok()["sessions_ended"] == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "give one of jti"),
        ({"jti": "a", "sub": "b"}, "give one of jti"),
        ({"jti": 5}, "jti: expected `str`"),
        ({"sub": ""}, "sub: expected `str` of length >= 1"),
        ({"sub": "x" * 257}, "sub: expected `str` of length <= 256"),
    ],
)
async def test_one_of_the_two_is_named(body: object, said: str, autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        answer = await rest.post("tokens/revoke", body, Authorization=rest.bearer(role="admin"))
        assert said in answer.problem(422, "invalid_message")


async def test_in_development_mode_there_are_no_tokens(autojump_clock: MockClock) -> None:
    async with api() as rest:
        assert "no tokens are checked" in (await rest.post("tokens/revoke", {"jti": "x"})).problem(409, "conflict")
