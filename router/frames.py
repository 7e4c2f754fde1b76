"""WebSocket frames as bytes (RFC 6455 section 5.2); no I/O.

Server frames carry no mask, so the frame of an event is the same bytes for every subscriber.
"""

from __future__ import annotations

TEXT = 0x1
BINARY = 0x2
CLOSE = 0x8
PING = 0x9

FIN = 0x80
MASKED = 0x80
#: A control frame's payload is at most this long (section 5.5).
MAX_CONTROL_BYTES = 125

#: The headers of the usual lengths, made once.
_HEADERS = (
    *(b"\x81%c" % length for length in range(126)),
    *(b"\x81\x7e%c%c" % (length >> 8, length & 0xFF) for length in range(126, 2048)),
)


class Binary(bytes):
    """The payload of a binary message, where that of a text message is plain `bytes`, valid UTF-8."""

    __slots__ = ()


def text_header(length: int) -> bytes:
    """The header of an unfragmented, unmasked text frame with a payload of `length` bytes."""
    if length < len(_HEADERS):
        return _HEADERS[length]
    if length < 65536:
        return b"\x81\x7e%c%c" % (length >> 8, length & 0xFF)
    return b"\x81\x7f" + length.to_bytes(8, "big")


def text_frame(payload: bytes) -> bytes:
    """An unfragmented, unmasked text frame."""
    return text_header(len(payload)) + payload


def frame(opcode: int, payload: bytes) -> bytes:
    """An unfragmented, unmasked frame of any kind."""
    return bytes((FIN | opcode,)) + text_header(len(payload))[1:] + payload


def close_frame(code: int) -> bytes:
    """A close frame without a reason."""
    return frame(CLOSE, code.to_bytes(2, "big"))


def is_close(data: bytes | bytearray | memoryview) -> bool:
    """Whether `data` begins with a close frame."""
    return len(data) > 0 and data[0] == FIN | CLOSE


#: The heartbeat for a peer that sees pings.
PING_FRAME = frame(PING, b"")
