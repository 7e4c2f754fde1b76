"""How a connection gets its session, signs in, and leaves; sync steps of the router actor, no I/O.

A session is new, or the one that a reconnection token names. Each step sends the reply that reports it, and tells
the `connections` channel.
"""

from __future__ import annotations

from typing import Any

from router.auth.access import Grants
from router.auth.identity import Identity
from router.errors import CloseCode, ErrorCode
from router.hub.state import RouterState
from router.letters import Attach, Depart, Refused, SignIn
from router.permissions import ADMIN, ANONYMOUS
from router.protocol import PROTOCOL_VERSION, GetReconnectionToken, Refusal, denied_fields, reply
from router.sessions import Session

#: Why a connection is closed 4501.
REVOKED = "the token has been revoked"
_TAKEN_OVER = "another connection resumed this session"


def attach(state: RouterState, request: Attach, now: float) -> None:
    """Give a connection its session, send `connected`, and answer the connection; `now` on Trio's clock."""
    lane, identity = request.lane, request.identity
    if state.draining:
        request.reply.send(Refused(CloseCode.GOING_AWAY, "the server is going down"))
    elif lane.ended or lane.close_request is not None:
        request.reply.send(Refused(CloseCode.GOING_AWAY, "the connection is over"))
    elif identity is not None and state.revocations.refuses(identity):  # since it was checked
        request.reply.send(Refused(CloseCode.TOKEN_REVOKED, REVOKED))
    elif (session := state.sessions.by_token(request.token or "")) is not None:
        refusal = _refuse_resume(state, session, identity) or _refuse_user(state, identity or session.identity, session)
        if refusal is None:
            _resume(state, session, request, now)
        else:
            request.reply.send(refusal)
    elif identity is not None or admits_anonymous(state):
        identity = identity or anonymous(state)
        refusal = _refuse_user(state, identity)
        if refusal is None:
            _open(state, request, identity, now)
        else:
            request.reply.send(refusal)
    else:
        request.reply.send(None)


def _open(state: RouterState, request: Attach, identity: Identity, now: float) -> None:
    session = state.sessions.open(identity, grants_of(state, identity), now)
    request.session = session
    state.sessions.attach(session, request.lane, state.clock.unix_s())
    if request.resume:
        state.sessions.hold(session, now)
    session.address = request.address
    _say_connected(state, session, request, reconnected=False)
    state.announce("client.connected", session)


def _refuse_resume(state: RouterState, session: Session, identity: Identity | None) -> Refused | None:
    known = session.identity
    if identity is not None and identity.user_id != known.user_id and known.user_id is not None:
        return Refused(CloseCode.POLICY_VIOLATION, "the token is another user's than the session")
    if identity is None and known.expires_at is not None and known.expires_at <= state.clock.unix_s():
        return Refused(CloseCode.TOKEN_EXPIRED, "the session's token has expired")
    return None


def _refuse_user(state: RouterState, identity: Identity, session: Session | None = None) -> Refused | None:
    """Refuse a user's connection that would exceed the limit; `session` is the one that it would belong to."""
    limit = state.config.max_connections_per_user
    if limit is None or identity.user_id is None:
        return None
    others = (each for each in state.sessions.by_user(identity.user_id) if each is not session)
    if sum(each.lane is not None for each in others) < limit:
        return None
    return Refused(CloseCode.TRY_AGAIN_LATER, f"the limit of {limit} connections of one user is reached")


def _resume(state: RouterState, session: Session, request: Attach, now: float) -> None:
    elder, ledger = session.lane, state.ledger_of_session(session)
    if elder is not None:
        elder.close(CloseCode.SESSION_TAKEN_OVER, _TAKEN_OVER)
        elder.claim_frame()
        state.accounts.part(elder)
    request.session = session
    state.sessions.attach(session, request.lane, state.clock.unix_s())
    if request.resume:
        state.sessions.hold(session, now)
    session.address = request.address
    if request.identity is not None:
        state.sessions.sign_in(session, request.identity, grants_of(state, request.identity))
    lost = not_allowed(state, session)
    state.unsubscribe(session, lost)
    positions = state.positions(session, sorted(session.subscriptions))
    state.sessions.renew_token(session, keep=request.token)
    _say_connected(
        state,
        session,
        request,
        reconnected=True,
        channels=list(positions),
        positions=positions,
        **denied_fields(lost),
    )
    if elder is not None:
        code = CloseCode.SESSION_TAKEN_OVER
        state.announce("client.disconnected", session, code=code, reason=_TAKEN_OVER, ledger=ledger)
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
    """Replace who a session is; the `authenticated` that says so. One user too many, or revoked since: closed."""
    identity = item.identity
    refusal = _refuse_user(state, identity, session)
    if state.revocations.refuses(identity):
        refusal = Refused(CloseCode.TOKEN_REVOKED, REVOKED)
    if refusal is not None:
        state.expel(session, refusal.code, refusal.reason)
        return Refusal(ErrorCode.INVALID_TOKEN, refusal.reason, id=item.id).frame()
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
        ended: Session | None = session
    else:
        state.accounts.part(message.lane)
        ended = state.sessions.detach(session, now)
    ledger = state.ledger_of_session(session) if ended is not session else state.end(session)
    if ended is not None and ended is not session:
        state.end(ended)
    state.announce("client.disconnected", session, code=message.code, reason=message.reason or None, ledger=ledger)


def anonymous(state: RouterState) -> Identity:
    """The identity of a client without a token: in development mode everybody is an administrator."""
    return Identity(user_id=None, role=ADMIN if state.config.development else ANONYMOUS)


def admits_anonymous(state: RouterState) -> bool:
    """Whether a client may go without a token."""
    return state.config.allow_anonymous or state.config.development


def grants_of(state: RouterState, identity: Identity) -> Grants:
    """What an identity may do, now and whenever the configuration has changed."""
    return state.access.grants(identity)


def not_allowed(state: RouterState, session: Session) -> dict[str, str]:
    """Subscriptions that are no longer allowed, or whose channel no longer exists, in order, and why."""
    return {
        name: ErrorCode.UNKNOWN_CHANNEL if state.channels.find(name) is None else ErrorCode.PERMISSION_DENIED
        for name in sorted(session.subscriptions)
        if not session.grants.may_subscribe(name)
    }


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value
