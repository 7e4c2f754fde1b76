"""`GET channels` and `GET channels/{channel}`: which exist, where they stand, and what the caller may do there."""

from __future__ import annotations

from http import HTTPStatus

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import asdict
from quart import Blueprint, Response

from router.auth.access import Grants
from router.auth.identity import Identity
from router.events import ChannelSpec
from router.hub.attachment import grants_of
from router.hub.state import RouterState
from router.ledger import Ledger
from router.permissions import ADMIN, DEVELOPER
from router.protocol import unknown_channel
from router.rest.admission import Context, caller
from router.rest.answers import answered
from router.rest.operations import operation
from router.rest.paging import LargePageQuery, Next, PageQuery, page
from router.rest.problems import of_refusal
from router.rest.reading import read_query


class Position(Struct):
    """Where a channel stands: the position of its last event."""

    epoch: str
    seq: int


class Details(Struct):
    """A channel, or a pattern that stands for all channels under a name."""

    description: str
    pattern: bool
    may_subscribe: bool
    may_publish: bool
    subscribers: int
    position: Position | UnsetType = UNSET


class ChannelList(Struct):
    """The channels that exist, and the patterns that more may match."""

    channels: list[str]
    patterns: list[str]
    descriptions: dict[str, str]
    details: dict[str, Details]
    next: Next = UNSET


class Channel(Details, kw_only=True):
    """One channel, or a pattern.

    `schema`, the JSON Schema that its data fit, is there for who may subscribe or publish, where the configuration
    names one. `ledger`, the sum of its subscriptions' accounts, those that ended among them, is there for the roles
    admin and developer; `subscriber_ids` for admin.
    """

    channel: str
    schema: Raw | UnsetType = UNSET
    ledger: Ledger | UnsetType = UNSET
    subscriber_ids: list[str] | UnsetType = UNSET
    next: Next = UNSET


def add_channels(blueprint: Blueprint, context: Context) -> None:
    """Add the resources."""
    state = context.state

    @blueprint.get("/channels")
    @operation("Channels", ChannelList, query=LargePageQuery)
    def channels() -> Response:
        """All channels.

        Those of a pattern such as `orders.*` are there once they have been used.
        """
        return answered(_list(state, caller(), read_query(LargePageQuery)))

    @blueprint.get("/channels/<channel>")
    @operation("Channels", Channel, query=PageQuery, problems=[HTTPStatus.NOT_FOUND])
    def channel(channel: str) -> Response:
        """One channel.

        For the roles admin and developer with the account of what its subscribers were to get, and for admin with
        their ids, in pages.
        """
        return answered(_one(state, caller(), channel, read_query(PageQuery)))


def _list(state: RouterState, who: Identity, query: PageQuery) -> ChannelList:
    names = {spec.name for spec in state.channels} | {stream.name for stream in state.streams}
    found, following = page(names, str, query)
    grants = grants_of(state, who)
    details = {name: each for name in found if (each := _find(state, grants, name)) is not None}
    return ChannelList(
        channels=[name for name, each in details.items() if not each.pattern],
        patterns=[name for name, each in details.items() if each.pattern],
        descriptions={name: each.description for name, each in details.items()},
        details=details,
        next=following,
    )


def _one(state: RouterState, who: Identity, name: str, query: PageQuery) -> Channel:
    details = _find(state, grants_of(state, who), name)
    if details is None:
        raise of_refusal(unknown_channel(name))
    channel = Channel(channel=name, **asdict(details))
    spec = state.channels.find(name)
    if spec is not None and spec.schema is not None and (channel.may_subscribe or channel.may_publish):
        channel.schema = spec.schema
    if who.role in (ADMIN, DEVELOPER) and not channel.pattern:
        channel.ledger = state.ledger_of_channel(name)
    if who.role == ADMIN:
        readers = (session.client_id for session in state.sessions if name in session.subscriptions)
        channel.subscriber_ids, channel.next = page(readers, str, query)
    return channel


def _find(state: RouterState, grants: Grants, name: str) -> Details | None:
    """The details of a channel or a pattern; None: there is none of that name."""
    spec = state.channels.find(name)
    if spec is not None:
        return _describe(state, grants, name, spec)
    pattern = next((each for each in state.channels if each.name == name), None)
    return None if pattern is None else Details(pattern.description, True, False, False, 0)


def _describe(state: RouterState, grants: Grants, name: str, spec: ChannelSpec) -> Details:
    return Details(
        description=spec.description,
        pattern=False,
        may_subscribe=grants.may_subscribe(name),
        may_publish=grants.may_publish(name),
        subscribers=state.subscriptions.count(name),
        position=Position(state.epoch, state.streams.seq_of(name)),
    )
