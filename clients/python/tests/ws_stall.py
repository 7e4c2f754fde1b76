"""A network between the client and the server that a test can bring to a halt: nothing passes, nothing is closed."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_CHUNK: Final = 65_536


class Network:
    """Passes on what comes, both ways, unless it is stalled; what comes then is held back."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._passing = threading.Event()
        self._passing.set()
        self._ended = False
        #: A side that is about to be reset must not be closed before.
        self._resetting = False
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._listener.getsockname()[1]}"

    def stall(self) -> None:
        self._passing.clear()

    def pass_on(self) -> None:
        self._passing.set()

    def reset(self) -> None:
        """Break the connections as a peer does that knows nothing of them: with a reset."""
        sockets, self._sockets = self._sockets, []
        threads, self._threads = self._threads[1:], self._threads[:1]
        self._resetting = True
        for near, far in zip(sockets[::2], sockets[1::2], strict=True):
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            near.shutdown(socket.SHUT_RD)
            _cut(far)
        for thread in threads:
            thread.join()
        for one in sockets:
            one.close()
        self._resetting = False

    def end(self) -> None:
        """Cut all connections, and wait until nothing is left."""
        self._ended = True
        self._passing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for one in self._sockets:
            _cut(one)
        for thread in self._threads:
            thread.join()
        for one in (self._listener, *self._sockets):
            one.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # it is shut down
            far = socket.create_connection(("127.0.0.1", self._to))
            self._sockets += [near, far]
            self._start(self._pump, near, far)
            self._start(self._pump, far, near)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(_CHUNK):
                self._passing.wait()
                target.sendall(data)
        except OSError:
            pass
        self._passing.wait()
        if not self._resetting:
            _cut(target)


def _cut(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is already


@contextmanager
def network(port: int) -> Iterator[Network]:
    one = Network(port)
    try:
        yield one
    finally:
        one.end()
