"""What Hypercorn is given in place of the socket: deadlines, and one request that ends where it ends."""

from collections.abc import Iterable
from itertools import pairwise

import h11
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from router.door.heads import READ_BYTES
from router.door.streams import Framing, HttpStream, RequestStream
from tests.router.wires import DEADLINE_S, as_socket_stream

# Deadlines


@pytest.fixture
def lockstep() -> tuple[trio.abc.HalfCloseableStream, HttpStream]:
    """A peer that takes nothing until it reads, and the stream to it, its beginning read before."""
    client, server = lockstep_stream_pair()
    return client, HttpStream(as_socket_stream(server), b"begun", send_s=5)


Lockstep = tuple[trio.abc.HalfCloseableStream, HttpStream]


async def test_what_was_read_comes_first_then_what_follows(lockstep: Lockstep) -> None:
    client, stream = lockstep
    assert await stream.receive_some(10) == b"begun"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"more")
        assert await stream.receive_some(10) == b"more"


async def test_a_send_has_a_deadline_and_nothing_follows_it(lockstep: Lockstep, autojump_clock: MockClock) -> None:
    client, stream = lockstep
    with trio.fail_after(DEADLINE_S), pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    assert trio.current_time() == 5
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.receive_some)
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"y")
        nursery.cancel_scope.cancel()


async def test_a_send_within_the_deadline_is_sent(lockstep: Lockstep, autojump_clock: MockClock) -> None:
    client, stream = lockstep

    async def read_late() -> None:
        await trio.sleep(4.9)
        assert await client.receive_some() == b"x"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_late)
        await stream.send_all(b"x")


async def test_a_peer_that_has_left_is_sent_nothing_more() -> None:
    client, server = memory_stream_pair()
    stream = HttpStream(as_socket_stream(server), b"", send_s=5)
    await client.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    assert stream.broken
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


async def test_giving_up_ends_the_send_and_the_read_that_wait(lockstep: Lockstep, autojump_clock: MockClock) -> None:
    _client, stream = lockstep
    await stream.receive_some()

    async def send() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        stream.give_up()
    assert trio.current_time() == 0


async def test_closing_ends_the_reading_and_leaves_the_socket_open(
    lockstep: Lockstep, autojump_clock: MockClock
) -> None:
    client, stream = lockstep
    await stream.receive_some()

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            await stream.send_eof()
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()
    with trio.move_on_after(0) as scope:
        await client.receive_some()
    assert scope.cancelled_caught, "an end was announced"


async def test_waiting_to_send_is_the_sockets_part(lockstep: Lockstep) -> None:
    client, stream = lockstep
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.receive_some)
        await stream.wait_send_all_might_not_block()
        nursery.cancel_scope.cancel()


# One request

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LENGTH = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (HEAD, b""),
        (HEAD.replace(b"1.1", b"1.0"), b""),
        (HEAD.replace(b"Host", b"Connection: close\r\nHost"), b""),
        (LENGTH, b"0123456789"),
        (LENGTH.replace(b"10", b"0"), b""),
        (CHUNKED, b"0\r\n\r\n"),
        (CHUNKED, CHUNKS),
    ],
)
@given(cuts=st.sets(st.integers(min_value=0, max_value=80)))
def test_a_request_ends_where_it_ends_however_it_is_cut(head: bytes, body: bytes, cuts: Iterable[int]) -> None:
    sent = body + HEAD
    framing = Framing(head)
    taken = sum(framing.take(sent[start:end]) for start, end in pairwise([0, *sorted(cuts), len(sent) + 80]))
    assert taken == len(body)


@pytest.mark.parametrize("body", [b"x\r\n", b"-1\r\n", b"1\r\nab\r\n", b"F" * 30 + b"\r\n"])
def test_a_body_that_is_not_framed_as_it_says_is_an_error(body: bytes) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        Framing(CHUNKED).take(body)


def request(sent: bytes) -> tuple[trio.abc.HalfCloseableStream, RequestStream]:
    client, server = memory_stream_pair()
    return client, RequestStream(as_socket_stream(server), sent, send_s=5)


async def read(stream: RequestStream) -> None:
    """Read until Hypercorn would have ended."""
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


