"""Any legal or odd stream of a client's frames, cut in any way, through the inbound lane's parser."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.frames import Binary
from router.lanes.inbound import Lifter, MessageTooBigError
from tests.conformance import wire
from tests.conformance.wire import Op, byte_by_byte, cut_at
from tests.router.lanes.streams import KEY, MAX_MESSAGE_BYTES, STEADY, client_frame, close, fragments, text

#: What a stream must come out as: lifted messages, and between them the bytes that are passed on.
Flow = list[bytes | Binary | tuple[str, bytes]]


@dataclass(frozen=True)
class Frame:
    """A frame of the client, and the message that it ends, if any."""

    data: bytes
    message: bytes | None = None
    #: It is the whole message, and is lifted; else it is passed on.
    whole: bool = False
    #: A message is unfinished behind it.
    amid: bool = False


def filled(size: int, *, is_text: bool, salt: int) -> bytes:
    """A payload; as text it has characters of one to four bytes."""
    if not is_text:
        return bytes((salt + n * 7) % 256 for n in range(min(size, 300))) + bytes(max(0, size - 300))
    unit = "aé€😀"[salt % 4 :].encode()
    return unit * (size // len(unit)) + b"." * (size % len(unit))


SIZES = st.sampled_from([0, 1, 2, 5, 30, 124, 125, 126, 127, 128, 1000])
BIG_SIZES = st.sampled_from([65_535, 65_536, MAX_MESSAGE_BYTES])


@st.composite
def whole_messages(draw: st.DrawFn, sizes: st.SearchStrategy[int] = SIZES) -> list[Frame]:
    opcode = draw(st.sampled_from([Op.TEXT, Op.BINARY]))
    payload = filled(draw(sizes), is_text=opcode is Op.TEXT, salt=draw(st.integers(0, 3)))
    message = Binary(payload) if opcode is Op.BINARY else payload
    return [Frame(client_frame(opcode, payload), message, whole=True)]


@st.composite
def control_frames(draw: st.DrawFn) -> list[Frame]:
    opcode = draw(st.sampled_from([Op.PING, Op.PONG]))
    return [Frame(client_frame(opcode, filled(draw(st.sampled_from([0, 1, 124, 125])), is_text=False, salt=1)))]


@st.composite
def fragmented_messages(draw: st.DrawFn) -> list[Frame]:
    opcode = draw(st.sampled_from([Op.TEXT, Op.BINARY]))
    payload = filled(draw(SIZES), is_text=opcode is Op.TEXT, salt=draw(st.integers(0, 3)))
    cuts = draw(st.lists(st.integers(0, len(payload)), min_size=1, max_size=4))  # amid characters, too
    parts = fragments(opcode, cut_at(payload, cuts))
    frames = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        frames.append(Frame(part, payload if last else None, amid=not last))
        if not last and draw(st.booleans()):
            frames += [Frame(frame.data, amid=True) for frame in draw(control_frames())]
    return frames


def streams_of(units: st.SearchStrategy[list[Frame]], max_units: int) -> st.SearchStrategy[list[Frame]]:
    return st.lists(units, max_size=max_units).map(lambda units: [frame for unit in units for frame in unit])


STREAMS = streams_of(whole_messages() | whole_messages() | control_frames() | fragmented_messages(), 8)
LONG_STREAMS = streams_of(whole_messages(BIG_SIZES) | whole_messages() | fragmented_messages(), 3)


@st.composite
def cut_streams(
    draw: st.DrawFn, streams: st.SearchStrategy[list[Frame]] = STREAMS
) -> tuple[list[Frame], Sequence[bytes]]:
    frames = draw(streams)
    data = b"".join(frame.data for frame in frames)
    if len(data) <= 2000 and draw(st.booleans()):
        return frames, byte_by_byte(data)
    return frames, cut_at(data, draw(st.lists(st.integers(0, len(data)), max_size=20)))


def run(lifter: Lifter, pieces: Iterable[bytes], *, closing: bool = False) -> Flow:
    """Feed a lifter as a lane does, and note what comes out of it in which order."""
    flow: Flow = []
    for piece in pieces:
        lifter.feed(piece)
        while True:
            if not closing:
                flow += lifter.lift()
            passed = lifter.pass_on(closing=closing)
            if not passed:
                break
            add_passed(flow, passed)
    return flow


def add_passed(flow: Flow, data: bytes) -> None:
    if flow and isinstance(flow[-1], tuple):
        flow[-1] = ("passed", flow[-1][1] + data)
    else:
        flow.append(("passed", data))


def expected(frames: Iterable[Frame]) -> Flow:
    flow: Flow = []
    for frame in frames:
        if frame.whole:
            assert frame.message is not None
            flow.append(frame.message)
        else:
            add_passed(flow, frame.data)
    return flow


def kinds(flow: Flow) -> list[type]:
    return [type(item) for item in flow]


@STEADY
@given(cut_streams())
def test_whole_messages_are_lifted_and_all_else_is_passed_on_in_order(
    stream: tuple[list[Frame], Sequence[bytes]],
) -> None:
    frames, pieces = stream
    flow = run(Lifter(MAX_MESSAGE_BYTES), pieces)
    assert flow == expected(frames)
    assert kinds(flow) == kinds(expected(frames)), "binary and text must be told apart"


@STEADY
@given(cut_streams(LONG_STREAMS))
def test_long_messages_are_lifted_as_short_ones(stream: tuple[list[Frame], Sequence[bytes]]) -> None:
    frames, pieces = stream
    assert run(Lifter(MAX_MESSAGE_BYTES), pieces) == expected(frames)


@STEADY
@given(cut_streams())
def test_it_knows_at_each_byte_whether_a_message_is_unfinished(stream: tuple[list[Frame], Sequence[bytes]]) -> None:
    frames, pieces = stream
    finished, at = {0}, 0
    for frame in frames:
        at += len(frame.data)
        if not frame.amid:
            finished.add(at)
    lifter, fed = Lifter(MAX_MESSAGE_BYTES), 0
    for piece in pieces:
        run(lifter, [piece])
        fed += len(piece)
        assert lifter.amid_message == (fed not in finished)


@STEADY
@given(cut_streams())
def test_the_end_of_a_message_that_was_passed_on_is_told_before_anything_else_comes(
    stream: tuple[list[Frame], Sequence[bytes]],
) -> None:
    frames, pieces = stream
    ends, at = set(), 0
    for frame in frames:
        if not frame.whole:
            at += len(frame.data)
            if frame.message is not None:
                ends.add(at)
    lifter, passed_on, told = Lifter(MAX_MESSAGE_BYTES), 0, set()
    for piece in pieces:
        lifter.feed(piece)
        while True:
            lifter.lift()
            passed = lifter.pass_on(closing=False)
            passed_on += len(passed)
            assert lifter.message_passed == (bool(passed) and passed_on in ends)
            if lifter.message_passed:
                told.add(passed_on)
            if not passed:
                break
    assert told == ends


BAD_TEXT = b"\xff is no UTF-8"
#: Not a byte of these is lifted: the library is to see them as they came.
ODD_STREAMS = {
    "unmasked": client_frame(Op.TEXT, b"hi", masked=False),
    "unmasked, longer": client_frame(Op.TEXT, bytes(200), masked=False),
    "unmasked, like a length in 64 bits": client_frame(Op.TEXT, b"\0\0\0\0\0\1\0\0", masked=False) + bytes(66_000),
    "rsv1": client_frame(Op.TEXT, b"hi", rsv=4),
    "rsv3": client_frame(Op.BINARY, b"hi", rsv=1),
    "reserved data opcode": client_frame(0x3, b"hi"),
    "reserved control opcode": client_frame(0xB, b"hi"),
    "5 bytes, length in 16 bits": client_frame(Op.TEXT, b"hello", length_bits=16),
    "125 bytes, length in 16 bits": client_frame(Op.BINARY, bytes(125), length_bits=16),
    "5 bytes, length in 64 bits": client_frame(Op.TEXT, b"hello", length_bits=64),
    "65,535 bytes, length in 64 bits": client_frame(Op.BINARY, bytes(65_535), length_bits=64),
    "not UTF-8": client_frame(Op.TEXT, BAD_TEXT),
    "not UTF-8 from its middle on": client_frame(Op.TEXT, b"a" * 200 + "é".encode()[:1]),
    "a surrogate as UTF-8": client_frame(Op.TEXT, b"\xed\xa0\x80"),
    "continuation of nothing": client_frame(Op.CONTINUATION, b"end"),
    "ping that is too long": client_frame(Op.PING, bytes(126)),
    "ping in fragments": client_frame(Op.PING, b"hi", fin=False),
    "data frame amid fragments": client_frame(Op.TEXT, b"a", fin=False) + client_frame(Op.TEXT, b"b"),
}


@pytest.mark.parametrize("odd", ODD_STREAMS.values(), ids=ODD_STREAMS)
@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_what_is_illegal_is_passed_on_as_it_came(odd: bytes, step: int) -> None:
    data = text("before") + odd
    pieces = [data[n : n + step] for n in range(0, len(data), step)]
    assert run(Lifter(MAX_MESSAGE_BYTES), pieces) == [b"before", ("passed", odd)]


def test_an_illegal_control_frame_is_passed_on_as_soon_as_its_header_is_there() -> None:
    lifter = Lifter(MAX_MESSAGE_BYTES)
    header = client_frame(Op.PING, announced=1 << 62)
    assert run(lifter, [header]) == [("passed", header)]
    assert run(lifter, [b"more"]) == [("passed", b"more")]


def test_a_data_frame_amid_fragments_is_passed_on_as_soon_as_its_header_is_there() -> None:
    lifter = Lifter(MAX_MESSAGE_BYTES)
    first, header = client_frame(Op.TEXT, b"a", fin=False), text("b" * 100)[:6]
    assert run(lifter, [first, header]) == [("passed", first + header)]


def test_a_ping_is_passed_on_whole_or_not_at_all() -> None:
    """We may begin to close before its rest comes, and then the library must not see it."""
    lifter, ping = Lifter(MAX_MESSAGE_BYTES), client_frame(Op.PING, b"hi")
    assert run(lifter, byte_by_byte(ping[:-1])) == []
    assert run(lifter, [ping[-1:] + close()], closing=True) == [("passed", close())]


@pytest.mark.parametrize("fin", [True, False])
def test_what_looks_like_a_message_inside_a_frame_that_is_passed_on_is_not_lifted(fin: bool) -> None:
    lifter, trap = Lifter(MAX_MESSAGE_BYTES), text("a trap")
    first = client_frame(Op.BINARY, b"", fin=False)
    second = client_frame(Op.CONTINUATION, wire.apply_key(trap + trap, KEY), fin=fin)
    assert trap in second
    header = len(second) - 2 * len(trap)
    pieces = [first, second[:header], second[header:-1], second[-1:]]
    assert run(lifter, pieces) == [("passed", first + second)]
    assert lifter.message_passed is False
    assert lifter.amid_message is not fin


@STEADY
@given(cut_streams(), st.sampled_from([close(), close(1000), close(4999, "bye")]))
@example(([], [text("late")]), close(1000))
def test_after_the_peers_close_nothing_comes_out(late: tuple[list[Frame], Sequence[bytes]], end: bytes) -> None:
    lifter = Lifter(MAX_MESSAGE_BYTES)
    assert run(lifter, [text("hi"), end]) == [b"hi", ("passed", end)]
    assert run(lifter, late[1]) == []
    assert not lifter.amid_message


def test_what_follows_the_peers_close_in_the_same_read_is_dropped() -> None:
    lifter = Lifter(MAX_MESSAGE_BYTES)
    assert run(lifter, [close(1000) + text("late") + client_frame(Op.PING)]) == [("passed", close(1000))]
    assert not lifter.amid_message


@STEADY
@given(cut_streams())
def test_while_we_close_only_a_close_frame_is_passed_on(stream: tuple[list[Frame], Sequence[bytes]]) -> None:
    _, pieces = stream
    lifter = Lifter(MAX_MESSAGE_BYTES)
    assert run(lifter, [*pieces, close(1000, "as you wish"), text("late")], closing=True) == [
        ("passed", close(1000, "as you wish"))
    ]


@STEADY
@given(cut_streams(), st.integers(0, 200))
def test_what_was_half_passed_on_when_we_close_is_passed_on_whole(
    stream: tuple[list[Frame], Sequence[bytes]], seen: int
) -> None:
    lifter, first = Lifter(MAX_MESSAGE_BYTES), client_frame(Op.TEXT, b"y" * 200, fin=False)
    seen = min(seen, len(first))
    passed = run(lifter, [first[:seen]])
    rest = run(lifter, [first[seen:], *stream[1], close()], closing=True)
    header_seen = seen >= 8
    assert passed + rest == [("passed", first[:seen])] * header_seen + [
        ("passed", (first[seen:] if header_seen else b"") + close())
    ]


def test_what_is_skipped_is_not_kept() -> None:
    lifter = Lifter(MAX_MESSAGE_BYTES)
    huge = client_frame(Op.BINARY, announced=1 << 40)
    assert run(lifter, [huge], closing=True) == []
    for _ in range(1000):
        lifter.feed(bytes(1 << 16))
        assert lifter.pass_on(closing=True) == b""
    assert lifter.amid_message


def test_a_message_of_just_the_limit_is_taken() -> None:
    lifter = Lifter(100)
    assert run(lifter, [client_frame(Op.BINARY, bytes(100))]) == [Binary(bytes(100))]
    parts = fragments(Op.TEXT, [b"a" * 60, b"", b"b" * 40])
    for _ in range(2):  # each message has the whole limit
        assert run(lifter, parts) == [("passed", b"".join(parts))]


@pytest.mark.parametrize("announced", [101, 126, 65_535, 65_536, (1 << 63) - 1])
@pytest.mark.parametrize("opcode", [Op.TEXT, Op.BINARY])
def test_a_header_that_announces_too_much_is_enough(announced: int, opcode: Op) -> None:
    lifter = Lifter(100)
    lifter.feed(text("before") + client_frame(opcode, announced=announced))
    assert lifter.lift() == [b"before"]
    with pytest.raises(MessageTooBigError):
        lifter.pass_on(closing=False)


def test_fragments_that_announce_too_much_together_are_too_big_and_the_last_is_not_passed_on() -> None:
    lifter = Lifter(100)
    first, second, third = fragments(Op.TEXT, [b"a" * 60, b"b" * 40, b"c"])
    assert run(lifter, [first, second]) == [("passed", first + second)]
    with pytest.raises(MessageTooBigError):
        run(lifter, [third[:6]])
    assert run(lifter, [third[6:], client_frame(Op.PING, b"late"), close()], closing=True) == [("passed", close())]


@pytest.mark.parametrize("size", [101, 70_000])
def test_behind_a_message_that_is_too_big_the_peers_close_is_found(size: int) -> None:
    lifter = Lifter(100)
    data = client_frame(Op.BINARY, bytes(size)) + text("late") + close(1000)
    with pytest.raises(MessageTooBigError):
        run(lifter, [data[:14]])
    pieces = [data[n : n + 999] for n in range(14, len(data), 999)]
    assert run(lifter, pieces, closing=True) == [("passed", close(1000))]


@pytest.mark.parametrize("piece_bytes", [512, 65_536])
def test_a_very_long_message_costs_as_much_a_byte_as_a_short_one(piece_bytes: int) -> None:
    payload = bytes(16 << 20)
    data = client_frame(Op.BINARY, payload)
    began = time.process_time()
    flow = run(Lifter(64 << 20), (data[n : n + piece_bytes] for n in range(0, len(data), piece_bytes)))
    assert flow == [payload]
    # A copy at each read would be 270 GB at 512 bytes a read.
    assert time.process_time() - began < 10
