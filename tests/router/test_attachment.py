"""Sessions and resume: how a connection gets its session, and what the session gets through."""

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from router.config import Config
from router.lanes import Lane
from router.ledger import Ledger
from router.letters import Depart, Disconnect, Emit
from tests.router.harness import SIGNED_IN_ONLY, WITH_KEY, Client, World, running, seqs

TAKEN_OVER = "another connection resumed this session"


async def detached(world: World, *channels: str, **more: Any) -> Client:
    """A client that was subscribed and has lost its connection; its session waits."""
    client = await world.connect(**more)
    if channels:
        client.subscribe(*channels)
        await client.expect("subscribed")
    client.vanish()
    await world.settle()
    assert world.state.sessions.connected == 0
    return client


def publish(world: World, count: int, channel: str = "signals") -> None:
    for _ in range(count):
        world.router.tell(Emit(channel, "x", b"{}"))


# A new session


async def test_connected_comes_first_and_says_all_that_a_client_has_to_know(autojump_clock: MockClock) -> None:
    async with running(Config(session_ttl_s=12.5, heartbeat_s=20, max_message_bytes=1000)) as world:
        client = await world.connect()
        session = world.state.sessions.by_client(client.client_id)
        assert session is not None
        assert client.connected == {
            "type": "connected",
            "client_id": session.client_id,
            "user_id": None,
            "timestamp": "2024-12-29T12:00:00.000Z",
            "role": "admin",
            "reconnected": False,
            "protocol": 1,
            "epoch": world.state.epoch,
            "heartbeat_s": 20,
            "max_message_bytes": 1000,
            "reconnection_token": session.token,
            "expires_in": 12.5,
        }


async def test_every_client_has_a_session_of_its_own(autojump_clock: MockClock) -> None:
    async with running() as world:
        clients = [await world.connect() for _ in range(3)]
        assert len({client.client_id for client in clients}) == 3
        assert len({client.token for client in clients}) == 3


# Resuming


async def test_a_resumed_session_keeps_its_name_its_subscriptions_and_what_it_missed(
    autojump_clock: MockClock,
) -> None:
    async with running() as world:
        gone = await detached(world, "signals", "logs")
        publish(world, 3)
        await world.settle()
        client = await world.connect(resume=gone.token)
        assert client.connected == {
            **gone.connected,
            "reconnected": True,
            "reconnection_token": client.token,
            "channels": ["logs", "signals"],
            "positions": {
                "logs": {"epoch": world.state.epoch, "seq": 0},
                "signals": {"epoch": world.state.epoch, "seq": 0},
            },
        }
        assert client.token != gone.token
        await world.settle()
        publish(world, 1)
        await world.settle()
        assert seqs(client.take()) == [1, 2, 3, 4]


async def test_a_session_without_subscriptions_is_resumed_too(autojump_clock: MockClock) -> None:
    async with running() as world:
        gone = await detached(world)
        client = await world.connect(resume=gone.token)
        assert client.client_id == gone.client_id
        assert (client.connected["channels"], client.connected["positions"]) == ([], {})


