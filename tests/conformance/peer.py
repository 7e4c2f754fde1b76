"""A raw WebSocket client: it may break every rule of RFC 6455, and forgives the server none."""

import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import trio

from tests.conformance.opening import Response, assert_accepts, handshake, parse_response
from tests.conformance.wire import Cut, FrameReader, Op, RuleBrokenError, ServerFrame, close, whole

# For one whole conversation. It only ever passes where something hangs.
DEADLINE_S: Final = 20.0
READ_SIZE: Final = 256 * 1024

Message = str | bytes


@dataclass(frozen=True)
class Ending:
    """How a conversation ended."""

    close_frame: bool
    code: int | None  # None: no close frame came, or one without a code
    reason: str
    tcp: Literal["eof", "reset"]
    closed_tcp_first: Literal["server", "client"]


class Peer:
    """One connection to the server, seen from the client."""

    def __init__(self, stream: trio.SocketStream, port: int) -> None:
        self._stream = stream
        self._port = port
        self._deadline = trio.current_time() + DEADLINE_S
        self._reader = FrameReader()
        self._parts: list[ServerFrame] = []  # of a message which the server has not finished
        self._messages: list[Message] = []
        self._pongs: list[bytes] = []
        self._close: tuple[int | None, str] | None = None
        self._tcp: Literal["eof", "reset"] | None = None
        self._hung_up = False

    # Opening handshake.

    async def shake_hands(self, request: bytes | None = None, *, cut: Cut = whole) -> Response:
        """Send a request, by default a right one, and read the head of the answer."""
        await self.send(request or handshake(self._port), cut=cut)
        head = b""
        while b"\r\n\r\n" not in head:
            data = await self._receive_some()
            assert data, f"the connection ended within the answer to the handshake: {head!r}"
            head += data
        head, _, rest = head.partition(b"\r\n\r\n")
        response = parse_response(head)
        if response.status == 101:
            self._feed(rest)
        return response

    # Talking.

    async def send(self, *frames: bytes, cut: Cut = whole) -> None:
        """Send these bytes, one write for each piece that `cut` makes of them."""
        with self._under_deadline("sending"):
            for piece in cut(b"".join(frames)):
                await self._stream.send_all(piece)

    async def receive(self, *messages: Message, pongs: Sequence[bytes] = ()) -> None:
        """Read until as many messages and pongs have come; they must be these, each kind in its order.

        How pongs stand among messages is left open: section 5.5.2 wants a pong as soon as practical, which
        may well be before the echo of an earlier message.
        """
        while len(self._messages) < len(messages) or len(self._pongs) < len(pongs):
            assert not self._over, self._describe("the connection ended early")
            await self._read_on()
        self._compare("message", self._messages, messages)
        self._compare("pong", self._pongs, pongs)

    async def exchange(
        self, *frames: bytes, messages: Sequence[Message] = (), pongs: Sequence[bytes] = (), cut: Cut = whole
    ) -> None:
        """Send and receive at once, so that neither side waits for ever for the other to read."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(self.send, *frames, cut=cut))
            await self.receive(*messages, pongs=pongs)

    async def until_mid_frame(self) -> None:
        """Read until the server has begun a frame, and leave the rest of it unread."""
        while not self._reader.mid_frame:
            assert not self._over, self._describe("the connection ended early")
            await self._read_on()

    # Ending.

    async def until_close_frame(self) -> None:
        while not self._over:
            await self._read_on()

    async def until_pong_or_close_frame(self) -> None:
        while not self._over and not self._pongs:
            await self._read_on()

    async def ending(
        self,
        *,
        sending: bytes = b"",
        cut: Cut = whole,
        answer: bool = False,
        hang_up: bool = True,
        before: Sequence[Message] = (),
        pongs_before: Sequence[bytes] = (),
    ) -> Ending:
        """Read to the end of the connection and tell how it was.

        Until the server's close frame is there, `sending` is sent. `answer` tells to answer that frame with
        one of our own. With `hang_up` the sending side is then shut, so that a server which gives its peer
        time to do so need not wait; without it the server has to end the TCP connection all by itself. What
        may still come before the close frame is in `before` and `pongs_before`: all of it or less, for a
        connection that ends need not deliver any more (section 7.1.7).
        """
        async with trio.open_nursery() as nursery:
            if sending:
                nursery.start_soon(self._send_if_open, sending, cut)
            await self.until_close_frame()
            nursery.cancel_scope.cancel()
        if answer and self._close is not None:
            await self._send_if_open(close(self._close[0]))
        if hang_up and self._tcp is None:
            await self.shut_sending_side()
        while self._tcp is None:
            await self._read_on()
        self._compare("message", self._messages, before[: len(self._messages)])
        self._compare("pong", self._pongs, pongs_before[: len(self._pongs)])
        assert not self._messages, self._describe("more messages than were due")
        assert not self._pongs, self._describe("more pongs than were due")
        assert self._close is None or not self._reader.mid_frame, self._describe("bytes after the close frame")
        code, reason = self._close or (None, "")
        return Ending(self._close is not None, code, reason, self._tcp, "client" if self._hung_up else "server")

    async def shut_sending_side(self) -> None:
        """Send no more, without a close frame."""
        self._hung_up = True
        with suppress(trio.BrokenResourceError):
            await self._stream.send_eof()

    def reset(self) -> None:
        """Leave as a crashed machine would: the server gets a TCP reset."""
        no_lingering = struct.pack("ii", 1, 0)
        self._stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, no_lingering)
        self._stream.socket.close()

    async def _send_if_open(self, data: bytes, cut: Cut = whole) -> None:
        with suppress(trio.BrokenResourceError):
            await self.send(data, cut=cut)

    # Reading.

    @property
    def _over(self) -> bool:
        return self._close is not None or self._tcp is not None

    async def _read_on(self) -> None:
        try:
            data = await self._receive_some()
        except trio.BrokenResourceError:
            self._tcp = "reset"
            return
        self._feed(data)
        if not data:
            self._tcp = "eof"

    async def _receive_some(self) -> bytes:
        with self._under_deadline("reading"):
            return await self._stream.receive_some(READ_SIZE)

    def _feed(self, data: bytes) -> None:
        self._reader.feed(data)
        while frame := self._reader.next():
            if self._close is not None:
                raise RuleBrokenError(f"a {frame.opcode.name} after the close frame (section 5.5.1)")
            self._take(frame)

    def _take(self, frame: ServerFrame) -> None:
        match frame.opcode:
            case Op.PONG:
                self._pongs.append(frame.payload)
            case Op.CLOSE:
                self._close = parse_close(frame.payload)
            case Op.PING:
                pass  # a server may ping whenever it likes; no conversation here lasts long enough to mind
            case _:
                self._take_part(frame)

    def _take_part(self, frame: ServerFrame) -> None:
        if (frame.opcode is Op.CONTINUATION) != bool(self._parts):
            raise RuleBrokenError(f"a {frame.opcode.name} where it must not be (section 5.4)")
        self._parts.append(frame)
        if frame.fin:
            payload = b"".join(part.payload for part in self._parts)
            is_text = self._parts[0].opcode is Op.TEXT
            self._messages.append(payload.decode() if is_text else payload)
            self._parts.clear()

    # Saying what went wrong.

    def _compare(self, kind: str, have: list[Message] | list[bytes], want: Sequence[Message]) -> None:
        """Take as many as are wanted, which must be the ones wanted.

        Done by hand: a difference of two messages of megabytes is nothing to print.
        """
        for number, expected in enumerate(want):
            found = have[number]
            assert found == expected, f"{kind} {number}: {shown(found)}, not {shown(expected)}"
        del have[: len(want)]

    @contextmanager
    def _under_deadline(self, doing: str) -> Iterator[None]:
        try:
            with trio.fail_at(self._deadline):
                yield
        except trio.TooSlowError:
            raise AssertionError(self._describe(f"still {doing} after {DEADLINE_S} s")) from None

    def _describe(self, what: str) -> str:
        messages = [shown(message) for message in self._messages[:5]]
        pongs = [shown(pong) for pong in self._pongs[:5]]
        return (
            f"{what}; close frame {self._close}, TCP {self._tcp or 'open'}, "
            f"{len(self._messages)} messages {messages}, {len(self._pongs)} pongs {pongs}, "
            f"{'within' if self._reader.mid_frame else 'between'} frames"
        )


def shown(message: Message) -> str:
    if len(message) <= 60:
        return repr(message)
    return f"{message[:60]!r}… ({len(message)} long)"


def parse_close(payload: bytes) -> tuple[int | None, str]:
    """Check the body of a server's close frame (sections 5.5.1 and 7.4)."""
    if not payload:
        return None, ""
    if len(payload) == 1:
        raise RuleBrokenError("a close frame with half a code")
    code = int.from_bytes(payload[:2], "big")
    if not 1000 <= code <= 4999 or code in {1004, 1005, 1006, 1015}:
        raise RuleBrokenError(f"the close code {code}, which must never be sent")
    return code, payload[2:].decode()


