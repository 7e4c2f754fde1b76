"""Listening: sockets bound, connections accepted, descriptors counted.

Trio's own `serve_listeners` closes a stream when its handler returns; here a stream goes on to an actor.
"""

from __future__ import annotations

import errno
import math
import resource
import socket
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from router.config import Config, ConfigError

log = structlog.get_logger("router.listening")

#: Descriptors kept for everything but clients' connections.
RESERVED_DESCRIPTORS = 64
#: Connections that are not (yet) WebSockets: requests that are being read, HTTP, refusals. What is left is for those.
PASSING_CONNECTIONS = 64
BACKLOG = 1024
#: The errors of `accept` that pass when others let go.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_S = 0.1
_SAY_AGAIN_AFTER_S = 60.0

Addresses = list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Room:
    """How many connections the descriptors allow.

    Attributes:
        websockets: One more is closed 1013.
        connections: Of all kinds; more wait in the kernel until one of them ends.
    """

    websockets: int
    connections: float


def make_room(config: Config) -> Room:
    """Raise the descriptor limit to the hard one, and say how many connections that allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connections = math.inf if hard == resource.RLIM_INFINITY else max(2, hard - RESERVED_DESCRIPTORS)
    wanted = config.max_connections
    allowed = int(min(wanted, connections - min(PASSING_CONNECTIONS, connections // 2)))
    if allowed < wanted:
        log.warning("fewer connections than configured", allowed=allowed, wanted=wanted, descriptors=hard)
    else:
        log.info("descriptors raised", descriptors=hard, allows_connections=allowed)
    return Room(allowed, connections)


async def listen(config: Config) -> list[trio.SocketListener]:
    """Bind the configured address.

    Raises:
        ConfigError: That is not possible.
    """
    try:
        listeners = await trio.open_tcp_listeners(config.port, host=config.host, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        hint = "; choose another with --port" if in_use else ""
        why = error.strerror if isinstance(error, OSError) else "not a valid host name"
        raise ConfigError(f"cannot listen on {config.host} port {config.port}: {why}{hint}") from None
    for listener in listeners:  # what it accepts inherits this
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, config.send_buffer_bytes)
    return listeners


def addresses_of(listeners: list[trio.SocketListener]) -> Addresses:
    """Where clients can connect: host and port of each."""
    return [listener.socket.getsockname()[:2] for listener in listeners]


def address_of(stream: trio.SocketStream) -> str:
    """The peer's address, for logs and limits."""
    try:
        peer = stream.socket.getpeername()
    except OSError:
        return "unknown"
    return str(peer[0]) if isinstance(peer, tuple) else "local"


class Door(Protocol):
    """Who takes the connections."""

    @property
    def open(self) -> int:
        """How many there are."""
        ...

    def take(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        """Serve one, by a task in `nursery` that never raises; it counts as open at once."""
        ...

    def make_way(self) -> None:
        """Make room for more: close some that nobody uses, if there are any."""
        ...


async def accept(
    listener: trio.abc.Listener[trio.SocketStream], door: Door, nursery: trio.Nursery, max_connections: float = math.inf
) -> None:
    """Give each connection to the door, which serves it in `nursery`, until cancelled.

    Out of descriptors, or beyond `max_connections`, idle ones are closed, and some are waited for to end: those who
    are here are served, those who come wait in the kernel.

    Raises:
        OSError: The listener cannot be used any more.
    """
    said_at = -math.inf
    while True:
        reason = "the limit of connections is reached"
        try:
            if door.open < max_connections:
                door.take(await listener.accept(), nursery)
                continue
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            reason = str(error)
        door.make_way()
        now = trio.current_time()
        if now - said_at >= _SAY_AGAIN_AFTER_S:
            said_at = now
            log.error("cannot accept, serving those who are here", reason=reason)
        await trio.sleep(_PAUSE_S)