async def test_the_marks_are_behind_what_the_client_was_sent(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        publish(world, 5)
        await world.settle()
        assert seqs(client.take()) == [1, 2, 3, 4, 5]
        client.vanish()
        await world.settle()
        publish(world, 2)
        heir = await world.connect(resume=client.token)
        assert heir.connected["positions"]["signals"]["seq"] == 5
        await heir.expect(None, seq=6)
        await heir.expect(None, seq=7)


async def test_a_detached_session_keeps_a_thousand_events_and_says_what_it_dropped(autojump_clock: MockClock) -> None:
    async with running(Config(router_mailbox=2000)) as world:
        gone = await detached(world, "signals")
        publish(world, 1300)
        await world.settle()
        client = await world.connect(resume=gone.token)
        assert client.connected["positions"]["signals"]["seq"] == 0
        gap = await client.expect("gap", of="signals", count=300, reason="buffer_overflow", epoch=world.state.epoch)
        assert (gap["from"], gap["to"]) == (1, 300)
        await world.settle()
        assert seqs(client.take()) == list(range(301, 1301))


async def test_a_session_expires_to_the_second_also_if_nobody_looks(autojump_clock: MockClock) -> None:
    """Without the watch there are no ticks: the router finds out when somebody asks for the session."""
    async with running() as world:
        gone = [await detached(world, "signals") for _ in range(2)]
        await trio.sleep(299.9)
        assert (await world.connect(resume=gone[0].token)).connected["reconnected"]
        await trio.sleep(0.2)
        client = await world.connect(resume=gone[1].token)
        assert not client.connected["reconnected"]
        assert "channels" not in client.connected
        assert client.client_id != gone[1].client_id
        assert len(world.state.sessions) == 2


async def test_a_session_that_nobody_comes_back_for_is_forgotten(autojump_clock: MockClock) -> None:
    async with running(watched=True) as world:
        await detached(world, "signals", "logs")
        assert world.state.subscriptions.total == 2
        await trio.sleep(302)
        world.assert_nothing_left()


async def test_an_unknown_token_is_no_error(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect(resume="no-such-token")
        assert not client.connected["reconnected"]


async def test_of_too_many_detached_sessions_the_oldest_is_evicted(autojump_clock: MockClock) -> None:
    async with running(Config(max_detached_sessions=2)) as world:
        gone = [await detached(world, "signals") for _ in range(3)]
        assert world.state.sessions.evicted == 1
        assert world.state.subscriptions.total == 2
        assert [(await world.connect(resume=each.token)).connected["reconnected"] for each in gone] == [
            False,
            True,
            True,
        ]


@pytest.mark.parametrize(
    ("code", "kept"),
    [(1000, False), (1001, True), (3000, True), (4000, True), (4499, True), (4500, False), (4999, False)],
)
async def test_a_session_ends_with_its_connection_if_the_client_closes_it_for_good(
    code: int, kept: bool, autojump_clock: MockClock
) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        client.close(code)
        assert await client.ended() == (code, "")
        await world.settle()
        assert len(world.state.sessions) == kept
        heir = await world.connect(resume=client.token)
        assert heir.connected["reconnected"] == kept


async def test_a_session_outlives_an_error_of_its_client(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        client.send_text("x" * 70_000)
        assert (await client.ended())[0] == 1009
        assert (await world.connect(resume=client.token)).connected["reconnected"]


# The life of a token


async def test_a_token_works_until_the_first_message_on_the_new_connection(autojump_clock: MockClock) -> None:
    """However often `connected`, and the new token with it, is lost on the way."""
    async with running() as world:
        gone = await detached(world, "signals")
        for _ in range(3):
            client = await world.connect(resume=gone.token)
            assert client.client_id == gone.client_id
            client.vanish()
            await world.settle()
        client = await world.connect(resume=gone.token)
        client.send("ping")
        await client.expect("pong")
        client.vanish()
        await world.settle()
        assert not (await world.connect(resume=gone.token)).connected["reconnected"]
        assert (await world.connect(resume=client.token)).connected["reconnected"]


async def test_any_message_counts_as_the_first_one_also_where_it_has_no_reply(autojump_clock: MockClock) -> None:
    async with running() as world:
        gone = await detached(world)
        client = await world.connect(resume=gone.token)
        client.send("pong")
        await world.settle()
        assert not (await world.connect(resume=gone.token)).connected["reconnected"]


async def test_a_fresh_token_makes_all_earlier_ones_useless(autojump_clock: MockClock) -> None:
    async with running(Config(session_ttl_s=2.5)) as world:
        client = await world.connect()
        client.send("get_reconnection_token", id=1)
        first = await client.expect("reconnection_token", id=1, expires_in=2.5, timestamp="2024-12-29T12:00:00.000Z")
        client.send("get_reconnection_token")
        second = await client.expect("reconnection_token")
        client.vanish()
        await world.settle()
        tokens = (client.token, first["token"], second["token"])
        reconnected = [(await world.connect(resume=token)).connected["reconnected"] for token in tokens]
        assert reconnected == [False, False, True]


async def test_a_message_that_was_under_way_on_the_old_connection_does_not_count_as_the_first_on_the_new_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as world:
        elder = await world.connect()
        gate = await world.hold(monkeypatch)
        heir = world.open(resume=elder.token)
        await world.settle()
        elder.send("ping")
        await world.settle()
        gate.set()
        await heir.expect("connected")
        await world.settle()
        third = await world.connect(resume=elder.token)
        assert third.connected["reconnected"]


# Taking over


async def test_the_connection_that_a_session_had_is_closed_and_what_it_had_queued_passes_on(
    autojump_clock: MockClock,
) -> None:
    """All of it: the bound for detached sessions is not for one that was never detached."""
    async with running(Config(router_mailbox=4000)) as world:
        elder = await world.subscriber("signals")
        elder.stall()
        publish(world, 3000)
        await world.settle()
        heir = await world.connect(resume=elder.token)
        assert heir.connected["positions"]["signals"]["seq"] == 0
        await world.settle()
        assert seqs(heir.take()) == list(range(1, 3001))
        elder.flow()
        assert await elder.ended() == (4502, TAKEN_OVER)
        assert elder.take() == []
        await world.settle()
        assert len(world.state.sessions) == world.state.sessions.connected == 1


@pytest.mark.parametrize("plain", [False, True])
async def test_a_frame_that_is_partly_out_is_the_old_connections_wherever_that_was_full(
    plain: bool, autojump_clock: MockClock
) -> None:
    """What the old one gets, the new one does not, whatever the old one was given: over a stream, all of a write."""
    async with running() as world:
        partly = 0
        for room in itertools.count():
            elder = await world.subscriber("signals", plain=plain)
            first = world.state.streams["signals"].seq + 1
            elder.stall(room)
            publish(world, 2)
            await world.settle()
            publish(world, 2)
            await world.settle()
            whole = len(elder.take())
            heir = await world.connect(resume=elder.token)
            mark = heir.connected["positions"]["signals"]["seq"]
            await world.settle()
            assert seqs(heir.take()) == list(range(mark + 1, first + 4))
            elder.flow()
            heir.close()
            assert await elder.ended() == (4502, TAKEN_OVER)
            assert seqs(elder.take()) == list(range(first + whole, mark + 1))
            await world.settle()
            partly += mark >= first + whole
            if whole == 4:
                break
        world.assert_nothing_left()
        assert partly > 300 or plain, "it was tried at every byte of four frames"


async def test_two_connections_that_resume_at_once_take_over_one_after_the_other(autojump_clock: MockClock) -> None:
    async with running() as world:
        gone = await detached(world, "signals")
        clients = [world.open(resume=gone.token) for _ in range(3)]
        for client in clients:
            await client.expect("connected", reconnected=True, client_id=gone.client_id)
        await world.settle()
        (last,) = (client for client in clients if client.closed is None)
        assert [client.closed for client in clients if client is not last] == [(4502, TAKEN_OVER)] * 2
        publish(world, 1)
        await last.expect(None, seq=1)
        assert world.state.subscriptions.total == 1


async def test_what_the_old_connection_sent_before_is_published_but_changes_nothing_for_the_new_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as world:
        elder = await world.subscriber("signals")
        gate = await world.hold(monkeypatch)
        heir = world.open(resume=elder.token)
        await world.settle()
        elder.subscribe("logs", id=1)
        elder.publish(id=2)
        elder.send("unsubscribe", channels=["signals"], id=3)
        elder.send("get_reconnection_token", id=4)
        await world.settle()
        gate.set()
        connected = await heir.expect("connected", channels=["signals"])
        await heir.expect(None, channel="signals", seq=1)
        heir.send("get_subscriptions")
        await heir.expect("subscriptions", channels=["signals"])
        assert (await elder.ended())[0] == 4502
        assert elder.take() == []
        assert world.state.sessions.by_token(connected["reconnection_token"]) is not None


async def test_the_departure_of_a_connection_that_was_taken_over_ends_nothing(autojump_clock: MockClock) -> None:
    async with running() as world:
        elder = await world.subscriber("signals")
        heir = await world.connect(resume=elder.token)
        assert (await elder.ended())[0] == 4502
        await world.settle()
        assert len(world.connections) == 1
        publish(world, 1)
        await heir.expect(None, seq=1)


async def test_a_refused_resume_leaves_the_open_connection_alone(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        elder = await world.connect(token=world.jwt("ada"))
        other = world.open(resume=elder.token, token=world.jwt("bob"))
        assert (await other.ended())[0] == 1008
        elder.send("ping", id=1)
        await elder.expect("pong", id=1)


# Who resumes


async def test_a_token_restores_user_and_role(autojump_clock: MockClock) -> None:
    async with running(SIGNED_IN_ONLY) as world:
        gone = await detached(world, "signals", token=world.jwt("ada", role="developer"))
        client = await world.connect(resume=gone.token)
        assert (client.connected["user_id"], client.connected["role"]) == ("ada", "developer")
        client.publish(id=1)
        await client.expect("error", id=1, code="permission_denied")


async def test_a_jwt_that_comes_along_replaces_the_claims_and_permissions_are_checked_anew(
    autojump_clock: MockClock,
) -> None:
    async with running(WITH_KEY) as world:
        gone = await detached(world, "signals", "logs", "metrics", token=world.jwt("ada", role="developer"))
        publish(world, 2)
        publish(world, 2, "metrics")
        await world.settle()
        client = await world.connect(resume=gone.token, token=world.jwt("ada", role="viewer"))
        assert client.connected["role"] == "viewer"
        assert client.connected["channels"] == ["metrics"]
        assert list(client.connected["positions"]) == ["metrics"]
        assert client.connected["denied"] == ["logs", "signals"]
        assert client.connected["reasons"] == {"logs": "permission_denied", "signals": "permission_denied"}
        await world.settle()
        assert [(event["channel"], event["seq"]) for event in client.take()] == [("metrics", 1), ("metrics", 2)]
        assert world.state.subscriptions.total == 1
        client.publish("signals", id=1)
        await client.expect("error", id=1, code="permission_denied")


@pytest.mark.parametrize("user", ["bob", None])
async def test_another_users_jwt_is_refused_and_the_session_stays(user: str | None, autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        gone = await detached(world, token=world.jwt("ada"))
        client = world.open(resume=gone.token, token=world.jwt(user))
        assert await client.ended() == (1008, "the token is another user's than the session")
        assert client.take() == []
        assert (await world.connect(resume=gone.token, token=world.jwt("ada"))).connected["reconnected"]


async def test_who_was_anonymous_may_come_back_signed_in(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        gone = await detached(world, "metrics")
        client = await world.connect(resume=gone.token, token=world.jwt("ada", role="bot"))
        assert client.client_id == gone.client_id
        assert (client.connected["user_id"], client.connected["role"]) == ("ada", "bot")


async def test_a_token_restores_nobody_for_longer_than_the_jwt_that_it_came_from(autojump_clock: MockClock) -> None:
    """The session waits for who comes back with a fresh one, as 4002 asks for."""
    async with running(WITH_KEY) as world:
        gone = await detached(world, "metrics", token=world.jwt("ada", ttl_s=100))
        await trio.sleep(99)
        client = await world.connect(resume=gone.token)
        assert client.connected["user_id"] == "ada"
        client.vanish()
        await trio.sleep(1)
        late = world.open(resume=gone.token)
        assert await late.ended() == (4002, "the session's token has expired")
        assert late.take() == []
        fresh = await world.connect(resume=gone.token, token=world.jwt("ada", ttl_s=100))
        assert fresh.client_id == gone.client_id


async def test_a_resumed_connection_ends_with_the_jwt_that_its_session_came_from(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY, watched=True) as world:
        gone = await detached(world, token=world.jwt("ada", ttl_s=100))
        await trio.sleep(80)
        client = await world.connect(resume=gone.token)
        await client.expect("token_expiring")
        assert await client.ended() == (4002, "the token has expired")
        assert 100 <= trio.current_time() <= 101


async def test_who_resumes_with_an_expired_jwt_is_refused_for_that(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        expired = world.jwt("ada", ttl_s=5)
        gone = await detached(world, token=world.jwt("ada", ttl_s=100))
        await trio.sleep(10)
        assert await world.open(resume=gone.token, token=expired).ended() == (1008, "the token has expired")


# What the `connections` channel tells


async def test_the_connections_channel_tells_who_comes_subscribes_and_goes(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        watcher = await world.subscriber("connections", token=world.jwt("root", role="admin"))
        client = await world.connect(token=world.jwt("ada", role="bot"))
        client.subscribe("signals", "logs", "metrics")
        client.subscribe("signals")
        client.send("unsubscribe", channels=["metrics", "status"])
        client.send("unsubscribe", channels=["metrics"])
        await world.settle()
        client.close(4321)
        await world.settle()
        heir = await world.connect(resume=client.token)
        heir.close()
        await world.settle()
        told = [(event["event_type"], event["data"]) for event in watcher.take()]
        ada: dict[str, Any] = {"client_id": client.client_id, "user_id": "ada", "total_connections": 2}
        gone: dict[str, Any] = {**ada, "total_connections": 1, "reason": None, "ledger": account()}
        assert told[0][0] == "client.subscribed"  # its own
        assert told[1:] == [
            ("client.connected", ada),
            ("client.subscribed", {**ada, "channels": ["signals", "metrics"]}),
            ("client.unsubscribed", {**ada, "channels": ["metrics"]}),
            ("client.disconnected", {**gone, "code": 4321}),
            ("client.resumed", {**ada, "channels": ["signals"]}),
            ("client.disconnected", {**gone, "code": 1000}),
        ]


def account(**figures: Any) -> dict[str, Any]:
    """A ledger whose other figures are 0."""
    names = ("offered", "filtered", "matched", "delivered", "queued", "replaced", "resent")
    return {**dict.fromkeys(names, 0), "dropped": {}, **figures}


async def goes_with_news_waiting(world: World, leave: Callable[[Client], Awaitable[None]]) -> dict[str, Any]:
    """A client of two channels gets an event, leaves while three wait; what `connections` tells of that."""
    watcher = await world.subscriber("connections")
    client = await world.connect()
    client.send("subscribe", channels=["signals", "logs"], filter={"data.n": {"$lt": 9}})
    await client.expect("subscribed")
    publisher = await world.connect()
    for n in (0, 9):
        publisher.send("publish", channel="signals", event_type="x", data={"n": n})
    await client.expect(channel="signals")
    client.stall()
    for channel in ("signals", "logs", "logs"):
        publisher.send("publish", channel=channel, event_type="x", data={"n": 1})
    await world.settle()
    await leave(client)
    await world.settle()
    (told,) = [each["data"] for each in watcher.take() if each.get("event_type") == "client.disconnected"]
    assert told["client_id"] == client.client_id
    data: dict[str, Any] = told
    return data


FOUR_OF_FIVE = {"offered": 5, "filtered": 1, "matched": 4, "delivered": 1}


async def test_who_may_come_back_leaves_with_an_open_account(autojump_clock: MockClock) -> None:
    async def vanish(client: Client) -> None:
        client.vanish()

    async with running() as world:
        told = await goes_with_news_waiting(world, vanish)
        assert told["ledger"] == account(**FOUR_OF_FIVE, queued=3)


async def test_who_leaves_for_good_leaves_with_a_closed_account(autojump_clock: MockClock) -> None:
    async with running() as world:

        async def depart(client: Client) -> None:
            session = world.state.sessions.by_client(client.client_id)
            assert session is not None
            assert session.lane is not None
            world.router.tell(Depart(session, session.lane, 1000, ""))

        told = await goes_with_news_waiting(world, depart)
        assert (told["code"], told["ledger"]) == (1000, account(**FOUR_OF_FIVE, dropped={"closed": 3}))
        assert world.state.ledger_of_channel("logs") == Ledger(2, 0, 2, dropped={"closed": 2})


async def test_whoever_is_expelled_leaves_with_a_closed_account(autojump_clock: MockClock) -> None:
    async with running() as world:

        async def expel(client: Client) -> None:
            found: bool = await world.router.ask(lambda reply: Disconnect(reply, client.client_id))
            assert found

        told = await goes_with_news_waiting(world, expel)
        assert (told["code"], told["ledger"]) == (4500, account(**FOUR_OF_FIVE, dropped={"closed": 3}))


async def test_a_take_over_tells_the_account_as_it_stands(autojump_clock: MockClock) -> None:
    async with running() as world:

        async def take_over(client: Client) -> None:
            world.open(resume=client.token)

        told = await goes_with_news_waiting(world, take_over)
        assert (told["code"], told["ledger"]) == (4502, account(**FOUR_OF_FIVE, queued=3))


async def test_the_connections_channel_tells_of_a_take_over_once(autojump_clock: MockClock) -> None:
    async with running() as world:
        watcher = await world.subscriber("connections")
        elder = await world.connect()
        await world.connect(resume=elder.token)
        await elder.ended()
        await world.settle()
        told = [(event["event_type"], event["data"].get("code")) for event in watcher.take()[1:]]
        assert told == [("client.connected", None), ("client.disconnected", 4502), ("client.resumed", None)]


async def test_who_watches_the_connections_sees_its_own_return_behind_connected(autojump_clock: MockClock) -> None:
    async with running() as world:
        gone = await detached(world, "connections")
        client = await world.connect(resume=gone.token)
        mark = client.connected["positions"]["connections"]["seq"]
        await world.settle()
        told = client.take()
        assert [event["event_type"] for event in told] == [
            "client.subscribed",
            "client.disconnected",
            "client.resumed",
        ][-len(told) :]
        assert seqs(told, "connections") == list(range(mark + 1, mark + 1 + len(told)))


# Nobody there any more


async def test_a_connection_that_has_ended_while_it_waited_gets_no_session(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as world:
        gone = await detached(world, "signals")
        gate = await world.hold(monkeypatch)
        waiting = [world.open(), world.open(resume=gone.token)]
        await world.settle()
        world.connections.stop()
        await trio.sleep(10)  # they are cancelled, for they do not look at their mailboxes meanwhile
        assert [client.closed for client in waiting] == [(1006, "")] * 2
        gate.set()
        await world.settle()
        assert world.state.sessions.connected == 0
        assert [session.client_id for session in world.state.sessions] == [gone.client_id]
        assert world.state.sessions.by_token(gone.token) is not None


async def test_a_connection_that_is_cancelled_in_the_step_in_which_it_gets_its_session_gives_it_back(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach = Lane.attach

    def attach_and_stop(lane: Lane, outbox: Any) -> None:
        attach(lane, outbox)
        for child in world.connections._spawned.values():
            child.cancel()

    async with running() as world:
        monkeypatch.setattr(Lane, "attach", attach_and_stop)
        client = world.open()
        await client.ended()
        await world.settle()
        assert len(world.state.sessions) == 1
        assert world.state.sessions.connected == 0
        await trio.sleep(301)
        world.router.tell("tick")
        await world.settle()
        world.assert_nothing_left()
