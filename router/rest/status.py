"""`GET status`: how many connections, channels and subscriptions there are, and for administrators which."""

from __future__ import annotations

import re
from heapq import nsmallest
from typing import Any

import msgspec
from quart import Blueprint, Response, g, request
from werkzeug.exceptions import BadRequest

from router.permissions import ADMIN
from router.sessions import Session
from router.state import RouterState

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
_DIGITS = re.compile(r"[0-9]{1,9}").fullmatch


def status_blueprint(state: RouterState) -> Blueprint:
    """The resource over a router's state."""
    blueprint = Blueprint("status", __name__)

    @blueprint.get("/status")
    def status() -> Response:
        websocket: dict[str, Any] = {
            "endpoint": "/ws",
            "protocol": "ws",
            "total_connections": state.sessions.connected,
            "total_channels": len(state.streams),
            "total_subscriptions": state.subscriptions.total,
            "buffered_events": state.buffered_events(),
        }
        if g.identity.role == ADMIN:
            websocket |= _page(state, _limit(request.args.get("limit")), request.args.get("after"))
        body = msgspec.json.encode({"status": "ok", "websocket": websocket})
        return Response(body, content_type="application/json")

    return blueprint


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not _DIGITS(text) or not 1 <= int(text) <= MAX_LIMIT:
        raise BadRequest(f"limit must be a whole number from 1 to {MAX_LIMIT}, not {text[:32]!r}")
    return int(text)


def _page(state: RouterState, limit: int, after: str | None) -> dict[str, object]:
    """Connected clients in the order of their ids, from the one behind `after`; `next` where there are more."""
    connected = (session for session in state.sessions if session.lane is not None)
    behind = (session for session in connected if session.client_id > (after or ""))
    found = nsmallest(limit + 1, behind, key=_client_id)
    page: dict[str, object] = {"clients": [_describe(state, session) for session in found[:limit]]}
    if len(found) > limit:
        page["next"] = found[limit - 1].client_id
    return page


def _client_id(session: Session) -> str:
    return session.client_id


def _describe(state: RouterState, session: Session) -> dict[str, object]:
    assert session.lane is not None
    return {
        "client_id": session.client_id,
        "user_id": session.identity.user_id,
        "connected_at": state.clock.timestamp(int(session.connected_at * 1000)),
        "channels": sorted(session.subscriptions),
        "last_heartbeat": state.clock.timestamp(state.clock.unix_ms() - int(session.lane.silent_for_s() * 1000)),
    }
