"""How a connection gets its session: a new one, or the one that its reconnection token names.

Sync steps of the router actor. Each sends the reply that reports the change, and returns what the `connections`
channel is told.
"""

from __future__ import annotations

from typing import Any

from router.auth import Identity
from router.errors import CloseCode, ErrorCode
from router.letters import Attach, Attached, Refused, SignIn
from router.permissions import ADMIN, ANONYMOUS, Grants, grants
from router.protocol import PROTOCOL_VERSION, denied_fields, reply
from router.sessions import Session
from router.state import RouterState

#: An event type, its session, more fields.
Announcement = tuple[str, Session, dict[str, Any]]


def attach(state: RouterState, request: Attach) -> list[Announcement]:
    """Give a connection its session, send `connected`, and answer the connection."""
    if state.draining:
        request.reply.send(Refused(CloseCode.GOING_AWAY, "the server is going down"))
        return []
    session = state.sessions.by_token(request.token) if request.token else None
    if session is None:
        return [_open(state, request)]
    refusal = _refuse_resume(state, session, request.identity)
    if refusal is not None:
        request.reply.send(refusal)
        return []
    return _resume(state, session, request)


def _open(state: RouterState, request: Attach) -> Announcement:
    identity = request.identity or anonymous(state)
    session = state.sessions.open(identity, grants_of(state, identity), state.clock.unix_s())
    state.sessions.attach(session, request.lane)
    _say_connected(state, session, request, reconnected=False)
    return "client.connected", session, {}


def _refuse_resume(state: RouterState, session: Session, identity: Identity | None) -> Refused | None:
    known = session.identity
    if identity is not None and identity.user_id != known.user_id and known.user_id is not None:
        return Refused(CloseCode.POLICY_VIOLATION, "the token is another user's than the session")
    if identity is None and known.expires_at is not None and known.expires_at <= state.clock.unix_s():
        return Refused(CloseCode.TOKEN_EXPIRED, "the session's token has expired")
    return None


def _resume(state: RouterState, session: Session, request: Attach) -> list[Announcement]:
    if session.lane is not None:
        elder = session.lane
        state.sessions.detach(session, 0.0)
        elder.close(CloseCode.SESSION_TAKEN_OVER, "another connection resumed this session")
    if request.identity is not None:
        state.sessions.sign_in(session, request.identity, grants_of(state, request.identity))
    lost = [name for name in session.subscriptions if name not in session.grants.subscribe]
    for name in lost:
        subscription = session.subscriptions.pop(name)
        state.subscriptions.remove(subscription)
        session.outbox.discard(subscription.queue)
    marks = state.marks(session)
    state.sessions.renew_token(session, keep_previous=True)
    state.sessions.attach(session, request.lane)
    _say_connected(
        state,
        session,
        request,
        reconnected=True,
        channels=sorted(marks),
        positions=state.positions(marks),
        **denied_fields(dict.fromkeys(lost, ErrorCode.PERMISSION_DENIED)),
    )
    return [("client.resumed", session, {"channels": sorted(marks)})]


def _say_connected(state: RouterState, session: Session, request: Attach, *, reconnected: bool, **more: Any) -> None:
    config = state.config
    fields: dict[str, Any] = {
        "client_id": session.client_id,
        "user_id": session.identity.user_id,
        "timestamp": state.clock.timestamp(),
        "role": session.identity.role,
        "reconnected": reconnected,
        "protocol": PROTOCOL_VERSION,
        "epoch": state.epoch,
        "heartbeat_s": _number(config.heartbeat_s),
        "max_message_bytes": config.max_message_bytes,
        "reconnection_token": session.token,
        "expires_in": _number(config.session_ttl_s),
    }
    request.lane.send_control(reply("connected", **fields, **more))
    request.reply.send(Attached(session))


def sign_in(state: RouterState, session: Session, item: SignIn, now: str) -> bytes:
    """Replace who a session is; the `authenticated` that says so."""
    identity = item.identity
    state.sessions.sign_in(session, identity, item.grants)
    expires_at = None if identity.expires_at is None else state.clock.timestamp(int(identity.expires_at * 1000))
    return reply(
        "authenticated",
        item.id,
        user_id=identity.user_id,
        role=identity.role,
        expires_at=expires_at,
        timestamp=now,
    )


def end_session(state: RouterState, session: Session) -> None:
    """Forget a session and its subscriptions."""
    for subscription in session.subscriptions.values():
        state.subscriptions.remove(subscription)
    session.subscriptions.clear()
    state.sessions.end(session)


def anonymous(state: RouterState) -> Identity:
    """Who comes without a token: in development mode everybody is an administrator."""
    return Identity(user_id=None, role=ADMIN if state.config.development else ANONYMOUS)


def grants_of(state: RouterState, identity: Identity) -> Grants:
    """What an identity may do; one object for all that have a role's own grants, for connections are many."""
    if identity.subscribe is None and identity.publish is None and identity.role in state.grants_by_role:
        return state.grants_by_role[identity.role]
    return grants(identity.role, identity.subscribe, identity.publish, state.streams, state.config.roles)


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value
