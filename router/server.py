"""The server: one function whose nesting is the order of lifetimes.

    supervisor of services (router, feeds, liveness)
      └─ supervisor of connections, HTTP requests
           └─ listeners

Going down undoes it from the inside out, each phase with a deadline: stop accepting, say goodbye, drain the
outboxes, close, stop the feeds, stop the router.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import structlog
import trio

from actors import ActorError, ActorRef, ChildSpec, Supervisor
from router.addresses import host_in_url
from router.auth.tokens import Authenticator
from router.config import Config, ConfigError
from router.connection import Connection, Services
from router.door.front_door import FrontDoor
from router.door.http import HttpServer
from router.door.listening import Addresses, accept, addresses_of, listen, make_room
from router.door.tls import Tls, make_tls
from router.door.visitors import Visitors
from router.errors import CloseCode
from router.feeds.host import HostFeed, HostQueue
from router.feeds.logs import LogFeed, LogHandler
from router.feeds.metrics import HostNumbers, MetricsFeed
from router.feeds.status import StatusFeed
from router.hub.actor import Hub
from router.hub.state import RouterState
from router.letters import Drain, Message
from router.liveness import Liveness
from router.reloading import make_authenticator, read_schemas, reload
from router.rest.app import make_app

log = structlog.get_logger("router.server")

#: How long after the close frames' own deadline a connection has to end.
_MORE_FOR_CLOSING_S = 1.0


class Server:
    """The whole server. It runs once; the mutable state is whether it was told to stop."""

    def __init__(
        self,
        config: Config,
        log_handler: LogHandler | None = None,
        host: HostQueue | None = None,
        host_numbers: HostNumbers | None = None,
    ) -> None:
        """Make a server.

        Args:
            config: The configuration.
            log_handler: Collects log records for the `logs` channel; None: that channel has none.
            host: Where the program that it is embedded in puts its events; None: it is in none.
            host_numbers: What that program adds to the metrics.
        """
        self._config = config
        self._log_handler = log_handler
        self._host = host
        self._host_numbers = host_numbers
        self._stop = trio.Event()
        self._services: Services | None = None
        self._tls: Tls | None = None

    def stop(self) -> None:
        """Tell `run` to go down, phase by phase, and to return."""
        self._stop.set()

    async def reload(self, config: Config) -> None:
        """Put keys, permissions and channels of another configuration in force; its other settings wait for a restart.

        Raises:
            ConfigError: It cannot be used, or the server does not run; then nothing has changed.
            router.auth.KeyConfigError: Likewise.

        Cancellation: nothing or all of it has changed.
        """
        if self._services is None:
            raise ConfigError("the server does not run (yet), so nothing can be read anew")
        await reload(self._config, config, self._services, self._tls)

    async def run(self, *, task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until told to stop; tells the bound addresses when it accepts.

        Raises:
            ConfigError: A key or a schema cannot be used, or the address cannot be bound.
            router.auth.KeyConfigError: Likewise.
            ExceptionGroup: With an `actors.RestartLimitError`, where a service failed too often.

        Cancellation: everything ends at once, without goodbye.
        """
        schemas = await trio.to_thread.run_sync(read_schemas, self._config)
        state = RouterState(self._config, schemas=schemas)
        authenticator = await make_authenticator(self._config, state.revocations)
        self._tls = make_tls(self._config)
        with _closing(await listen(self._config)) as listeners:
            status = StatusFeed()
            services, shared = self._make_services(state, authenticator)
            async with trio.open_nursery() as outer:
                await outer.start(services.run)
                self._services = shared
                await shared.router.send(status.event("running"))
                async with trio.open_nursery() as inner:
                    connections = Supervisor("connections")
                    await inner.start(connections.run)
                    http = HttpServer(make_app(state, authenticator, shared.router), self._config)
                    room = make_room(self._config)
                    visitors = Visitors(shared, connections, room.websockets)
                    door = FrontDoor(self._config, visitors, http, self._tls)
                    try:
                        async with trio.open_nursery() as acceptors:
                            for listener in listeners:
                                acceptors.start_soon(accept, listener, door, inner, room.connections)
                            self._say_listening(addresses_of(listeners))
                            task_status.started(addresses_of(listeners))
                            await self._stop.wait()
                            acceptors.cancel_scope.cancel()
                        _close_all(listeners)
                        await self._let_go(shared, status, door, connections, http)
                    finally:
                        http.give_up()  # no cancellation reaches its sends
                    inner.cancel_scope.cancel()
                services.stop()
        log.info("stopped")

    def _make_services(self, state: RouterState, authenticator: Authenticator | None) -> tuple[Supervisor, Services]:
        """The services in the order of their starts; the router is stopped last."""
        specs = [
            ChildSpec("router", lambda: Hub(state), mailbox_size=self._config.router_mailbox),
            ChildSpec("metrics", lambda: MetricsFeed(state, router, self._host_numbers)),
            ChildSpec("liveness", lambda: Liveness(shared)),
        ]
        handler = self._log_handler
        if handler is not None:
            specs.append(ChildSpec("logs", lambda: LogFeed(handler, router)))
        host = self._host
        if host is not None:
            specs.append(ChildSpec("host", lambda: HostFeed(host, state.channels, router)))
        services = Supervisor("services", specs)
        router: ActorRef[Message] = services.ref("router")
        shared = Services(state, router, authenticator, connections=set())
        return services, shared

    # Going down

    async def _let_go(
        self, shared: Services, status: StatusFeed, door: FrontDoor, connections: Supervisor, http: HttpServer
    ) -> None:
        """Say goodbye, let outboxes drain and requests be answered, close what is left."""
        door.shut()
        await http.terminate()
        with trio.move_on_after(self._config.drain_s):
            await self._hear_out()
            if await self._say_goodbye(shared.router, status):
                _close(connection for connection in shared.connections if connection.session is None)
                await connections.wait_empty()
                await door.wait_empty()
        if door.open:
            log.warning("closing those who did not drain", connections=door.open)
        _close(shared.connections)
        http.give_up()
        with trio.move_on_after(self._config.close_s + _MORE_FOR_CLOSING_S):
            await connections.wait_empty()
            await door.wait_empty()

    async def _hear_out(self) -> None:
        """Let the router have what its host has broadcast so far, and take no more of it."""
        if self._host is not None:
            self._host.close("the router is going down")
            await self._host.wait_empty()

    async def _say_goodbye(self, router: ActorRef[Message], status: StatusFeed) -> bool:
        """Have the router tell everybody; False where it cannot."""
        try:
            await router.send(status.event("draining"))
            told = await router.ask(Drain)
        except ActorError as error:
            log.error("clients could not be told of the shutdown", reason=str(error))
            return False
        log.info("draining", clients=told, within_s=self._config.drain_s)
        return True

    def _say_listening(self, addresses: Addresses) -> None:
        scheme = "ws" if self._tls is None else "wss"
        for host, port in addresses:
            log.info("listening", host=host, port=port, websocket=f"{scheme}://{host_in_url(host)}:{port}/ws")
        if self._config.development:
            log.warning(
                "DEVELOPMENT MODE: no key is configured, so everybody on this machine is an administrator; "
                "set NEUROGRAPH_JWT_KEYS to end it"
            )


def _close(connections: Iterable[Connection]) -> None:
    for connection in tuple(connections):
        connection.lane.close(CloseCode.GOING_AWAY, "the server is going down")


@contextmanager
def _closing(listeners: list[trio.SocketListener]) -> Iterator[list[trio.SocketListener]]:
    try:
        yield listeners
    finally:
        _close_all(listeners)


def _close_all(listeners: list[trio.SocketListener]) -> None:
    for listener in listeners:
        listener.socket.close()
