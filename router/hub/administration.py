"""What an administrator, or another configuration, does to sessions; sync steps of the router actor, no I/O."""

from __future__ import annotations

import structlog

from router.errors import CloseCode
from router.hub.attachment import REVOKED, not_allowed
from router.hub.state import RouterState
from router.letters import Reconfigure, Revoke
from router.protocol import reply
from router.sessions import Session

log = structlog.get_logger("router.administration")


def withdraw(state: RouterState, session: Session) -> bool:
    """End a connected client's subscriptions that are no longer allowed. Returns whether there were any."""
    lost = not_allowed(state, session)
    for reason in sorted(set(lost.values())):
        removed = state.unsubscribe(session, [name for name in lost if lost[name] == reason])
        state.announce("client.unsubscribed", session, channels=removed, reason=reason)
        assert session.lane is not None, "who is away is told at its return"
        now = state.clock.timestamp()
        session.lane.send_control(reply("unsubscribed", channels=removed, reason=reason, timestamp=now))
    return bool(lost)


def reconfigure(state: RouterState, message: Reconfigure) -> int:
    """Put other permissions and channels in force. A detached session is told when it comes back.

    Returns:
        How many connected clients lost subscriptions.
    """
    state.channels.configure(message.channels, message.schemas)
    state.access.configure(message.roles)
    state.streams.configure(state.clock.unix_ms())
    connected = [session for session in state.sessions if session.lane is not None]
    return sum(withdraw(state, session) for session in connected)


def revoke(state: RouterState, message: Revoke) -> int:
    """Refuse a token, or a user's, from now on. Returns how many sessions that ends."""
    if message.token_id is not None:
        forgot = state.revocations.revoke_token(message.token_id)
    else:
        assert message.user_id is not None, "a revocation is of a token or of a user"
        forgot = state.revocations.revoke_user(message.user_id)
    if forgot:
        log.warning("more tokens revoked than max_revocations: the oldest is good again", limit=len(state.revocations))
    over = [session for session in state.sessions if state.revocations.refuses(session.identity)]
    for session in over:
        state.expel(session, CloseCode.TOKEN_REVOKED, REVOKED)
    return len(over)


def disconnect(state: RouterState, client_id: str) -> bool:
    """End a client's session for good, whether it is connected or not. Returns whether there was one."""
    session = state.sessions.by_client(client_id)
    if session is None:
        return False
    state.expel(session, CloseCode.DISCONNECTED_BY_ADMIN, "disconnected by an administrator")
    return True
