"""How a connection gets its session, signs in, and leaves; sync steps of the router actor, no I/O.

A session is new, or the one that a reconnection token names. Each step sends the reply that reports it, and tells
the `connections` channel.
"""

from __future__ import annotations

from typing import Any

from router.auth import Identity
from router.errors import CloseCode, ErrorCode
from router.letters import Attach, Depart, Refused, SignIn
from router.permissions import ADMIN, ANONYMOUS, Grants, grants
from router.protocol import PROTOCOL_VERSION, GetReconnectionToken, denied_fields, reply
from router.sessions import Session
from router.state import RouterState

_TAKEN_OVER = "another connection resumed this session"


def attach(state: RouterState, request: Attach, now: float) -> None:
    """Give a connection its session, send `connected`, and answer the connection; `now` on Trio's clock."""
    lane, identity = request.lane, request.identity
    if state.draining:
        request.reply.send(Refused(CloseCode.GOING_AWAY, "the server is going down"))
    elif lane.ended or lane.close_request is not None:
        request.reply.send(Refused(CloseCode.GOING_AWAY, "the connection is over"))
    elif (session := state.sessions.by_token(request.token or "")) is not None:
        refusal = _refuse_resume(state, session, identity)
        if refusal is None:
            _resume(state, session, request)
        else:
            request.reply.send(refusal)
    elif identity is not None or admits_anonymous(state):
        _open(state, request, identity or anonymous(state), now)
    else:
        request.reply.send(None)


def _open(state: RouterState, request: Attach, identity: Identity, now: float) -> None:
    session = state.sessions.open(identity, grants_of(state, identity), now)
    request.session = session
    state.sessions.attach(session, request.lane, state.clock.unix_s())
    _say_connected(state, session, request, reconnected=False)
    state.announce("client.connected", session)


def _refuse_resume(state: RouterState, session: Session, identity: Identity | None) -> Refused | None:
    known = session.identity
    if identity is not None and identity.user_id != known.user_id and known.user_id is not None:
        return Refused(CloseCode.POLICY_VIOLATION, "the token is another user's than the session")
    if identity is None and known.expires_at is not None and known.expires_at <= state.clock.unix_s():
        return Refused(CloseCode.TOKEN_EXPIRED, "the session's token has expired")
    return None


def _resume(state: RouterState, session: Session, request: Attach) -> None:
    elder = session.lane
    if elder is not None:
        elder.close(CloseCode.SESSION_TAKEN_OVER, _TAKEN_OVER)
    request.session = session
    state.sessions.attach(session, request.lane, state.clock.unix_s())
    if request.identity is not None:
        state.sessions.sign_in(session, request.identity, grants_of(state, request.identity))
    lost = state.unsubscribe(session, not_allowed(session))
    positions = state.positions(session, sorted(session.subscriptions))
    state.sessions.renew_token(session, keep=request.token)
    _say_connected(
        state,
        session,
        request,
        reconnected=True,
        channels=list(positions),
        positions=positions,
        **denied_fields(dict.fromkeys(lost, ErrorCode.PERMISSION_DENIED)),
    )
    if elder is not None:
        state.announce("client.disconnected", session, code=CloseCode.SESSION_TAKEN_OVER, reason=_TAKEN_OVER)
    state.announce("client.resumed", session, channels=list(positions))


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
    request.lane.send_control(reply("connected", request.id, **fields, **more))
    request.reply.send(session)


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


def fresh_token(state: RouterState, session: Session, item: GetReconnectionToken, now: str) -> bytes:
    """Replace the reconnection token of a session; the `reconnection_token` that says so."""
    state.sessions.renew_token(session)
    expires_in = _number(state.config.session_ttl_s)
    return reply("reconnection_token", item.id, token=session.token, expires_in=expires_in, timestamp=now)


def depart(state: RouterState, message: Depart, now: float) -> None:
    """Take a session's connection away; the session waits for another one, unless it was closed for good."""
    session = message.session
    if session.lane is not message.lane:
        return  # taken over by another connection, or departed before
    if message.code == CloseCode.NORMAL or 4500 <= message.code <= 4999:
        state.end(session)
    else:
        surplus = state.sessions.detach(session, now)
        if surplus is not None:
            state.end(surplus)
    state.announce("client.disconnected", session, code=message.code, reason=message.reason or None)


def anonymous(state: RouterState) -> Identity:
    """Who comes without a token: in development mode everybody is an administrator."""
    return Identity(user_id=None, role=ADMIN if state.config.development else ANONYMOUS)


def admits_anonymous(state: RouterState) -> bool:
    """Whether a client may go without a token."""
    return state.config.allow_anonymous or state.config.development


def grants_of(state: RouterState, identity: Identity) -> Grants:
    """What an identity may do; one object for all that have a role's own grants, for connections are many."""
    if identity.subscribe is None and identity.publish is None and identity.role in state.grants_by_role:
        return state.grants_by_role[identity.role]
    return grants(identity.role, identity.subscribe, identity.publish, state.streams, state.config.roles)


def not_allowed(session: Session) -> list[str]:
    """Subscriptions that the session's claims do not allow (any more)."""
    return [name for name in session.subscriptions if name not in session.grants.subscribe]


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value