@asynccontextmanager
async def tcp_peer(port: int) -> AsyncIterator[Peer]:
    """Connect; the opening handshake is left to the caller."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        yield Peer(stream, port)


@asynccontextmanager
async def open_peer(port: int) -> AsyncIterator[Peer]:
    """Connect and shake hands."""
    async with tcp_peer(port) as peer:
        assert_accepts(await peer.shake_hands())
        yield peer


async def assert_fails(
    peer: Peer,
    *codes: int,
    sending: bytes = b"",
    cut: Cut = whole,
    before: Sequence[Message] = (),
    pongs_before: Sequence[bytes] = (),
) -> None:
    """Check that the server fails the connection with one of these codes, and answer it as a client does.

    Section 7.1.7 only advises a close frame before the connection goes. This server's contract promises
    one, and that it arrives: unread input must not turn the end into a reset that overtakes it.
    """
    ending = await peer.ending(sending=sending, cut=cut, answer=True, before=before, pongs_before=pongs_before)
    assert ending.code in codes, ending
    assert ending.tcp == "eof", ending


async def assert_closes(peer: Peer, code: int, *, before: Sequence[Message] = ()) -> None:
    """Check that the server answers a close frame that was sent before, with this code."""
    ending = await peer.ending(before=before)
    assert ending.code == code, ending
    assert ending.tcp == "eof", ending
