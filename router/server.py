"""The server: one function whose nesting is the order of lifetimes.

    supervisor of services (router, feeds, liveness)
      └─ supervisor of connections, HTTP requests
           └─ listeners

Going down undoes it from the inside out, each phase with a deadline: stop accepting, say goodbye, drain the
outboxes, close, stop the feeds, stop the router.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
import trio

from actors import ActorError, ActorRef, ChildSpec, Supervisor
from router.auth import Authenticator, JwtSettings
from router.config import Config, ConfigError
from router.connection import Connection, Services
from router.errors import CloseCode
from router.feeds.logs import LogFeed, LogHandler
from router.feeds.metrics import MetricsFeed
from router.feeds.status import StatusFeed
from router.front_door import FrontDoor
from router.http import HttpServer
from router.hub import Hub
from router.letters import Drain, Message
from router.listening import accept, allowed_connections, listen
from router.liveness import Liveness
from router.rest.app import make_app
from router.state import RouterState

log = structlog.get_logger("router.server")

_MORE_FOR_CLOSING_S = 1.0

Addresses = Sequence[tuple[str, int]]


class Server:
    """The whole server.

    Args:
        config: The configuration.
        log_handler: Collects log records for the `logs` channel; None: that channel has none.
    """

    def __init__(self, config: Config, log_handler: LogHandler | None = None) -> None:
        self._config = config
        self._log_handler = log_handler
        self._stop = trio.Event()

    def stop(self) -> None:
        """Tell `run` to go down, phase by phase, and to return."""
        self._stop.set()

    async def run(self, *, task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until told to stop; tells the bound addresses when it accepts.

        Raises:
            ConfigError: A key cannot be used, or the address cannot be bound.
            actors.RestartLimitError: A service failed too often.

        Cancellation: everything ends at once, without goodbye.
        """
        authenticator = await _authenticator(self._config)
        listeners = await listen(self._config)
        state = RouterState(self._config)
        status = StatusFeed()
        services, router = self._services(state, authenticator)
        async with trio.open_nursery() as outer:
            await outer.start(services.run)
            await router.send(status.event("running"))
            async with trio.open_nursery() as inner:
                connections = Supervisor("connections")
                await inner.start(connections.run)
                http = HttpServer(make_app(state, authenticator), self._config.http_send_s)
                shared = Services(state, router, authenticator, self._watched)
                door = FrontDoor(shared, connections, http, allowed_connections(self._config))
                accepting = await inner.start(_accept_all, door, listeners, inner)
                addresses = [listener.socket.getsockname()[:2] for listener in listeners]
                self._say_listening(addresses)
                task_status.started(addresses)
                await self._stop.wait()
                accepting.cancel()
                await router.send(status.event("draining"))
                await self._let_go(router, connections, http)
                inner.cancel_scope.cancel()
            services.stop()
        log.info("stopped")

    def _services(
        self, state: RouterState, authenticator: Authenticator | None
    ) -> tuple[Supervisor, ActorRef[Message]]:
        """The services in the order of their starts; the router is stopped last."""
        self._watched: set[Connection] = set()

        def shared() -> Services:
            return Services(state, router, authenticator, self._watched)

        specs = [
            ChildSpec("router", lambda: Hub(state), mailbox_size=self._config.router_mailbox),
            ChildSpec("metrics", lambda: MetricsFeed(state, router)),
            ChildSpec("liveness", lambda: Liveness(shared())),
        ]
        handler = self._log_handler
        if handler is not None:
            specs.append(ChildSpec("logs", lambda: LogFeed(handler, router)))
        services = Supervisor("services", specs)
        router: ActorRef[Message] = services.ref("router")
        return services, router

    async def _let_go(self, router: ActorRef[Message], connections: Supervisor, http: HttpServer) -> None:
        """Say goodbye, let outboxes drain, close what is left."""
        with trio.move_on_after(self._config.drain_s):
            try:
                told = await router.ask(Drain)
            except ActorError as error:
                log.error("no goodbye could be said", reason=str(error))
            else:
                log.info("draining", clients=told, within_s=self._config.drain_s)
            for connection in tuple(self._watched):
                if connection.session is None:
                    connection.lane.close(CloseCode.GOING_AWAY, "the server is going down")
            await connections.wait_empty()
        for connection in tuple(self._watched):
            connection.lane.close(CloseCode.GOING_AWAY, "the server is going down")
        await http.terminate()
        with trio.move_on_after(self._config.close_s + _MORE_FOR_CLOSING_S):
            await connections.wait_empty()

    def _say_listening(self, addresses: Addresses) -> None:
        for host, port in addresses:
            log.info("listening", host=host, port=port, websocket=f"ws://{_for_url(host)}:{port}/ws")
        if self._config.development:
            log.warning(
                "DEVELOPMENT MODE: no key is configured, so everybody on this machine is an administrator; "
                "set NEUROGRAPH_JWT_KEYS to end it"
            )


async def _accept_all(
    door: FrontDoor,
    listeners: list[trio.SocketListener],
    nursery: trio.Nursery,
    *,
    task_status: trio.TaskStatus[trio.CancelScope],
) -> None:
    """Accept until the scope that is told is cancelled; the connections go on in `nursery`."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as acceptors:
            for listener in listeners:
                acceptors.start_soon(accept, listener, door.handle, nursery)
            task_status.started(scope)


async def _authenticator(config: Config) -> Authenticator | None:
    if not config.has_key:
        return None
    pem = None
    if config.jwt_public_key_file is not None:
        try:
            pem = await trio.Path(config.jwt_public_key_file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"jwt_public_key_file {config.jwt_public_key_file!r} cannot be read: {error}") from None
    settings = JwtSettings(
        hs_keys=config.jwt_keys,
        public_key=pem,
        jwks=config.jwks,
        algorithms=config.jwt_algorithms,
        audience=config.jwt_audience,
        issuer=config.jwt_issuer,
    )
    authenticator = Authenticator(settings)
    await authenticator.start()
    return authenticator


def _for_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
