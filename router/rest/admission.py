"""Who calls, and what that caller may do: the same tokens and roles as on the socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar, cast

import trio
from quart import g

from actors import ActorError, ActorRef, Reply
from router.auth.identity import Identity
from router.auth.tokens import Authenticator, InvalidTokenError
from router.hub.attachment import REVOKED, admits_anonymous, anonymous, grants_of
from router.hub.state import RouterState
from router.intake import Intake
from router.letters import Message
from router.permissions import ADMIN
from router.protocol import may_not_subscribe, unknown_channel
from router.rest.asgi import Scope
from router.rest.problems import ProblemError, of_refusal
from router.rest.rate import Callers, address_of

R = TypeVar("R")

#: The router answers within microseconds, unless it is restarting or far behind.
ASK_S = 10.0
RETRY_AFTER_S = 1.0


@dataclass(slots=True, frozen=True)
class Context:
    """What the resources share.

    Attributes:
        state: The router's; read, never changed.
        router: Does what changes something.
        authenticator: Checks tokens; None: there is no key.
        intakes: Judge what is published, for each user or address one, so that a rate holds for all its calls.
    """

    state: RouterState
    router: ActorRef[Message]
    authenticator: Authenticator | None
    intakes: Callers[Intake]


def make_context(state: RouterState, authenticator: Authenticator | None, router: ActorRef[Message]) -> Context:
    """Make it for one server."""
    return Context(
        state,
        router,
        authenticator,
        Callers(lambda: Intake(state.config, state.channels, state.clock, trio.current_time)),
    )


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
    """Check again who calls, for calls that last.

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


def intake_of(context: Context, identity: Identity, scope: Scope) -> Intake:
    """The judge of what a request publishes: one for all of a user's requests or, without a user, an address's."""
    user_id = identity.user_id
    return context.intakes[f"address {address_of(scope)}" if user_id is None else f"user {user_id}"]


def require_admin(identity: Identity, what: str) -> None:
    """Refuse everybody else.

    Raises:
        ProblemError: It is not an administrator; `what` says what is not for it.
    """
    if identity.role != ADMIN:
        raise ProblemError(HTTPStatus.FORBIDDEN, f"{what} for the role admin, and the caller is {identity.role!r}")


def require_subscribe(context: Context, identity: Identity, channel: str) -> None:
    """Refuse who may not read a channel.

    Raises:
        ProblemError: There is no such channel, or the caller may not subscribe to it.
    """
    if context.state.channels.find(channel) is None:
        raise of_refusal(unknown_channel(channel))
    if not grants_of(context.state, identity).may_subscribe(channel):
        raise of_refusal(may_not_subscribe(channel))


async def ask(context: Context, question: Callable[[Reply[R]], Message], within_s: float = ASK_S) -> R:
    """Ask the router.

    Raises:
        ProblemError: It is going down, and was not asked; or it did not answer, and may have done what was asked.

    Cancellation: likewise.
    """
    if context.state.draining:
        raise _going_down()
    try:
        with trio.fail_after(within_s):
            return await context.router.ask(question)
    except ActorError as error:
        raise (_going_down() if context.state.going_down.is_set() else _unavailable(str(error))) from None
    except trio.TooSlowError:
        raise _unavailable(f"the router did not answer within {within_s:g} s") from None


async def before_goodbye(context: Context, wait: Callable[[], Awaitable[R]]) -> R:
    """Wait for something, but no longer than until the server goes down.

    Raises:
        ProblemError: It goes down.

    Cancellation: as that of `wait`, which the going down cancels.
    """
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_at_goodbye, context.state, scope)
            result = await wait()
            nursery.cancel_scope.cancel()
        return result
    raise _going_down()


async def _cancel_at_goodbye(state: RouterState, scope: trio.CancelScope) -> None:
    await state.going_down.wait()
    scope.cancel()


def _going_down() -> ProblemError:
    return _unavailable("the server is going down")


def _unavailable(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, retry_after=RETRY_AFTER_S)
