from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

from router.frames import (
    BINARY,
    CLOSE,
    PING,
    PING_FRAME,
    TEXT,
    Binary,
    close_frame,
    frame,
    is_close,
    text_frame,
    text_header,
)

#: Around every turn of the three length classes of RFC 6455 section 5.2, and of what is made in advance.
LENGTHS = [0, 1, 2, 124, 125, 126, 127, 128, 255, 256, 257, 2047, 2048, 2049, 32_767, 32_768, 65_534, 65_535, 65_536,
           65_537, 1 << 20]  # fmt: skip


def parse(data: bytes) -> Frame:
    """Read the one frame that `data` is, by another implementation."""
    reader = StreamReader()
    reader.feed_data(data)
    parsing: Generator[None, None, Frame] = Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as done:
        next(parsing)
    assert not reader.buffer, "something stands behind the frame"
    parsed: Frame = done.value.value
    return parsed


@pytest.mark.parametrize("length", LENGTHS)
def test_the_header_of_a_text_frame(length: int) -> None:
    payload = b"x" * length
    parsed = parse(text_header(length) + payload)
    assert parsed == Frame(Opcode.TEXT, payload, fin=True, rsv1=False, rsv2=False, rsv3=False)


@pytest.mark.parametrize("length", LENGTHS)
def test_the_shortest_length_is_used(length: int) -> None:
    assert len(text_header(length)) == (2 if length < 126 else 4 if length < 65_536 else 10)


def test_every_length_up_to_the_last_class_has_a_header_of_its_own() -> None:
    headers = [text_header(length) for length in range(65_540)]
    assert len(set(headers)) == len(headers)
    assert all(
        header == b"\x81\x7e" + length.to_bytes(2, "big")
        for length, header in enumerate(headers)
        if 126 <= length < 65_536
    )


def test_a_length_that_no_test_could_hold() -> None:
    assert text_header(2**40 + 5) == b"\x81\x7f\x00\x00\x01\x00\x00\x00\x00\x05"


@given(payload=st.binary(max_size=300))
def test_frames_of_all_kinds(payload: bytes) -> None:
    assert parse(text_frame(payload)) == Frame(Opcode.TEXT, payload)
    assert parse(frame(BINARY, payload)) == Frame(Opcode.BINARY, payload)
    assert parse(frame(TEXT, payload)) == Frame(Opcode.TEXT, payload)
    assert parse(frame(PING, payload[:125])) == Frame(Opcode.PING, payload[:125])


@pytest.mark.parametrize("length", LENGTHS)
def test_a_binary_frame_of_any_length(length: int) -> None:
    assert parse(frame(BINARY, bytes(length))) == Frame(Opcode.BINARY, bytes(length))


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1012, 4000, 4503, 4999])
def test_a_close_frame_has_its_code_and_no_reason(code: int) -> None:
    parsed = parse(close_frame(code))
    assert parsed.opcode is Opcode.CLOSE
    assert Close.parse(parsed.data) == Close(code, "")
    assert is_close(close_frame(code))


def test_the_heartbeat_is_an_empty_ping() -> None:
    assert parse(PING_FRAME) == Frame(Opcode.PING, b"")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_close_frame_is_known_by_its_first_byte(kind: type) -> None:
    assert is_close(kind(frame(CLOSE, b"")))
    assert is_close(kind(b"\x88"))
    for other in (b"", PING_FRAME, text_frame(b"\x88"), b"\x08\x00", b"\x89\x88"):
        assert not is_close(kind(other))


def test_a_binary_message_is_told_from_a_text_message_by_its_type_alone() -> None:
    message = Binary(b"abc")
    assert message == b"abc"
    assert isinstance(message, Binary)
    assert not isinstance(b"abc", Binary)
    assert not hasattr(message, "__dict__")
