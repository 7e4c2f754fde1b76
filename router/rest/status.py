"""`GET status`: how many connections, channels and subscriptions there are, and for administrators which."""

from __future__ import annotations

from operator import attrgetter
from typing import Literal

from msgspec import UNSET, Struct, UnsetType
from quart import Blueprint, Response

from router.hub.state import RouterState
from router.permissions import ADMIN
from router.rest.admission import Context, caller
from router.rest.answers import Ok, Timestamp, answered, connected_at, last_heartbeat
from router.rest.operations import operation
from router.rest.paging import Next, PageQuery, page
from router.rest.reading import read_query
from router.sessions import Session


class Client(Struct):
    """A connected client."""

    client_id: str
    user_id: str | None
    connected_at: Timestamp
    channels: list[str]
    last_heartbeat: Timestamp | None


class WebSocketStatus(Struct, kw_only=True):
    """The WebSocket side in figures."""

    endpoint: Literal["/ws"] = "/ws"
    protocol: Literal["ws"] = "ws"
    total_connections: int
    total_channels: int
    total_subscriptions: int
    buffered_events: int
    clients: list[Client] | UnsetType = UNSET
    next: Next = UNSET


class Status(Struct, kw_only=True):
    """How the server is doing."""

    status: Ok = "ok"
    websocket: WebSocketStatus


def add_status(blueprint: Blueprint, context: Context) -> None:
    """Add the resource."""
    state = context.state

    @blueprint.get("/status")
    @operation("Status", Status, query=PageQuery)
    def status() -> Response:
        """Sums, and the clients.

        `clients` is there for the role admin only: those that have a connection, in the order of their ids.
        """
        query = read_query(PageQuery)
        figures = WebSocketStatus(
            total_connections=state.sessions.connected,
            total_channels=len(state.streams),
            total_subscriptions=state.subscriptions.total,
            buffered_events=state.buffered_events(),
        )
        if caller().role == ADMIN:
            connected = (session for session in state.sessions if session.lane is not None)
            found, figures.next = page(connected, attrgetter("client_id"), query)
            figures.clients = [_describe(state, session) for session in found]
        return answered(Status(websocket=figures))


def _describe(state: RouterState, session: Session) -> Client:
    return Client(
        client_id=session.client_id,
        user_id=session.identity.user_id,
        connected_at=connected_at(state, session),
        channels=sorted(session.subscriptions),
        last_heartbeat=last_heartbeat(state, session),
    )
