"""Listening: clear words where it cannot be, and no connection lost where there is no room for it yet."""

import errno
import math
import os
import resource
import socket
from collections.abc import Iterator

import pytest
import structlog
import trio
from structlog.typing import EventDict

from router.config import Config, ConfigError
from router.door.listening import Room, accept, address_of, addresses_of, listen, make_room


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as records:
        yield records


# Descriptors


@pytest.mark.parametrize(
    ("hard", "wanted", "room"),
    [
        (20_000, 10_000, Room(10_000, 19_936)),
        (1_024, 10_000, Room(896, 960)),
        (150, 10_000, Room(43, 86)),
        (10, 10_000, Room(1, 2)),
        (resource.RLIM_INFINITY, 10_000, Room(10_000, math.inf)),
    ],
)
def test_descriptors_make_room(
    hard: int, wanted: int, room: Room, monkeypatch: pytest.MonkeyPatch, logged: list[EventDict]
) -> None:
    limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr("resource.getrlimit", lambda _: (64, hard))
    monkeypatch.setattr("resource.setrlimit", lambda *given: limits.append(given))
    assert make_room(Config(max_connections=wanted)) == room
    assert limits == [(resource.RLIMIT_NOFILE, (hard, hard))]
    (record,) = logged
    assert record["descriptors"] == hard
    if room.websockets < wanted:
        assert (record["log_level"], record["allowed"], record["wanted"]) == ("warning", room.websockets, wanted)
    else:
        assert (record["log_level"], record["allows_connections"]) == ("info", wanted)


# Binding


async def test_port_0_is_a_free_one_and_connections_inherit_the_send_buffer() -> None:
    (listener,) = await listen(Config(port=0, send_buffer_bytes=30_000))
    async with listener:
        ((host, port),) = addresses_of([listener])
        assert host == "127.0.0.1"
        async with await trio.open_tcp_stream(host, port) as client, await listener.accept() as stream:
            assert stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 60_000  # Linux doubles it
            assert address_of(stream) == "127.0.0.1"
            await client.send_all(b"x")
        assert address_of(stream) == "unknown"  # it is closed


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("a..b", "not a valid host name"),
        ("x" * 64, "not a valid host name"),
        ("192.0.2.1", os.strerror(errno.EADDRNOTAVAIL)),
    ],
)
async def test_an_address_that_cannot_be_bound_is_named(host: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"^cannot listen on {host} port 7: {why}$"):
        await listen(Config(port=7, host=host, insecure=True))


async def test_a_port_in_use_is_named_with_the_way_out() -> None:
    (listener,) = await listen(Config(port=0))
    async with listener:
        ((_, port),) = addresses_of([listener])
        with pytest.raises(ConfigError, match=f"port {port}: Address already in use; choose another with --port"):
            await listen(Config(port=port))


# Accepting


class Listener(trio.abc.Listener[trio.SocketStream]):
    """Gives what it is told to: connections, and errors."""

    def __init__(self, *results: str | OSError) -> None:
        self._results = list(results)
        self.asked_at: list[float] = []

    async def accept(self) -> trio.SocketStream:
        self.asked_at.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if not self._results:
            await trio.sleep_forever()
        result = self._results.pop(0)
        if isinstance(result, OSError):
            raise result
        return result  # type: ignore[return-value] # the door below does not look into it

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Door:
    """Notes who comes; `left` says how many have gone, `idle` how many can be closed."""

    def __init__(self, idle: int = 0) -> None:
        self.seen: list[object] = []
        self.nurseries: set[trio.Nursery] = set()
        self.left = 0
        self.idle = idle

    @property
    def open(self) -> int:
        return len(self.seen) - self.left

    def take(self, stream: object, nursery: trio.Nursery) -> None:
        self.seen.append(stream)
        self.nurseries.add(nursery)

    def make_way(self) -> None:
        if self.idle:
            self.idle -= 1
            self.left += 1


def exhausted() -> OSError:
    return OSError(errno.EMFILE, "Too many open files")


async def test_connections_are_served_in_the_nursery_that_was_given() -> None:
    door = Door()
    async with trio.open_nursery() as nursery, trio.open_nursery() as acceptors:
        acceptors.start_soon(accept, Listener("a", "b"), door, nursery)
        await trio.testing.wait_all_tasks_blocked()
        acceptors.cancel_scope.cancel()
    assert door.seen == ["a", "b"]
    assert door.nurseries == {nursery}


async def test_out_of_descriptors_it_waits_and_accepts_again(
    autojump_clock: trio.testing.MockClock, logged: list[EventDict]
) -> None:
    listener, door = Listener("a", exhausted(), exhausted(), "b"), Door()
    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            await accept(listener, door, nursery)
    assert door.seen == ["a", "b"]
    assert listener.asked_at == pytest.approx([0, 0, 0.1, 0.2, 0.2])
    (record,) = logged
    assert record["log_level"] == "error"
    assert "Too many open files" in record["reason"]


async def test_it_says_so_once_a_minute(autojump_clock: trio.testing.MockClock, logged: list[EventDict]) -> None:
    with trio.move_on_after(150):
        async with trio.open_nursery() as nursery:
            await accept(Listener(*(exhausted() for _ in range(2000))), Door(), nursery)
    assert len(logged) == 3


async def test_beyond_the_room_nobody_is_accepted_until_somebody_leaves(
    autojump_clock: trio.testing.MockClock, logged: list[EventDict]
) -> None:
    listener, door = Listener("a", "b", "c"), Door()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, listener, door, nursery, 2)
        await trio.sleep(1)
        assert door.seen == ["a", "b"]
        door.left = 1
        await trio.sleep(1)
        assert door.seen == ["a", "b", "c"]
        nursery.cancel_scope.cancel()
    assert [record["reason"] for record in logged] == ["the limit of connections is reached"]


async def test_beyond_the_room_idle_ones_make_way(
    autojump_clock: trio.testing.MockClock, logged: list[EventDict]
) -> None:
    listener, door = Listener("a", "b", "c", "d"), Door(idle=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, listener, door, nursery, 2)
        await trio.sleep(1)
        assert door.seen == ["a", "b", "c"]
        nursery.cancel_scope.cancel()


async def test_a_listener_that_broke_is_an_error() -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(OSError, match="bad news"):
            await accept(Listener(OSError(errno.EINVAL, "bad news")), Door(), nursery)
