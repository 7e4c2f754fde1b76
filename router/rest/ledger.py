"""`GET ledger`: what all subscribers were to get since the server's start, in one sum and by channel."""

from __future__ import annotations

from http import HTTPStatus

import trio
from msgspec import UNSET, Struct
from quart import Blueprint, Response

from router.hub.distributing import YIELD_AFTER_S
from router.hub.state import RouterState
from router.ledger import Ledger
from router.permissions import ADMIN, DEVELOPER
from router.rest.admission import Context, caller
from router.rest.answers import answered
from router.rest.operations import operation
from router.rest.paging import LargePageQuery, Next, page
from router.rest.problems import ProblemError
from router.rest.reading import read_query


class Sums(Struct):
    """Sums of accounts since the server's start, those of ended subscriptions among them.

    `server` has all of them: those of all pages, and of channels that no longer exist.
    """

    epoch: str
    server: Ledger
    channels: dict[str, Ledger]
    next: Next = UNSET


def add_ledger(blueprint: Blueprint, context: Context) -> None:
    """Add the resource."""
    state = context.state

    @blueprint.get("/ledger")
    @operation("Status", Sums, query=LargePageQuery)
    async def ledger() -> Response:
        """The ledger.

        For the roles admin and developer. Each channel's sums are those of one moment, and add up; clients go on
        between one channel and the next.
        """
        role = caller().role
        if role not in (ADMIN, DEVELOPER):
            detail = f"the ledger is for the roles admin and developer, and the caller is {role!r}"
            raise ProblemError(HTTPStatus.FORBIDDEN, detail)
        query = read_query(LargePageQuery)
        server, channels = await _sums(state)
        found, following = page(channels, str, query)
        return answered(Sums(state.epoch, server, {name: channels[name] for name in found}, following))


async def _sums(state: RouterState) -> tuple[Ledger, dict[str, Ledger]]:
    """The server's sums, and each channel's. Others run meanwhile: channels may be many, and their subscribers.

    Cancellation: safe, nothing is changed.
    """
    seen = []
    looked_at = trio.current_time()
    for stream in tuple(state.streams):
        seen.append((stream, state.ledger_of_channel(stream.name)))
        if trio.current_time() - looked_at >= YIELD_AFTER_S:
            await trio.lowlevel.checkpoint()
            looked_at = trio.current_time()
    # What a channel had that was dropped meanwhile is in `accounts.dropped`, also where it has been made again.
    channels = {
        stream.name: ledger
        for stream, ledger in seen
        if stream.name in state.streams and state.streams[stream.name] is stream
    }
    return sum(channels.values(), state.accounts.dropped), channels
