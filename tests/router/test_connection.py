"""The connection actor: signing in, reading, and all the ways in which a connection ends."""

import json
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from router.auth.tokens import Authenticator, Identity
from router.config import Config
from router.errors import CloseCode
from router.hub.actor import Hub
from router.hub.attachment import attach
from router.hub.state import RouterState
from router.intake import Intake
from router.letters import Attach, Drain, Emit, Message
from tests.router.harness import SIGNED_IN_ONLY, WITH_KEY, running, seqs


def authenticate(token: str, **fields: object) -> str:
    return json.dumps({"type": "authenticate", "token": token, **fields})


PING = '{"type":"ping","id":"ping"}'

# Signing in


async def test_without_a_token_and_with_anonymous_allowed_one_is_connected_at_once(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        client = await world.connect()
        assert (client.connected["user_id"], client.connected["role"]) == (None, "anonymous")


@pytest.mark.parametrize("way", ["header", "subprotocol", "query"])
@pytest.mark.parametrize("config", [WITH_KEY, SIGNED_IN_ONLY], ids=["anonymous allowed", "anonymous refused"])
async def test_a_token_may_come_with_the_handshake(way: str, config: Config, autojump_clock: MockClock) -> None:
    async with running(config) as world:
        token = world.jwt("ada", role="bot")
        match way:
            case "header":
                client = await world.connect(token=token)
            case "subprotocol":
                client = await world.connect(protocols=[f"bearer.{token}", "neurograph.v1"])
                assert client.subprotocol == "neurograph.v1"
            case _:
                client = await world.connect(f"token={token}")
        assert (client.connected["user_id"], client.connected["role"]) == ("ada", "bot")


async def test_the_first_place_with_a_token_wins(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        client = await world.connect(
            f"token={world.jwt('query')}",
            token=world.jwt("header"),
            protocols=["neurograph.v1", f"bearer.{world.jwt('protocol')}"],
        )
        assert client.connected["user_id"] == "header"
        client = await world.connect(
            f"token={world.jwt('query')}", protocols=["neurograph.v1", f"bearer.{world.jwt('protocol')}"]
        )
        assert client.connected["user_id"] == "protocol"


async def test_a_bad_token_is_refused_behind_the_handshake_with_the_reason(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        for query in ("token=nonsense", f"token={world.jwt('ada', ttl_s=-1)}"):
            client = world.open(query)
            code, reason = await client.ended()
            assert (code, reason) in ((1008, "not a well-formed token"), (1008, "the token has expired"))
            assert client.take() == []
        await world.settle()
        world.assert_nothing_left()


async def test_where_anonymous_is_refused_nothing_is_said_until_authenticate_comes(autojump_clock: MockClock) -> None:
    async with running(SIGNED_IN_ONLY) as world:
        client = world.open()
        await trio.sleep(9.9)
        assert client.take() == []
        assert len(world.state.sessions) == 0
        client.send_text(authenticate(world.jwt("ada", role="developer"), id=7))
        connected = await client.expect("connected", user_id="ada", role="developer", reconnected=False)
        assert connected["id"] == 7, "it is the one reply to the message"
        await trio.sleep(60)
        client.send("ping")
        await client.expect("pong")


async def test_sign_in_has_ten_seconds(autojump_clock: MockClock) -> None:
    async with running(SIGNED_IN_ONLY) as world:
        client = world.open()
        await trio.sleep(9.9)
        assert client.usable
        await trio.sleep(0.2)
        assert client.closed == (1008, "sign-in took too long")
        await world.settle()
        world.assert_nothing_left()


async def test_what_came_in_time_may_take_its_time_to_be_checked(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And there is one session for it, not two."""

    async def verify(authenticator: Authenticator, token: str) -> Identity:
        await trio.sleep(5)
        return Identity(user_id=token)

    monkeypatch.setattr(Authenticator, "verify", verify)
    async with running(SIGNED_IN_ONLY) as world:
        client = world.open()
        await trio.sleep(9)
        client.send_text(authenticate("ada"), PING)
        await client.expect("connected", user_id="ada")
        await client.expect("pong")
        assert len(world.state.sessions) == 1


async def test_a_router_that_is_busy_when_the_ten_seconds_end_gives_one_session(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(SIGNED_IN_ONLY) as world:
        client = world.open()
        await trio.sleep(9)
        gate = await world.hold(monkeypatch)
        client.send_text(authenticate(world.jwt()))
        await trio.sleep(5)
        assert client.take() == []
        gate.set()
        await client.expect("connected")
        assert len(world.state.sessions) == 1


@pytest.mark.parametrize(
    "text",
    [
        PING,
        "nonsense",
        "[]",
        '{"type":"authenticate"}',
        '{"type":"authenticate","token":5,"id":1}',
        '{"type":"nope"}',
        '{"type":"publish","channel":"signals","event_type":"x"}',
    ],
)
async def test_the_first_message_must_be_authenticate(text: str, autojump_clock: MockClock) -> None:
    async with running(SIGNED_IN_ONLY) as world:
        client = await world.opened()
        client.send_text(text, authenticate(world.jwt()), PING)
        assert await client.ended() == (1008, "the first message must be authenticate")
        assert client.take() == []
        await world.settle()
        world.assert_nothing_left()


async def test_a_binary_first_message_is_refused_for_being_binary(autojump_clock: MockClock) -> None:
    async with running(SIGNED_IN_ONLY) as world:
        client = await world.opened()
        client.send_binary(authenticate(world.jwt()).encode())
        assert (await client.ended())[0] == 1003
        assert client.take() == []


async def test_a_bad_token_in_the_first_message_closes(autojump_clock: MockClock) -> None:
    async with running(SIGNED_IN_ONLY) as world:
        client = await world.opened()
        client.send_text(authenticate("a.b.c", id=1), authenticate(world.jwt()))
        assert await client.ended() == (1008, "not a well-formed token")
        assert client.take() == []
        await world.settle()
        world.assert_nothing_left()


async def test_what_came_with_authenticate_is_served_after_connected(autojump_clock: MockClock) -> None:
    async with running(SIGNED_IN_ONLY) as world:
        client = await world.opened()
        client.send_text(
            authenticate(world.jwt(role="admin")),
            '{"type":"subscribe","channels":["signals"],"id":1}',
            '{"type":"publish","channel":"signals","event_type":"x","id":2}',
        )
        await client.expect("connected", role="admin")
        await client.expect("subscribed", id=1)
        await client.expect("published", id=2)
        await client.expect(None, seq=1)


async def test_who_signs_in_when_the_server_is_going_down_is_told_that(autojump_clock: MockClock) -> None:
    async with running(SIGNED_IN_ONLY) as world:
        client = await world.opened()
        await world.router.ask(Drain)
        client.send_text(authenticate(world.jwt()), PING)
        assert await client.ended() == (1001, "the server is going down")
        assert client.take() == []


async def test_authenticate_may_come_in_fragments(autojump_clock: MockClock) -> None:
    async with running(SIGNED_IN_ONLY) as world:
        client = await world.opened()
        text = authenticate(world.jwt())
        client.send_fragments(text[:10], text[10:20], text[20:])
        client.send_text(PING)
        await client.expect("connected")
        await client.expect("pong")


async def test_a_client_that_leaves_before_it_has_signed_in_leaves_nothing(autojump_clock: MockClock) -> None:
    async with running(SIGNED_IN_ONLY) as world:
        vanished, closed = world.open(), world.open()
        await world.settle()
        vanished.vanish()
        closed.close()
        await closed.ended()
        await world.settle()
        assert trio.current_time() < 1, "it does not wait for the ten seconds"
        world.assert_nothing_left()


async def test_a_client_that_leaves_while_its_token_is_checked_leaves_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def verify(authenticator: Authenticator, token: str) -> Identity:
        await trio.sleep(5)
        return Identity(user_id=token)

    monkeypatch.setattr(Authenticator, "verify", verify)
    async with running(SIGNED_IN_ONLY) as world:
        first, second = world.open("token=ada"), await world.opened()
        second.send_text(authenticate("ada"))
        await trio.sleep(1)
        for client in (first, second):
            client.lane.close(CloseCode.GOING_AWAY, "the server is going down")
        assert [(await client.ended())[0] for client in (first, second)] == [1001, 1001]
        await trio.sleep(10)
        world.assert_nothing_left()


@pytest.mark.parametrize("token", ["no-such-token", ""])
async def test_a_reconnection_token_that_resumes_nothing_lets_nobody_in(token: str, autojump_clock: MockClock) -> None:
    async with running(SIGNED_IN_ONLY) as world:
        client = world.open(f"reconnection_token={token}")
        await trio.sleep(1)
        assert client.take() == []
        client.send_text(authenticate(world.jwt("ada"), id=1))
        await client.expect("connected", reconnected=False, user_id="ada", id=1)
        other = world.open(f"reconnection_token={token}")
        assert await other.ended() == (1008, "sign-in took too long")


async def test_in_development_mode_a_token_is_not_looked_at_and_that_is_logged_once(autojump_clock: MockClock) -> None:
    async with running() as world:
        with structlog.testing.capture_logs() as logged:
            clients = [await world.connect(f"token=nonsense-{number}") for number in range(3)]
        assert [client.connected["role"] for client in clients] == ["admin"] * 3
        assert [entry["log_level"] for entry in logged] == ["warning"]
        assert "nonsense" not in str(logged)


async def test_development_mode_lets_everybody_in_whatever_is_said_of_anonymous_ones(
    autojump_clock: MockClock,
) -> None:
    async with running(Config(allow_anonymous=False)) as world:
        assert (await world.connect()).connected["role"] == "admin"


# Signing in on an open connection


async def test_authenticate_signs_in_who_was_anonymous(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        client = await world.connect()
        client.send_text(authenticate(world.jwt("ada", role="bot", ttl_s=60), id=1), PING)
        await client.expect(
            "authenticated",
            id=1,
            user_id="ada",
            role="bot",
            expires_at="2024-12-29T12:01:00.000Z",
            timestamp="2024-12-29T12:00:00.000Z",
        )
        await client.expect("pong")
        client.subscribe("signals")
        await client.expect("subscribed", channels=["signals"])
        assert [session.client_id for session in world.state.sessions.by_user("ada")] == [client.client_id]


async def test_what_follows_authenticate_in_the_same_read_is_judged_by_the_new_claims(
    autojump_clock: MockClock,
) -> None:
    async with running(WITH_KEY) as world:
        client = await world.connect()
        subscribe = '{"type":"subscribe","channels":["signals"],"id":%d}'
        client.send_text(subscribe % 1, authenticate(world.jwt(role="bot"), id=2), subscribe % 3)
        await client.expect("subscribed", id=1, denied=["signals"])
        await client.expect("authenticated", id=2, expires_at=None)
        await client.expect("subscribed", id=3, channels=["signals"])


@pytest.mark.parametrize("bad", ["nonsense", "another user's", "nobody's", "expired"])
async def test_a_token_that_is_no_good_changes_nothing(bad: str, autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        client = await world.connect(token=world.jwt("ada", role="admin"))
        tokens = {
            "nonsense": "nonsense",
            "another user's": world.jwt("bob", role="admin"),
            "nobody's": world.jwt(None, role="admin"),
            "expired": world.jwt("ada", ttl_s=-5),
        }
        client.send_text(authenticate(tokens[bad], id=1), PING)
        error = await client.expect("error", code="invalid_token", id=1)
        assert "token" in error["message"]
        await client.expect("pong")
        client.publish(id=2)
        await client.expect("published", id=2)
        (session,) = world.state.sessions.by_user("ada")
        assert session.client_id == client.client_id


async def test_the_old_token_stays_good_only_until_it_expires(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY, watched=True) as world:
        client = await world.connect(token=world.jwt("ada", ttl_s=20))
        client.send_text(authenticate("nonsense"))
        await client.expect("error", code="invalid_token")
        assert (await client.ended())[0] == 4002
        assert 20 <= trio.current_time() <= 21


async def test_authenticate_in_development_mode_leaves_everybody_an_administrator(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect()
        client.subscribe("signals")
        await client.expect("subscribed")
        client.send_text(authenticate("anything", id=1))
        await client.expect("authenticated", id=1, user_id=None, role="admin", expires_at=None)
        await world.settle()
        assert client.take() == []


async def test_what_new_claims_do_not_allow_ends(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        watcher = await world.subscriber("connections", token=world.jwt("root", role="admin"))
        client = await world.subscriber("signals", "metrics", "logs", token=world.jwt("ada", role="developer"))
        await world.settle()
        watcher.take()
        client.send_text(authenticate(world.jwt("ada", role="viewer"), id=1), PING)
        await client.expect("authenticated", id=1, role="viewer")
        await client.expect(
            "unsubscribed",
            channels=["logs", "signals"],
            reason="permission_denied",
            timestamp="2024-12-29T12:00:00.000Z",
        )
        await client.expect("pong")
        for channel in ("signals", "logs", "metrics"):
            world.router.tell(Emit(channel, "x", b"{}"))
        await client.expect(None, channel="metrics")
        await world.settle()
        assert client.take() == []
        (event,) = watcher.take()
        assert event["event_type"] == "client.unsubscribed"
        assert (event["data"]["channels"], event["data"]["reason"]) == (["logs", "signals"], "permission_denied")


# Reading


async def test_a_binary_message_closes_and_what_came_before_it_is_served(autojump_clock: MockClock) -> None:
    async with running() as world:
        listener = await world.subscriber("signals")
        client = await world.connect()
        client.publish()
        client.send_binary(b"{}")
        client.publish()
        assert await client.ended() == (1003, "binary messages are not taken")
        await listener.expect(None, seq=1)
        await world.settle()
        assert listener.take() == []


async def test_a_message_in_fragments_keeps_its_place(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect()
        client.send("ping", id=1)
        client.send_fragments('{"type":', '"ping","id":2}')
        client.send("ping", id=3)
        for number in (1, 2, 3):
            await client.expect("pong", id=number)


async def test_too_many_messages_for_ten_seconds_close(autojump_clock: MockClock) -> None:
    async with running(Config(max_messages_per_s=5)) as world:
        client = await world.connect()
        for _ in range(50):
            client.send("pong")
        await world.settle()
        assert client.usable
        client.send("pong")
        assert await client.ended() == (4004, "too many messages")


async def test_a_client_that_does_not_read_its_replies_is_closed(autojump_clock: MockClock) -> None:
    async with running(Config(control_messages=10)) as world:
        client = await world.connect()
        client.stall()
        for _ in range(20):
            client.send("ping")
            await world.settle()
        assert client.lane.close_request == (4003, "the client does not read its replies")
        await trio.sleep(3)
        assert len(world.connections) == 0
        assert world.state.sessions.connected == 0


async def test_a_client_that_closes_and_reads_no_more_is_not_held(autojump_clock: MockClock) -> None:
    """The answer to its close frame waits for a reader that will never come."""
    async with running() as world:
        client = await world.connect()
        client.stall()
        client.close(1000)
        await trio.sleep(3)
        assert len(world.connections) == 0
        assert world.state.sessions.connected == 0


async def test_a_client_that_closes_amid_events_it_does_not_read_is_held_no_longer_than_a_silent_one(
    autojump_clock: MockClock,
) -> None:
    async with running(watched=True) as world:
        client = await world.subscriber("signals")
        publisher = await world.connect()
        client.stall(10)
        publisher.publish("signals")
        await world.settle()
        client.close(1000)
        await trio.sleep(95)
        assert client.lane.ended
        assert world.state.sessions.connected == 1, "the publisher's alone"


PINGS = [json.dumps({"type": "ping", "id": number}) for number in range(100)]


async def test_more_requests_at_once_than_replies_may_wait_are_answered_as_fast_as_the_client_reads(
    autojump_clock: MockClock,
) -> None:
    async with running(Config(control_messages=10)) as world:
        client = await world.connect()
        client.stall()
        client.send_text(*PINGS)
        await trio.sleep(20)
        assert client.lane.close_request is None
        client.flow()
        for number in range(100):
            await client.expect("pong", id=number)


async def test_who_takes_none_of_its_replies_meanwhile_is_closed(autojump_clock: MockClock) -> None:
    async with running(Config(control_messages=10, message_s=5)) as world:
        client = await world.connect()
        client.stall()
        client.send_text(*PINGS)
        await trio.sleep(4.9)
        assert client.usable
        await trio.sleep(0.2)
        assert client.lane.close_request == (4003, "the client does not read its replies")
        await trio.sleep(3)
        assert len(world.connections) == 0


async def test_a_full_router_stops_the_reading_and_loses_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(Config(router_mailbox=2)) as world:
        listener = await world.subscriber("signals")
        clients = [await world.connect() for _ in range(5)]
        gate = await world.hold(monkeypatch)
        for number in range(10):
            for client in clients:
                client.publish(id=number)
            await world.settle()
        assert world.router.depth == 2
        assert sum(client.wire.unread > 0 for client in clients) >= 3
        gate.set()
        await world.settle()
        assert seqs(listener.take()) == list(range(1, 51))
        for client in clients:
            assert [reply["id"] for reply in client.take()] == list(range(10))


# Ends


async def test_who_is_refused_is_no_work_for_the_router(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Attach] = []
    monkeypatch.setattr("router.hub.actor.attach", lambda state, request, now: asked.append(request))
    async with running(WITH_KEY) as world:
        assert (await world.open("token=nonsense").ended())[0] == 1008
        assert (await world.open(close=(CloseCode.TRY_AGAIN_LATER, "full")).ended())[0] == 1013
        assert asked == []


async def test_a_bad_token_in_the_first_message_is_no_work_for_the_router(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Attach] = []

    def noting(state: RouterState, request: Attach, now: float) -> None:
        asked.append(request)
        attach(state, request, now)

    monkeypatch.setattr("router.hub.actor.attach", noting)
    async with running(SIGNED_IN_ONLY) as world:
        client = await world.opened()
        client.send_text(authenticate("nonsense"))
        assert (await client.ended())[0] == 1008
        assert len(asked) == 1, "only whether it needs to sign in"


async def test_one_connection_too_many_opens_is_told_so_and_has_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is its token looked at: that is work, and there is too much already."""

    async def verify(authenticator: Authenticator, token: str) -> Identity:
        await trio.lowlevel.checkpoint()
        raise AssertionError("looked at")

    async with running(WITH_KEY) as world:
        watcher = await world.subscriber("connections", token=world.jwt("root", role="admin"))
        await world.settle()
        watcher.take()
        monkeypatch.setattr(Authenticator, "verify", verify)
        client = world.open("token=nonsense", close=(CloseCode.TRY_AGAIN_LATER, "full"))
        assert await client.ended() == (1013, "full")
        assert client.take() == []
        await world.settle()
        assert watcher.take() == []
        assert len(world.connections) == 1


async def test_the_peers_close_is_answered_and_told(autojump_clock: MockClock) -> None:
    async with running() as world:
        watcher = await world.subscriber("connections")
        client = await world.connect()
        client.close(1001)
        assert await client.ended() == (1001, "")
        await world.settle()
        event = watcher.take()[-1]
        assert (event["event_type"], event["data"]["code"]) == ("client.disconnected", 1001)


async def test_a_connection_that_breaks_is_told_as_1006(autojump_clock: MockClock) -> None:
    async with running() as world:
        watcher = await world.subscriber("connections")
        client = await world.connect()
        client.vanish()
        await world.settle()
        event = watcher.take()[-1]
        assert (event["data"]["code"], event["data"]["reason"]) == (1006, None)


async def test_a_handshake_that_the_library_refuses_leaves_nothing(autojump_clock: MockClock) -> None:
    async with running() as world:
        world.open(unknown_version=True)
        await trio.sleep(20)
        world.assert_nothing_left()


async def test_the_crash_of_one_connection_touches_nobody_else(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge_all = Intake.judge_all

    def poisoned(intake: Intake, payloads: Any, grants: Any, items: Any) -> Any:
        payloads = list(payloads)
        if b"poison" in payloads:
            raise RuntimeError("poisoned")
        return judge_all(intake, iter(payloads), grants, items)

    async with running() as world:
        other = await world.subscriber("signals")
        client = await world.subscriber("signals")
        monkeypatch.setattr(Intake, "judge_all", poisoned)
        client.send_text("poison")
        assert (await client.ended())[0] == 1006
        await world.settle()
        assert world.restarts == 0
        assert len(world.connections) == 1
        other.publish(id=1)
        await other.expect("published", id=1, subscribers=2)
        await other.expect(None, seq=1)
        heir = await world.connect(resume=client.token)
        await heir.expect(None, seq=1)


async def test_a_departure_that_finds_the_router_busy_is_not_lost(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(Config(router_mailbox=1)) as world:
        clients = [await world.subscriber("signals") for _ in range(5)]
        gate = await world.hold(monkeypatch)
        for client in clients[:4]:
            client.close()
            await client.ended()
        clients[4].vanish()
        await world.settle()
        assert world.router.depth == 1
        assert len(world.state.departures) == 4
        gate.set()
        await world.settle()
        assert len(world.state.departures) == 0
        assert [session.client_id for session in world.state.sessions] == [clients[4].client_id]
        assert world.state.sessions.connected == 0


async def test_without_a_router_nobody_is_served(autojump_clock: MockClock) -> None:
    async with running() as world:
        client, leaving = await world.connect(), await world.connect()
        world.services.stop()
        await world.settle()
        leaving.close()
        await leaving.ended()
        late = world.open()
        client.send("ping")
        for each in (client, late):
            assert await each.ended() == (1011, "actor 'router' has ended")
        await world.settle()
        assert len(world.connections) == 0


async def test_a_router_that_fails_on_an_attach_closes_that_connection(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = Hub._handle

    async def fail_once(hub: Hub, message: Message) -> None:
        if isinstance(message, Attach):
            monkeypatch.setattr(Hub, "_handle", handle)
            raise RuntimeError("poisoned")
        await handle(hub, message)

    async with running() as world:
        other = await world.connect()
        monkeypatch.setattr(Hub, "_handle", fail_once)
        assert await world.open().ended() == (1011, "actor 'router' ended without answering")
        other.send("ping")
        await other.expect("pong")


async def test_connections_that_are_told_to_stop_say_that_they_are_going_away(autojump_clock: MockClock) -> None:
    async with running(SIGNED_IN_ONLY) as world:
        clients = [await world.connect(token=world.jwt()), world.open()]
        await world.settle()
        world.connections.stop()
        for client in clients:
            assert await client.ended() == (1001, "the server is going down")


async def test_events_reach_a_client_over_a_stream_that_can_only_send_all(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect(plain=True)
        client.subscribe("signals")
        await client.expect("subscribed")
        client.stall(100)
        for _ in range(3):
            world.router.tell(Emit("signals", "x", b"{}"))
            await world.settle()
        client.flow()
        await world.settle()
        assert seqs(client.take()) == [1, 2, 3]
        client.close()
        assert (await client.ended())[0] == 1000
        await world.settle()
        world.assert_nothing_left()


@pytest.mark.parametrize("per_write", [1, 7, 100])
async def test_a_socket_that_takes_little_at_a_time_gets_everything_in_order(
    per_write: int, autojump_clock: MockClock
) -> None:
    async with running() as world:
        client = await world.connect(per_write=per_write)
        client.subscribe("signals", "logs")
        for number in range(20):
            client.publish("signals" if number % 3 else "logs", id=number)
        await world.settle()
        messages = client.take()
        assert messages[0]["type"] == "subscribed"
        assert [each["id"] for each in messages if each.get("type") == "published"] == list(range(20))
        assert seqs(messages, "signals") == list(range(1, 14))
        assert seqs(messages, "logs") == list(range(1, 8))


async def test_a_connection_says_what_the_watch_and_the_server_ask_of_it(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        client = await world.connect("heartbeat=message", token=world.jwt("ada"))
        (connection,) = world.shared.connections
        assert connection.lane is client.lane
        assert connection.text_heartbeat
        assert connection.session is not None
        assert connection.session.client_id == client.client_id
        assert connection.identity is not None
        assert connection.identity.user_id == "ada"
        assert connection.address == "here"
