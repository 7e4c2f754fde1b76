"""Who calls, and what that caller may do: the same tokens and roles as on the socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar, cast

import trio
from quart import g

from actors import ActorError, ActorRef, Reply
from router.attachment import REVOKED, admits_anonymous, anonymous
from router.auth import Authenticator, InvalidTokenError
from router.identity import Identity
from router.letters import Message
from router.permissions import ADMIN
from router.rest.problems import ProblemError
from router.state import RouterState

R = TypeVar("R")

#: The router answers within microseconds, unless it is restarting or far behind.
ASK_S = 10.0
RETRY_AFTER_S = 1.0


@dataclass(slots=True, frozen=True)
class Context:
    """What the resources stand on.

    Attributes:
        state: The router's; read, never changed.
        router: Does what changes something.
        authenticator: Checks tokens; None: there is no key.
    """

    state: RouterState
    router: ActorRef[Message]
    authenticator: Authenticator | None


async def identify(context: Context, authorization: str | None) -> Identity:
    """Who calls, by the `Authorization` header.

    Raises:
        ProblemError: The token is bad, or there is none and there has to be one.

    Cancellation: safe.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if context.authenticator is not None and scheme.lower() == "bearer":
        try:
            return await context.authenticator.verify(token.strip())
        except InvalidTokenError as error:
            raise ProblemError(HTTPStatus.UNAUTHORIZED, error.reason) from None
    if not admits_anonymous(context.state):
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "a token is needed: Authorization: Bearer <jwt>")
    return anonymous(context.state)


def require_still_good(context: Context, identity: Identity) -> None:
    """Look again at who calls, for calls that last.

    Raises:
        ProblemError: The token has expired meanwhile, or was revoked.
    """
    state = context.state
    if identity.expires_at is not None and identity.expires_at <= state.clock.unix_s():
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "the token has expired")
    if state.revocations.refuses(identity):
        raise ProblemError(HTTPStatus.UNAUTHORIZED, REVOKED)


def caller() -> Identity:
    """Who makes the call that is being served."""
    return cast(Identity, g.identity)


def require_admin(identity: Identity, what: str) -> None:
    """Refuse everybody else.

    Raises:
        ProblemError: It is not an administrator; `what` says what is not for it.
    """
    if identity.role != ADMIN:
        raise ProblemError(HTTPStatus.FORBIDDEN, f"{what} for the role admin, and the caller is {identity.role!r}")


async def ask(context: Context, question: Callable[[Reply[R]], Message], within_s: float = ASK_S) -> R:
    """Ask the router.

    Raises:
        ProblemError: It did not answer. What was asked may have been done all the same.

    Cancellation: likewise.
    """
    try:
        with trio.fail_after(within_s):
            return await context.router.ask(question)
    except ActorError as error:
        raise _unavailable(str(error)) from None
    except trio.TooSlowError:
        raise _unavailable(f"the router did not answer within {within_s:g} s") from None


def _unavailable(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, retry_after=RETRY_AFTER_S)
