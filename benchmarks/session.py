"""A client that does as little as it can, for what the load generator is not made for: it asks, and need not read."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from .errors import BenchmarkError

_TIMEOUT_S = 30.0
#: What the kernel is asked to keep for a client that reads nothing: it is to be full soon.
_SMALL_WINDOW = 4096
_NO_MASK = bytes(4)
_PATIENCE_S = 0.05


class Session:
    """One WebSocket connection, opened and greeted. All calls wait, each up to a deadline.

    Args:
        port: the server's.
        reads: whether what comes is going to be read; if not, the kernel is asked to keep little.
    """

    def __init__(self, port: int, *, reads: bool = True) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(_TIMEOUT_S)
        self._input = b""
        try:
            if not reads:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_WINDOW)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.connect(("127.0.0.1", port))
            self.socket.sendall(
                f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            while b"\r\n\r\n" not in self._input:
                self._read()
            head, _, self._input = self._input.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101"):
                raise BenchmarkError(f"the upgrade on /ws was answered with: {head.splitlines()[0].decode()}")
            self.client_id: str = self.hear("connected")["client_id"]
        except BaseException:
            self.socket.close()
            raise

    def say(self, **message: Any) -> None:
        """Sends a message, masked with zeros, which is a mask as good as any."""
        payload = msgspec.json.encode(message)
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
        self.socket.sendall(b"\x81" + length + _NO_MASK + payload)

    def hear(self, wanted: str) -> dict[str, Any]:
        """Reads up to a message of this type, and returns that.

        Raises:
            BenchmarkError: the server said `error`, or ended the connection, or nothing for too long.
        """
        while True:
            message: dict[str, Any] = msgspec.json.decode(self._frame())
            if message.get("type") == wanted:
                return message
            if message.get("type") == "error":
                raise BenchmarkError(f"the server answered: {message}")

    def publish(self, channel: str, events: Sequence[dict[str, Any]]) -> None:
        """Publishes events in one message, and waits until they have their positions."""
        self.say(type="publish", channel=channel, events=events, id=1)
        self.hear("published")

    def _frame(self) -> bytes:
        """The next text message. Pings are passed over: whoever stays for long says so in the server's settings."""
        while True:
            opcode, size = self._exactly(2)
            if size >= 126:
                size = int.from_bytes(self._exactly(2 if size == 126 else 8))
            payload = self._exactly(size)
            if opcode == 0x81:
                return payload
            if opcode == 0x88:
                raise BenchmarkError(f"the server closed the connection: {payload[2:].decode()}")

    def _exactly(self, size: int) -> bytes:
        while len(self._input) < size:
            self._read()
        taken, self._input = self._input[:size], self._input[size:]
        return taken

    def _read(self) -> None:
        try:
            more = self.socket.recv(65536)
        except OSError as error:
            raise BenchmarkError(f"the server said nothing ({error})") from error
        if not more:
            raise BenchmarkError("the server ended the connection")
        self._input += more


@contextmanager
def opened(port: int, count: int, *, reads: bool = True) -> Iterator[list[Session]]:
    """So many connections. When the block is left they are closed without a word, if they were not before."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            found.append(Session(port, reads=reads))
            stack.callback(found[-1].socket.close)
        yield found


@contextmanager
def read_by_a_thread(sessions: Sequence[Session]) -> Iterator[None]:
    """Until the block is left, reads and forgets whatever comes."""
    over = threading.Event()
    reader = threading.Thread(target=_read_and_forget, args=(sessions, over), name="reader", daemon=True)
    reader.start()
    try:
        yield
    finally:
        over.set()
        reader.join()


def _read_and_forget(sessions: Sequence[Session], over: threading.Event) -> None:
    forgotten = bytearray(256 * 1024)
    with selectors.DefaultSelector() as selector:
        for session in sessions:
            selector.register(session.socket, selectors.EVENT_READ, session.socket)
        while not over.is_set():
            for key, _ in selector.select(_PATIENCE_S):
                try:
                    left = key.data.recv_into(forgotten)
                except OSError:
                    left = 0
                if not left:  # who asks the server learns that one is missing
                    selector.unregister(key.data)
