"""Listening: sockets bound, connections accepted, descriptors counted.

Trio's own `serve_listeners` closes a stream when its handler returns; here a stream goes on to an actor.
"""

from __future__ import annotations

import errno
import resource
import socket
from collections.abc import Awaitable, Callable

import structlog
import trio

from router.config import Config, ConfigError

log = structlog.get_logger("router.listening")

#: Descriptors kept for all that is no client's connection.
RESERVED_DESCRIPTORS = 64
BACKLOG = 1024
#: The errors of `accept` that pass when others let go.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_S = 0.1
_SAY_AGAIN_AFTER_S = 60.0


async def listen(config: Config) -> list[trio.SocketListener]:
    """Bind the configured address.

    Raises:
        ConfigError: That is not possible.
    """
    try:
        listeners = await trio.open_tcp_listeners(config.port, host=config.host, backlog=BACKLOG)
    except OSError as error:
        hint = "; choose another with --port" if _is_in_use(error) else ""
        where, why = f"{config.host} port {config.port}", error.strerror or error
        raise ConfigError(f"cannot listen on {where}: {why}{hint}") from None
    for listener in listeners:  # what it accepts inherits this
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, config.send_buffer_bytes)
    return listeners


def _is_in_use(error: OSError) -> bool:
    cause = error.__cause__
    causes = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (error, cause)
    return any(isinstance(each, OSError) and each.errno == errno.EADDRINUSE for each in causes)


def allowed_connections(config: Config) -> int:
    """Raise the descriptor limit to the hard one, and say how many connections that allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = config.max_connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, max(1, hard - RESERVED_DESCRIPTORS))
    if allowed < wanted:
        log.warning("fewer connections than configured", allowed=allowed, wanted=wanted, descriptors=hard)
    else:
        log.info("descriptors raised", descriptors=hard, allows_connections=allowed)
    return allowed


async def accept(
    listener: trio.SocketListener, handle: Callable[[trio.SocketStream], Awaitable[None]], nursery: trio.Nursery
) -> None:
    """Start `handle` in `nursery` for each connection, until cancelled. Out of descriptors, wait for some.

    Raises:
        OSError: The listener cannot be used any more.
    """
    said_at = -_SAY_AGAIN_AFTER_S
    async with listener:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                now = trio.current_time()
                if now - said_at >= _SAY_AGAIN_AFTER_S:
                    said_at = now
                    log.error("cannot accept, serving those who are here", reason=error.strerror)
                await trio.sleep(_PAUSE_S)
            else:
                nursery.start_soon(handle, stream, name="front door")
