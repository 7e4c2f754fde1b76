"""RFC 6455 frames as bytes: a client's built exactly as asked, a server's read strictly (section 5.2).

Nothing here is shared with the code under test: a mistake must not be able to cancel itself out.
"""

import os
import random
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Final, Literal

LengthBits = Literal[7, 16, 64]


class Op(IntEnum):
    """The opcodes which section 5.2 defines."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


LONGEST_CONTROL_PAYLOAD: Final = 125
LONGEST_16_BIT_PAYLOAD: Final = 0xFFFF


# Frames of a client.


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    key: bytes | None = None,
    length_bits: LengthBits | None = None,
    announced: int | None = None,
) -> bytes:
    """Build one frame, legal or not.

    `rsv` is the three reserved bits as a number, rsv1 the highest. `length_bits` forces an encoding of the
    length, longer than needed too. `announced` is the length that stands in the header in place of the true
    one. `key` is the masking key in place of a random one.
    """
    key = os.urandom(4) if key is None else key
    first = fin << 7 | rsv << 4 | opcode
    length = len(payload) if announced is None else announced
    header = bytes([first]) + _length_field(length, masked << 7, length_bits)
    return header + (key + apply_key(payload, key) if masked else payload)


def _length_field(length: int, mask_bit: int, bits: LengthBits | None) -> bytes:
    if bits is None:
        bits = 7 if length <= LONGEST_CONTROL_PAYLOAD else 16 if length <= LONGEST_16_BIT_PAYLOAD else 64
    if bits == 7:
        return struct.pack("!B", mask_bit | length)
    if bits == 16:
        return struct.pack("!BH", mask_bit | 126, length)
    return struct.pack("!BQ", mask_bit | 127, length)


def apply_key(payload: bytes, key: bytes) -> bytes:
    """Mask or unmask (section 5.3), as one exclusive or of two very long numbers."""
    size = len(payload)
    pattern = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")).to_bytes(size, "big")


def text(message: str) -> bytes:
    return frame(Op.TEXT, message.encode())


def binary(message: bytes) -> bytes:
    return frame(Op.BINARY, message)


def ping(payload: bytes = b"") -> bytes:
    return frame(Op.PING, payload)


def pong(payload: bytes = b"") -> bytes:
    return frame(Op.PONG, payload)


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    return frame(Op.CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def fragments(opcode: int, parts: Sequence[bytes]) -> list[bytes]:
    """The frames of one message that is sent in these parts."""
    last = len(parts) - 1
    return [frame(Op.CONTINUATION if n else opcode, part, fin=n == last) for n, part in enumerate(parts)]


def cut_at(data: bytes, positions: Iterable[int]) -> list[bytes]:
    """The pieces of `data` between these positions, in order; empty ones where positions meet."""
    edges = [0, *sorted(positions), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


# Ways to spread bytes over writes to the socket.

Cut = Callable[[bytes], Iterable[bytes]]


def whole(data: bytes) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[n : n + 1] for n in range(len(data))]


def random_cuts(seed: int) -> Cut:
    """Cut into pieces of 1 to 400 bytes, the same ones for the same seed."""

    def cut(data: bytes) -> Iterable[bytes]:
        dice = random.Random(seed)
        start = 0
        while start < len(data):
            end = start + dice.randint(1, 400)
            yield data[start:end]
            start = end

    return cut


# Frames of a server.


class RuleBrokenError(AssertionError):
    """The server sent what RFC 6455 forbids it to send."""


@dataclass(frozen=True)
class ServerFrame:
    """A frame as the server sent it."""

    opcode: Op
    fin: bool
    payload: bytes


class FrameReader:
    """Bytes in, frames out; anything a server must not send raises `RuleBrokenError`."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def mid_frame(self) -> bool:
        """Whether a frame has begun that is not whole yet."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> ServerFrame | None:
        """Take the next whole frame, if there is one."""
        if len(self._buffer) < 2:
            return None
        first, second = self._buffer[:2]
        opcode = _checked_opcode(first)
        if second & 0x80:
            raise RuleBrokenError("a server must not mask its frames (section 5.1)")
        start, length = self._extent(second)
        if length is None:
            return None
        fin = bool(first & 0x80)
        if opcode >= Op.CLOSE and (not fin or length > LONGEST_CONTROL_PAYLOAD):
            raise RuleBrokenError(f"a {opcode.name} of {length} bytes, fin={fin} (section 5.5)")
        if len(self._buffer) < start + length:
            return None
        payload = bytes(memoryview(self._buffer)[start : start + length])
        del self._buffer[: start + length]
        return ServerFrame(opcode, fin, payload)

    def _extent(self, second: int) -> tuple[int, int | None]:
        """Where the payload starts and how long it is; None while the header is not whole."""
        if second < 126:
            return 2, second
        width, least = (2, 126) if second == 126 else (8, LONGEST_16_BIT_PAYLOAD + 1)
        if len(self._buffer) < 2 + width:
            return 2 + width, None
        length = int.from_bytes(self._buffer[2 : 2 + width], "big")
        if length < least or length >> 63:
            raise RuleBrokenError(f"the length {length} in {width} bytes (section 5.2)")
        return 2 + width, length


def _checked_opcode(first: int) -> Op:
    if first & 0x70:
        raise RuleBrokenError(f"reserved bits without an extension: first byte {first:#04x}")
    try:
        return Op(first & 0x0F)
    except ValueError:
        raise RuleBrokenError(f"a reserved opcode: first byte {first:#04x}") from None
