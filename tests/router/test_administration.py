"""What an administrator does to clients: disconnecting, revoking; and how many a user may have."""

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from router.config import Config
from router.letters import Disconnect, Revoke
from tests.router.harness import HS_KEY, WITH_KEY, World, running

PER_USER = Config(jwt_keys=(HS_KEY,), max_connections_per_user=2)


async def disconnect(world: World, client_id: str) -> bool:
    return await world.router.ask(lambda reply: Disconnect(reply, client_id))


async def revoke(world: World, *, token_id: str | None = None, user_id: str | None = None) -> int:
    return await world.router.ask(lambda reply: Revoke(reply, token_id=token_id, user_id=user_id))


# Disconnecting


async def test_a_disconnected_client_is_closed_4500_and_its_session_is_over(autojump_clock: MockClock) -> None:
    async with running() as world:
        watcher = await world.subscriber("connections")
        client = await world.subscriber("signals")
        watcher.take()
        assert await disconnect(world, client.client_id)
        assert await client.ended() == (4500, "disconnected by an administrator")
        event = await watcher.expect(event_type="client.disconnected")
        assert event["data"]["client_id"] == client.client_id
        assert (event["data"]["code"], event["data"]["total_connections"]) == (4500, 1)
        back = world.open(resume=client.token)
        await back.expect("connected", reconnected=False)
        await world.settle()
        assert [each["event_type"] for each in watcher.take()] == ["client.connected"]
        assert world.state.subscriptions.total == 1


async def test_a_session_without_a_connection_can_be_ended(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect()
        client.vanish()
        await client.ended()
        assert await disconnect(world, client.client_id)
        assert not await disconnect(world, client.client_id)
        world.assert_nothing_left()


async def test_who_is_not_there_cannot_be_disconnected(autojump_clock: MockClock) -> None:
    async with running() as world:
        assert not await disconnect(world, "nobody")


async def test_what_a_disconnected_client_has_sent_is_not_done(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(disconnect, world, client.client_id)
            client.subscribe("signals")
        await client.ended()
        assert world.state.subscriptions.total == 0


# Revoking


async def test_a_revoked_token_closes_4501_and_is_refused(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        token = world.jwt(jti="t1", ttl_s=3600)
        client = await world.connect(token=token)
        other = await world.connect(token=world.jwt(jti="t2"))
        assert await revoke(world, token_id="t1") == 1
        assert await client.ended() == (4501, "the token has been revoked")
        refused = world.open(token=token)
        assert await refused.ended() == (1008, "the token has been revoked")
        resumed = world.open(resume=client.token)
        await resumed.expect("connected", reconnected=False, role="anonymous")
        other.send("authenticate", token=token, id=1)
        await other.expect("error", id=1, code="invalid_token", message="the token has been revoked")
        other.send("ping")
        await other.expect("pong")


async def test_a_users_sessions_end_also_those_that_wait_for_a_connection(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        clients = [await world.connect(token=world.jwt(ttl_s=3600)) for _ in range(2)]
        bob = await world.connect(token=world.jwt("bob", ttl_s=3600))
        clients[0].vanish()
        await clients[0].ended()
        await trio.sleep(1)
        assert await revoke(world, user_id="ada") == 2
        assert await clients[1].ended() == (4501, "the token has been revoked")
        assert [session.identity.user_id for session in world.state.sessions] == ["bob"]
        await trio.sleep(1)
        await world.connect(token=world.jwt(ttl_s=3600))
        bob.send("ping")
        await bob.expect("pong")


async def test_a_token_revoked_while_its_connection_opens_does_not_get_in(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(WITH_KEY) as world:
        gate = await world.hold(monkeypatch)
        client = await world.opened(token=world.jwt(jti="t1"))
        world.state.revocations.revoke_token("t1")
        gate.set()
        assert await client.ended() == (4501, "the token has been revoked")
        await trio.sleep(5)
        world.assert_nothing_left()


async def test_a_token_revoked_while_it_signs_in_ends_the_session(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(WITH_KEY) as world:
        client = await world.connect()
        gate = await world.hold(monkeypatch)
        client.send("authenticate", token=world.jwt(jti="t1"), id=1)
        await world.settle()
        world.state.revocations.revoke_token("t1")
        gate.set()
        assert await client.ended() == (4501, "the token has been revoked")
        await trio.sleep(5)
        world.assert_nothing_left()


async def test_more_revocations_than_are_remembered_are_logged(autojump_clock: MockClock) -> None:
    async with running(Config(jwt_keys=(HS_KEY,), max_revocations=1)) as world:
        with capture_logs() as logs:
            await revoke(world, token_id="t1")
            assert logs == []
            await revoke(world, token_id="t2")
        assert [(record["log_level"], record["limit"]) for record in logs] == [("warning", 1)]
        await world.connect(token=world.jwt(jti="t1"))


# Connections of one user


async def test_one_more_than_a_user_may_have_is_closed_1013(autojump_clock: MockClock) -> None:
    reason = "the limit of 2 connections of one user is reached"
    async with running(PER_USER) as world:
        first, second = [await world.connect(token=world.jwt()) for _ in range(2)]
        third = world.open(token=world.jwt())
        assert await third.ended() == (1013, reason)
        await world.connect(token=world.jwt("bob"))
        for _ in range(3):
            await world.connect()
        second.vanish()
        await second.ended()
        await world.connect(token=world.jwt())
        back = world.open(resume=second.token)
        assert await back.ended() == (1013, reason)
        first.close()
        await first.ended()
        await world.connect(resume=second.token)


async def test_a_connection_that_takes_the_place_of_another_is_none_more(autojump_clock: MockClock) -> None:
    async with running(PER_USER) as world:
        first, _ = [await world.connect(token=world.jwt()) for _ in range(2)]
        again = world.open(resume=first.token)
        await again.expect("connected", reconnected=True)
        again.send("authenticate", token=world.jwt(), id=1)
        await again.expect("authenticated", id=1)


async def test_to_sign_in_later_is_no_way_around_the_limit(autojump_clock: MockClock) -> None:
    async with running(PER_USER) as world:
        for _ in range(2):
            await world.connect(token=world.jwt())
        client = await world.connect()
        client.send("authenticate", token=world.jwt(), id=1)
        assert await client.ended() == (1013, "the limit of 2 connections of one user is reached")
        assert len(list(world.state.sessions)) == 2
