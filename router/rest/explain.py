"""`POST filters/explain`: which of a channel's newest events a filter lets through, and why not the others."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated

import msgspec
import trio
from msgspec import Meta, Raw, Struct
from quart import Blueprint, Response

from router import filters
from router.batches import Batch
from router.errors import ErrorCode
from router.filters import Filter, FilterError, Line
from router.hub.state import RouterState
from router.protocol import Refusal
from router.recovery import newest
from router.rest.admission import Context, caller, require_subscribe
from router.rest.answers import SentEvent, answered
from router.rest.operations import operation
from router.rest.problems import of_refusal
from router.rest.reading import decode_body, read_body

MAX_EVENTS = 100


class ExplainBody(Struct, frozen=True):
    """A filter, as `subscribe` takes it, and the channel whose events it is asked about."""

    channel: str
    filter: Annotated[Raw, Meta(description="As for `subscribe`", extra_json_schema={"type": "object"})]
    limit: Annotated[int, Meta(ge=1, le=MAX_EVENTS, description="How many events at most, the newest")] = 10


class Explained(Struct):
    """An event, and a line for each operator of the filter. It matches where all lines outside others hold."""

    event: SentEvent
    matches: bool
    lines: list[Line]


class Explanation(Struct):
    """The newest events that are held, oldest first; as many as fit into an answer."""

    channel: str
    matched: int
    asked: int
    events: list[Explained]


_decoder = msgspec.json.Decoder(ExplainBody)


def add_explain(blueprint: Blueprint, context: Context) -> None:
    """Add the resource."""
    state = context.state

    @blueprint.post("/filters/explain")
    @operation(
        "Filters",
        Explanation,
        body=ExplainBody,
        example={"channel": "signals", "filter": {"data.priority": {"$gte": 200}}},
        problems=[HTTPStatus.NOT_FOUND],
    )
    async def explain() -> Response:
        """Ask a filter about the newest events.

        Needs subscribe permission. The filter is asked about each event by the same code as for a subscription.
        """
        body = decode_body(await read_body(), _decoder)
        require_subscribe(context, caller(), body.channel)
        wanted = _compile(body.filter)
        found: list[Explained] = []
        for batch, index in _newest(state, body.channel, body.limit):
            await trio.lowlevel.checkpoint()  # an event may be large, and clients are waiting
            found.append(_explain(wanted, batch, index))
        matched = sum(each.matches for each in found)
        return answered(Explanation(body.channel, matched, len(found), found))


def _compile(source: Raw) -> Filter:
    try:
        return filters.compile(source)
    except FilterError as error:
        raise of_refusal(Refusal(ErrorCode.INVALID_FILTER, str(error))) from None


def _newest(state: RouterState, channel: str, limit: int) -> Iterator[tuple[Batch, int]]:
    """Where the newest events stand, oldest first; no more bytes of them than of a body, but one event always."""
    places = [(part.batch, index) for part, index in newest(state.past(channel), limit, None).places()]
    room, first = state.config.max_body_bytes, len(places)
    while first and (first == len(places) or room >= len(places[first - 1][0].payload(places[first - 1][1]))):
        first -= 1
        batch, index = places[first]
        room -= len(batch.payload(index))
    return iter(places[first:])


def _explain(wanted: Filter, batch: Batch, index: int) -> Explained:
    event = batch.candidate(index)
    return Explained(Raw(bytes(batch.payload(index))), wanted.matches(event), wanted.explain(event))
