"""The watch over connections: heartbeats, silence, unfinished messages, expiring tokens; hours in milliseconds."""

import pytest
import trio
from trio.testing import MockClock

from actors import ChildSpec, Supervisor
from router.config import Config
from router.connection import Connection
from router.liveness import Liveness
from tests.router.harness import WITH_KEY, running

HOUR_S = 3600


def frame_of(length: int = 100) -> bytes:
    """The frame of a text message with a mask of zeros."""
    return bytes((0x81, 0x80 | length, 0, 0, 0, 0)) + b'"' + b"a" * (length - 2) + b'"'


async def test_a_day_of_heartbeats(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.liveness.LOOK_EVERY_S", 15)
    async with running(watched=True) as world:
        seeing, reading = await world.connect(), await world.connect("heartbeat=message")
        ping = {}
        for _ in range(24 * 120):
            ping = await reading.expect("ping")
            reading.send("pong")
            assert list(ping) == ["type", "timestamp"]
        assert 24 * HOUR_S <= trio.current_time() <= 24 * HOUR_S + 15
        assert ping["timestamp"] == world.state.clock.timestamp()
        await world.settle()
        assert (seeing.pings, reading.pings) == (24 * 120, 0)
        assert seeing.closed is None
        assert seeing.take() == reading.take() == []


async def test_heartbeats_come_as_often_as_configured(autojump_clock: MockClock) -> None:
    async with running(Config(heartbeat_s=5), watched=True) as world:
        client = await world.connect()
        assert client.connected["heartbeat_s"] == 5
        await trio.sleep(51)
        assert client.pings == 10


@pytest.mark.parametrize("query", ["", "heartbeat=message"])
async def test_ninety_seconds_of_silence_close(query: str, autojump_clock: MockClock) -> None:
    async with running(watched=True) as world:
        client = await world.connect(query)
        client.deaf = True
        await trio.sleep(90)
        assert client.usable
        await trio.sleep(1.5)
        assert client.closed == (4000, "nothing heard for 90 s")
        await trio.sleep(5)
        assert len(world.connections) == 0
        assert len(world.state.sessions) == 1, "it may come back"


@pytest.mark.parametrize("sign", ["message", "frame", "byte"])
async def test_any_bytes_count_as_life(sign: str, autojump_clock: MockClock) -> None:
    async with running(Config(message_s=1000), watched=True) as world:
        client = await world.connect()
        client.deaf = True
        byte = iter(frame_of())
        for _ in range(10):
            await trio.sleep(80)
            match sign:
                case "message":
                    client.send("pong")
                case "frame":
                    client.send_raw(b"\x8a\x80\0\0\0\0")
                case _:
                    client.send_raw(bytes((next(byte),)))
        assert client.closed is None


async def test_a_message_must_be_whole_in_thirty_seconds_for_a_byte_now_and_then_is_no_life(
    autojump_clock: MockClock,
) -> None:
    async with running(watched=True) as world:
        client = await world.connect()
        await trio.sleep(100)
        client.deaf = True  # a pong amid a frame would be no pong
        began = trio.current_time()
        for byte in frame_of():
            client.send_raw(bytes((byte,)))
            await trio.sleep(1)
            if client.closed is not None:
                break
        assert client.closed == (1008, "message not whole within 30 s")
        assert 30 <= trio.current_time() - began <= 33


async def test_a_message_in_fragments_must_be_whole_in_thirty_seconds_too(autojump_clock: MockClock) -> None:
    async with running(watched=True) as world:
        client = await world.connect()
        client.send_raw(b'\x01\x81\0\0\0\0"')
        for _ in range(40):
            await trio.sleep(1)
            if client.closed is None:
                client.send_raw(b"\x00\x81\0\0\0\0a")
        assert client.closed == (1008, "message not whole within 30 s")


async def test_whole_messages_at_any_distance_are_no_fault(autojump_clock: MockClock) -> None:
    async with running(watched=True) as world:
        client = await world.connect()
        client.deaf = True  # a pong amid a frame would be no pong
        for _ in range(20):
            frame = frame_of()
            client.send_raw(frame[:20])
            await trio.sleep(20)
            client.send_raw(frame[20:])
            await client.expect("error", code="invalid_message")
            await trio.sleep(17)


# Tokens


async def test_the_end_of_a_token_is_announced_once_a_minute_ahead_and_then_closes(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY, watched=True) as world:
        client = await world.connect(token=world.jwt(ttl_s=600))
        await client.expect("token_expiring", expires_at="2024-12-29T12:10:00.000Z")
        assert 540 <= trio.current_time() <= 541
        await trio.sleep(58)
        assert client.closed is None
        assert await client.ended() == (4002, "the token has expired")
        assert 600 <= trio.current_time() <= 601
        assert client.take() == []
        await world.settle()
        assert len(world.state.sessions) == 1, "it may come back with a fresh one"


async def test_a_short_token_is_announced_at_half_its_life(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY, watched=True) as world:
        client = await world.connect(token=world.jwt(ttl_s=40))
        await client.expect("token_expiring")
        assert 20 <= trio.current_time() <= 21


async def test_a_token_that_does_not_say_when_it_was_issued_is_announced_a_minute_ahead(
    autojump_clock: MockClock,
) -> None:
    async with running(WITH_KEY, watched=True) as world:
        client = await world.connect(token=world.jwt(exp=int(world.state.clock.unix_s()) + 100))
        await client.expect("token_expiring")
        assert 40 <= trio.current_time() <= 41


async def test_a_fresh_token_keeps_the_connection_and_is_announced_in_its_turn(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY, watched=True) as world:
        client = await world.connect(token=world.jwt(ttl_s=100))
        for turn in range(1, 6):
            await client.expect("token_expiring")
            assert turn * 50 <= trio.current_time() <= turn * 53
            client.send("authenticate", token=world.jwt(ttl_s=100))
            await client.expect("authenticated")
        assert client.closed is None


async def test_a_token_that_never_expires_and_no_token_are_left_alone(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY, watched=True) as world:
        clients = [await world.connect(), await world.connect(token=world.jwt())]
        await trio.sleep(HOUR_S)
        assert [client.take() for client in clients] == [[], []]
        assert [client.closed for client in clients] == [None, None]


# The watch itself


async def test_a_connection_that_is_being_closed_is_not_given_another_reason(autojump_clock: MockClock) -> None:
    async with running(Config(close_s=1000), watched=True) as world:
        watcher = await world.subscriber("connections")
        client = await world.connect("heartbeat=message")
        client.deaf = True
        await trio.sleep(1)
        client.lane.closing = True  # as when the peer's close has come
        await trio.sleep(200)
        assert client.lane.close_request is None
        assert client.take() == []
        assert watcher.closed is None


async def test_connections_without_a_session_have_deadlines_of_their_own(autojump_clock: MockClock) -> None:
    config = Config(jwt_keys=WITH_KEY.jwt_keys, allow_anonymous=False, sign_in_s=1000)
    async with running(config, watched=True) as world:
        client = world.open()
        await trio.sleep(999)
        assert client.closed is None
        assert client.pings == 0


async def test_a_look_at_many_connections_lets_others_run(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as world:
        await world.connect()
        (connection,) = world.shared.connections
        copies = [object.__new__(Connection) for _ in range(199)]
        for copy in copies:
            for name in Connection.__slots__:
                setattr(copy, name, getattr(connection, name))
        world.shared.connections.update(copies)
        turns: list[int] = []
        looked = 0

        def look_at(*_: object) -> None:
            nonlocal looked
            looked += 1

        async def other() -> None:
            while looked < 200:
                turns.append(looked)
                await trio.lowlevel.checkpoint()

        monkeypatch.setattr(Liveness, "_look_at", look_at)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await Liveness(world.shared)._look()
        assert any(0 < count < 200 for count in turns)


async def test_a_busy_router_is_not_told_the_time(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Config(router_mailbox=1), watched=True) as world:
        client = await world.connect()
        gate = await world.hold(monkeypatch)
        await trio.sleep(35)
        assert world.router.depth == 1
        assert client.pings == 1, "and the watch goes on"
        gate.set()
        await world.settle()
        assert world.router.depth == 0


async def test_the_watch_ends_with_its_mailbox_at_once(autojump_clock: MockClock) -> None:
    async with running() as world:
        watch = Supervisor("watch", [ChildSpec("liveness", lambda: Liveness(world.shared))])
        async with trio.open_nursery() as nursery:
            await nursery.start(watch.run)
            watch.ref("liveness").tell(None)
            await trio.sleep(2.5)
            watch.stop()
        assert trio.current_time() == 2.5


async def test_the_watch_looks_again_a_second_after_a_look_that_took_long(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    async def look(watch: Liveness) -> None:
        looks.append(trio.current_time())
        await trio.sleep(3.25 if len(looks) == 2 else 0)

    monkeypatch.setattr(Liveness, "_look", look)
    async with running(watched=True):
        await trio.sleep(8)
    assert looks == [1, 2, 5.25, 6.25, 7.25]
