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


class MessageTooBigError(Exception):
    """The peer announced a message over the limit. Messages before it have been lifted."""


class Lifter:
    """Bytes in; whole messages and bytes to pass on out.

    The mutable state is what has been fed and not yet used, and where in the stream it stands: amid a frame that
    is being passed on, amid a fragmented message, past a close frame. The reading task alone changes it, but for
    `closing`.
    """

    __slots__ = (
        "_buffer",
        "_fragment_bytes",
        "_fragmented",
        "_max_message_bytes",
        "_pass_left",
        "_peer_closed",
        "_pos",
        "closing",
        "message_passed",
    )

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer: bytes | bytearray = b""
        self._pos = 0
        #: Bytes still to pass on of a frame whose beginning was passed on.
        self._pass_left = 0
        self._fragmented = False
        self._fragment_bytes = 0
        self._peer_closed = False
        #: Set once our own close frame is on its way: what follows is discarded, but for a close frame.
        self.closing = False
        #: The bytes passed on last end a data message: it must come out of the library before the next `lift`.
        self.message_passed = False

    @property
    def amid_message(self) -> bool:
        """Whether the peer has begun a frame or message and not finished it."""
        return self._fragmented or self._pass_left > 0 or self._pos < len(self._buffer)

    def feed(self, data: bytes | bytearray) -> None:
        """Take what was read."""
        if self._pos == len(self._buffer):
            self._buffer = data
        else:
            if not isinstance(self._buffer, bytearray):
                self._buffer = bytearray(self._buffer)
            del self._buffer[: self._pos]
            self._buffer += data
        self._pos = 0

    def lift(self, messages: list[bytes]) -> bytes:
        """Append the whole messages that come next to `messages`, up to the first bytes that must be passed on.

        Returns:
            Those bytes; empty where more has to be fed first.

        Raises:
            MessageTooBigError: A frame's header, or a message's frames together, announce more than the limit.
        """
        self.message_passed = False
        if self._pass_left:
            return self._pass_some()
        buffer = self._buffer
        pos = self._pos
        end = len(buffer)
        if not (self._fragmented or self.closing or self._peer_closed):
            limit = self._max_message_bytes
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
        return self._pass_frame()

    def _pass_frame(self) -> bytes:
        """Begin to pass on the frame at hand, unless it is only an unfinished liftable one."""
        buffer = self._buffer
        while True:
            pos = self._pos
            available = len(buffer) - pos
            if self._peer_closed:
                self._pos = len(buffer)
                return b""
            if available < 2:
                return b""
            first, second = buffer[pos], buffer[pos + 1]
            extended = {126: 2, 127: 8}.get(second & 0x7F, 0)
            header = 2 + extended + (4 if second & MASKED else 0)
            if available < header:
                return b""
            length = int.from_bytes(buffer[pos + 2 : pos + 2 + extended], "big") if extended else second & 0x7F
            control = first & 0x08
            if self.closing and first & 0x0F != CLOSE:
                # Discarded, but for a close frame. Its end lies in what is still to come, perhaps.
                if available < header + length:
                    if length > self._max_message_bytes:
                        self._peer_closed = True  # nothing after it can be found in useful time
                    return b""
                self._pos = pos + header + length
                continue
            if control:
                if length <= MAX_CONTROL_BYTES and available < header + length:
                    return b""
                self._peer_closed = first & 0x0F == CLOSE
            else:
                self._check_size(first, length)
                if self._is_unfinished_liftable(first, second, extended, length, available - header):
                    return b""
                self._fragmented = not first & FIN
            self._pass_left = header + length
            return self._pass_some(ends_message=not control and not self._fragmented)

    def _check_size(self, first: int, length: int) -> None:
        if first & 0x0F:  # not a continuation
            self._fragment_bytes = 0
        self._fragment_bytes += length
        if self._fragment_bytes > self._max_message_bytes:
            raise MessageTooBigError

    def _is_unfinished_liftable(self, first: int, second: int, extended: int, length: int, payload: int) -> bool:
        minimal = length >= {0: 0, 2: 126, 8: 65536}[extended]
        return (
            first in (_TEXT_FRAME, _BINARY_FRAME)
            and bool(second & MASKED)
            and minimal
            and not self._fragmented
            and payload < length
        )

    def _pass_some(self, ends_message: bool | None = None) -> bytes:
        """Pass on what there is of the frame that is being passed on."""
        if ends_message is None:
            ends_message = not self._fragmented and not self._peer_closed
        stop = min(self._pos + self._pass_left, len(self._buffer))
        passed = bytes(self._buffer[self._pos : stop])
        self._pass_left -= stop - self._pos
        self._pos = stop
        self.message_passed = ends_message and not self._pass_left
        return passed


def _is_utf8(payload: bytes | bytearray) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
