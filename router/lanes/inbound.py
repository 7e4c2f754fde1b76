"""The inbound lane's parser: lifts whole messages out of a client's byte stream; no I/O.

A WebSocket library parses every frame with the same care, at ten times the cost of the common case: a whole,
unfragmented, masked data frame with a legal header. Those are lifted here. Everything else (control frames,
fragments, anything odd or illegal) is passed on byte by byte, in order, to the library, which answers it as
RFC 6455 asks. The rules that keep the two in step:

- a frame that is passed on is passed whole, its end known, before lifting resumes;
- a data frame amid a fragmented message is not liftable;
- a message that was passed on comes back from the library before anything is lifted again (the caller's part:
  `message_passed`);
- after a close frame of the peer nothing is lifted; after our own, only a close frame is passed on.
"""

from __future__ import annotations

from router.frames import BINARY, CLOSE, FIN, MASKED, MAX_CONTROL_BYTES, TEXT, Binary
from router.lanes.masking import apply_mask

_TEXT_FRAME = FIN | TEXT
_BINARY_FRAME = FIN | BINARY
_OPCODE = 0x0F
_CONTROL = 0x08
_LENGTH = 0x7F
#: How many bytes an extended length has, and the least one that may be written so.
_EXTENDED = {126: (2, 126), 127: (8, 65536)}


class MessageTooBigError(Exception):
    """The peer announced a message over the limit. Messages before it have been lifted."""


class Lifter:
    """Bytes in; whole messages and bytes to pass on out.

    The mutable state is what has been fed and not yet used, and where in the stream it stands: amid a frame that
    is passed on or skipped, amid a fragmented message, past a close frame. The reading task alone changes it.
    """

    __slots__ = (
        "_buffer", "_ends_message", "_fragment_bytes", "_fragmented", "_frame_left", "_max_message_bytes",
        "_peer_closed", "_pos", "_skipping", "message_passed",
    )  # fmt: skip

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer: bytes | bytearray = b""
        self._pos = 0
        #: Bytes still to come of a frame whose beginning was passed on, or skipped.
        self._frame_left = 0
        self._skipping = False
        self._ends_message = False
        self._fragmented = False
        self._fragment_bytes = 0
        self._peer_closed = False
        #: The bytes passed on last end a data message: it must come out of the library before the next `lift`.
        self.message_passed = False

    @property
    def amid_message(self) -> bool:
        """Whether the peer has begun a frame or message and not finished it."""
        return self.amid_passing or self._pos < len(self._buffer)

    @property
    def amid_passing(self) -> bool:
        """Whether the beginning of what is unfinished has been passed on."""
        return self._fragmented or self._frame_left > 0

    def feed(self, data: bytes) -> None:
        """Take what was read. A short rest is joined with it, a long one grows in place: a message may be very long."""
        left = len(self._buffer) - self._pos
        if not left:
            self._buffer = data
        elif left <= len(data):
            self._buffer = b"".join((self._buffer[self._pos :], data))
        else:
            if not isinstance(self._buffer, bytearray):
                self._buffer = bytearray(self._buffer)
            del self._buffer[: self._pos]
            self._buffer += data
        self._pos = 0

    def lift(self) -> list[bytes]:
        """Take the whole messages that come next, up to the first byte that `pass_on` has to look at."""
        messages: list[bytes] = []
        if self._frame_left or self._fragmented or self._peer_closed:
            return messages
        buffer, pos, limit = self._buffer, self._pos, self._max_message_bytes
        end = len(buffer)
        while end - pos >= 6:  # the shortest masked frame
            opcode = buffer[pos]
            length = buffer[pos + 1] ^ MASKED
            mask = pos + 2
            if opcode != _TEXT_FRAME and opcode != _BINARY_FRAME:
                break
            if length == 126:
                if end - pos < 8:
                    break
                length = buffer[pos + 2] << 8 | buffer[pos + 3]
                if length < 126:
                    break
                mask = pos + 4
            elif length > 126:
                if length > 127 or end - pos < 14:
                    break
                length = int.from_bytes(buffer[pos + 2 : pos + 10], "big")
                if length < 65536:
                    break
                mask = pos + 10
            stop = mask + 4 + length
            if length > limit or stop > end:
                break
            payload = apply_mask(buffer[mask + 4 : stop], buffer[mask : mask + 4])
            if opcode == _BINARY_FRAME:
                payload = Binary(payload)
            elif not (payload.isascii() or _is_utf8(payload)):
                break
            messages.append(payload)
            pos = stop
        self._pos = pos
        return messages

    def pass_on(self, *, closing: bool) -> bytes:
        """Take what the library has to see next; what `lift` would take, once whole, is left where it is.

        Args:
            closing: Our own close frame is on its way: all is skipped but a close frame, and what is left of a
                frame that was passed on in part.

        Returns:
            The frame, or what there is of it; empty where more has to be fed first.

        Raises:
            MessageTooBigError: A frame's header, or a message's frames together, announce more than the limit.
        """
        self.message_passed = False
        if self._pos == len(self._buffer):
            return b""  # as a rule: whole messages, and nothing else
        while self._frame_left or self._begin_frame(closing=closing):
            stop = min(self._pos + self._frame_left, len(self._buffer))
            passed = b"" if self._skipping else bytes(self._buffer[self._pos : stop])
            self._frame_left -= stop - self._pos
            self._pos = stop
            if self._frame_left or not self._skipping:
                self.message_passed = self._ends_message and not self._frame_left
                return passed
        return b""

    def _begin_frame(self, *, closing: bool) -> bool:
        """Look at the next frame's header. False: nothing can be done before more is fed."""
        buffer, pos = self._buffer, self._pos
        if self._peer_closed:
            self._pos = len(buffer)
            return False
        available = len(buffer) - pos
        if available < 2:
            return False
        first, second = buffer[pos], buffer[pos + 1]
        extended, least = _EXTENDED.get(second & _LENGTH, (0, 0))
        header = 2 + extended + (4 if second & MASKED else 0)
        if available < header:
            return False
        length = int.from_bytes(buffer[pos + 2 : pos + 2 + extended], "big") if extended else second & _LENGTH
        whole = available >= header + length
        opcode = first & _OPCODE
        self._skipping = closing and opcode != CLOSE
        if self._skipping:
            self._ends_message = False
        elif first & _CONTROL:
            if not whole and length <= MAX_CONTROL_BYTES:
                return False
            self._peer_closed = opcode == CLOSE
            self._ends_message = False
        else:
            self._check_size(opcode, length)
            legal = first in (_TEXT_FRAME, _BINARY_FRAME) and second & MASKED and length >= least
            if legal and not whole and not self._fragmented:
                return False
            self._fragmented = not first & FIN
            self._ends_message = not self._fragmented
        self._frame_left = header + length
        return True

    def _check_size(self, opcode: int, length: int) -> None:
        if opcode:  # not a continuation
            self._fragment_bytes = 0
        self._fragment_bytes += length
        if self._fragment_bytes > self._max_message_bytes:
            raise MessageTooBigError


def _is_utf8(payload: bytes | bytearray) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
