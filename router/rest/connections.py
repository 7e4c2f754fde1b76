"""`connections`: each client's session as it is now, and how to end it; for administrators."""

from __future__ import annotations

from http import HTTPStatus
from operator import attrgetter

from msgspec import UNSET, Struct
from msgspec.structs import asdict
from quart import Blueprint, Response

from router.errors import CloseCode
from router.hub.state import RouterState
from router.ledger import Ledger
from router.letters import Disconnect
from router.rest.admission import Context, ask, caller, require_admin
from router.rest.answers import Ok, Timestamp, answered, connected_at, last_heartbeat
from router.rest.operations import operation
from router.rest.paging import Next, PageQuery, page
from router.rest.problems import ProblemError
from router.rest.reading import read_query
from router.sessions import Session

_FOR_ADMINS = "the list of connections is"


class Waiting(Struct):
    """What waits to be written."""

    events: int
    bytes: int


class Connection(Struct, kw_only=True):
    """A client's session. `detached`: it has no connection at the moment, and `address` is that of its last one."""

    client_id: str
    user_id: str | None
    role: str
    detached: bool
    address: str
    connected_at: Timestamp
    age_s: float
    last_heartbeat: Timestamp | None
    channels: list[str]
    queue: Waiting
    dropped: int


class ConnectionList(Struct):
    """Sessions, those without a connection at the moment among them, in the order of their ids."""

    connections: list[Connection]
    next: Next = UNSET


class Subscribed(Struct):
    """A subscription, and the account of what it was to get, exact at this moment."""

    channel: str
    queue: Waiting
    ledger: Ledger


class ConnectionDetails(Connection, kw_only=True):
    """A client's session in detail."""

    subscriptions: list[Subscribed]


class Disconnected(Struct, kw_only=True):
    """The session has ended; its connection, if it had one, is closed with this code."""

    status: Ok = "ok"
    client_id: str
    code: int


def add_connections(blueprint: Blueprint, context: Context) -> None:
    """Add the resources."""
    state = context.state

    @blueprint.get("/connections")
    @operation("Connections", ConnectionList, query=PageQuery)
    def connections() -> Response:
        """All sessions.

        For the role admin.
        """
        require_admin(caller(), _FOR_ADMINS)
        found, following = page(state.sessions, attrgetter("client_id"), read_query(PageQuery))
        return answered(ConnectionList([_describe(state, session) for session in found], following))

    @blueprint.get("/connections/<client_id>")
    @operation("Connections", ConnectionDetails, problems=[HTTPStatus.NOT_FOUND])
    def connection(client_id: str) -> Response:
        """One session.

        For the role admin: its subscriptions, and what waits on each.
        """
        require_admin(caller(), _FOR_ADMINS)
        session = state.sessions.by_client(client_id)
        if session is None:
            raise _no_client(client_id)
        return answered(_details(state, session))

    @blueprint.delete("/connections/<client_id>")
    @operation("Connections", Disconnected, problems=[HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE])
    async def disconnect(client_id: str) -> Response:
        """End a session.

        For the role admin. The connection is closed with code 4500, which tells the client not to come back; the
        session is gone.
        """
        require_admin(caller(), "the end of connections is")
        found: bool = await ask(context, lambda reply: Disconnect(reply, client_id))
        if not found:
            raise _no_client(client_id)
        return answered(Disconnected(client_id=client_id, code=CloseCode.DISCONNECTED_BY_ADMIN))


def _no_client(client_id: str) -> ProblemError:
    return ProblemError(HTTPStatus.NOT_FOUND, f"there is no client {client_id[:64]!r}")


def _describe(state: RouterState, session: Session) -> Connection:
    return Connection(
        client_id=session.client_id,
        user_id=session.identity.user_id,
        role=session.identity.role,
        detached=session.lane is None,
        address=session.address,
        connected_at=connected_at(state, session),
        age_s=round(max(0.0, state.clock.unix_s() - session.connected_at), 3),
        last_heartbeat=last_heartbeat(state, session),
        channels=sorted(session.subscriptions),
        queue=Waiting(session.outbox.events, session.outbox.size),
        dropped=session.outbox.dropped,
    )


def _details(state: RouterState, session: Session) -> ConnectionDetails:
    subscriptions = [
        Subscribed(
            name,
            Waiting(subscription.queue.events, subscription.queue.size),
            state.ledger(subscription),
        )
        for name, subscription in sorted(session.subscriptions.items())
    ]
    return ConnectionDetails(**asdict(_describe(state, session)), subscriptions=subscriptions)
