"""Coming back: when a client connects again, and with what."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from router.talk.conversation import Conversation, Lost, Return, connect
from router.talk.said import Connected
from router.talk.target import Target

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 30.0
#: After a connection that lived so long, the next attempt is a first one again.
_STABLE_S: Final = 2.0


async def keep_talking(
    target: Target,
    converse: Callable[[Conversation, Connected], Awaitable[None]],
    on_lost: Callable[[Lost, float], None],
) -> None:
    """Converse, and come back whenever the connection is lost, until `converse` returns.

    Args:
        target: Whom to talk to.
        converse: Gets each connection after the server's `connected`, which says whether the session was resumed.
        on_lost: Is told what happened and in how many seconds we come back. What it raises ends it.

    Raises:
        TalkError: The target or its token cannot be used.
        Lost: The first connection did not come about, or the last one ended in a way after which one stays away.

    Cancellation: the connection is closed, which ends the session.
    """
    session: str | None = None
    attempts = 0
    while True:
        token = target.token()
        opened_at = trio.current_time()
        try:
            async with connect(target, token, session) as conversation:
                connected = await conversation.hear_connected()
                session = connected.reconnection_token
                await converse(conversation, connected)
                return
        except Lost as lost:
            if session is None or not _is_worth_it(lost, target, token):
                raise
            attempts = 0 if trio.current_time() > opened_at + _STABLE_S else attempts + 1
            delay_s = lost.after_s if lost.after_s is not None else _backoff_s(attempts)
            on_lost(lost, delay_s)
        await trio.sleep(delay_s)


def _is_worth_it(lost: Lost, target: Target, token: str | None) -> bool:
    """Whether to come back; where that takes a fresh token, whether there is one."""
    if lost.may_return is Return.WITH_FRESH_TOKEN:
        return target.token() not in (None, token)
    return lost.may_return is Return.YES


def _backoff_s(attempts: int) -> float:
    longest = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(attempts, 16))
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads clients, hides nothing