async def test_what_comes_behind_the_request_stays_here() -> None:
    client, stream = request(LENGTH + b"0123")
    assert await stream.receive_some() == LENGTH + b"0123"
    await client.send_all(b"456789" + HEAD)
    assert await stream.receive_some() == b"456789"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, stream)
        await wait_all_tasks_blocked()
        await client.send_all(HEAD)
        await wait_all_tasks_blocked()
        stream.end_reading()
    assert stream.behind == HEAD * 2
    assert stream.fault is None


async def test_what_came_with_the_head_may_be_all_of_it() -> None:
    _, stream = request(LENGTH + b"0123456789" + HEAD)
    assert await stream.receive_some() == LENGTH + b"0123456789"
    assert stream.behind == HEAD


async def test_only_so_much_is_taken_from_a_peer_that_asks_on_and_on() -> None:
    client, server = lockstep_stream_pair()  # takes nothing until it is read
    stream = RequestStream(as_socket_stream(server), HEAD, send_s=5)
    sent = 0

    async def ask_on() -> None:
        nonlocal sent
        while True:
            await client.send_all(bytes(READ_BYTES // 4))
            sent += 1

    await stream.receive_some()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_on)
        nursery.start_soon(read, stream)
        await wait_all_tasks_blocked()
        assert sent == 4
        stream.end_reading()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(stream.behind) == READ_BYTES


async def test_the_end_behind_a_request_is_told() -> None:
    client, stream = request(HEAD)
    await stream.receive_some()
    await client.send_all(HEAD)
    await client.send_eof()
    assert await stream.receive_some() == b""


@pytest.mark.parametrize("begun", [CHUNKED, CHUNKED + b"1\r\nab\r\n"])
async def test_a_body_that_is_not_framed_as_it_says_is_a_fault(begun: bytes) -> None:
    client, stream = request(begun)
    assert await stream.receive_some() == CHUNKED
    await client.send_all(b"no number\r\n")
    with trio.fail_after(DEADLINE_S), pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    assert stream.fault is not None
    assert stream.fault.status == 400
    assert "bad request body: a chunk is" in stream.fault.detail
    assert "bytearray" not in stream.fault.detail
    assert not stream.answered


@pytest.mark.parametrize("begun", [LENGTH + b"012", CHUNKED, CHUNKED + b"3\r\nab", CHUNKED + b"3\r\nabc\r\n0\r\n"])
async def test_a_body_that_ends_early_is_a_fault(begun: bytes) -> None:
    client, stream = request(begun)
    await stream.receive_some()
    await client.send_eof()
    with trio.fail_after(DEADLINE_S), pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    assert stream.fault is not None
    assert stream.fault.detail == "bad request body: it ended before it was whole"


# What Hypercorn is not to see


@pytest.mark.parametrize(
    "name", [b"Upgrade: h2c", b"UPGRADE: h2c,\r\n  x", b"HTTP2-Settings: AA", b"expect: 100-continue"]
)
async def test_headers_that_hypercorn_would_act_on_are_left_out(name: bytes) -> None:
    _, stream = request(LENGTH.replace(b"Host", name + b"\r\nHost") + b"0123456789")
    assert await stream.receive_some() == LENGTH + b"0123456789"


WAITING = LENGTH.replace(b"Host", b"Expect: 100-continue\r\nHost")


async def test_a_peer_that_waits_is_asked_for_its_body_and_that_is_no_answer() -> None:
    client, stream = request(WAITING)
    await stream.send_continue()
    await stream.send_continue()
    assert await client.receive_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert not stream.answered


@pytest.mark.parametrize(("begun", "answered"), [(LENGTH, b""), (WAITING + b"0", b""), (WAITING, b"HTTP/1.1 401 ")])
async def test_who_does_not_wait_or_has_an_answer_is_not_asked(begun: bytes, answered: bytes) -> None:
    client, stream = request(begun)
    await stream.send_all(answered or b"-")
    stream.answered = bool(answered)
    await stream.send_continue()
    assert await client.receive_some() == (answered or b"-")


async def test_a_peer_that_has_left_is_not_asked() -> None:
    client, stream = request(WAITING)
    await client.aclose()
    await stream.send_continue()
    assert stream.broken


async def test_whether_something_was_sent_is_known() -> None:
    _, stream = request(HEAD)
    await stream.send_all(b"HTTP/1.1 200 OK\r\n")
    assert stream.answered
