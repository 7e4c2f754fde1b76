"""What the router's mailbox takes: one letter for all the messages of one read, and what others ask of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import trio
from msgspec import UNSET, Struct

from actors import Call, Reply
from router.auth.access import Grants
from router.auth.identity import Identity
from router.config import ChannelSettings
from router.errors import CloseCode
from router.filters import Filter
from router.lanes import Lane
from router.paths import Path
from router.permissions import RolePermissions
from router.policies import Policy
from router.protocol import (
    EventIn,
    GetReconnectionToken,
    GetSubscriptions,
    History,
    Id,
    Position,
    Publish,
    Refusal,
    Resume,
    Unsubscribe,
)
from router.schemas import Schema
from router.sessions import Session


@dataclass(slots=True, frozen=True)
class SubscribeTo:
    """A `subscribe`, judged: what to enter, and why the rest was refused.

    Attributes:
        channels: To be entered.
        denied: Why not, by channel.
        id: To answer to.
        filter: What is asked for; None: everything.
        policy: What is given up first; None: as each channel's settings say.
        key: Of which the latest is kept; with a policy alone.
        recover: Positions by channel, after which the past is to be sent first.
        last: How many events of the past, likewise.
        since: Of which time on, likewise, as the wire has it.
    """

    channels: Sequence[str]
    denied: Mapping[str, str]
    id: Id
    filter: Filter | None = None
    policy: Policy | None = None
    key: Path | None = None
    recover: Mapping[str, Position] = field(default_factory=dict)
    last: int | None = None
    since: str | None = None


@dataclass(slots=True, frozen=True)
class SignIn:
    """An `authenticate` whose token was good."""

    identity: Identity
    grants: Grants
    id: Id


@dataclass(slots=True, frozen=True)
class Events:
    """Events to publish on one channel, all judged: one `publish`, or a run of them that want no answer."""

    channel: str
    events: list[Publish | EventIn]
    id: Id = UNSET
    key: str | None = None


#: What reads or changes the session.
Change = SubscribeTo | Unsubscribe | GetSubscriptions | GetReconnectionToken | SignIn | History | Resume
#: One thing to do, or (as bytes) a reply that the connection could render alone, at its place in the order.
Item = bytes | Events | Change


@dataclass(slots=True, frozen=True)
class Letter:
    """All messages of one read, in order, or as many of them as there is room for the replies.

    Attributes:
        session: Whose they are.
        lane: Where they came from, and where the replies go.
        items: What is to be done.
        done: Set when it is done and what it published is fanned out, or it will not be; None: nobody waits for that.
    """

    session: Session
    lane: Lane
    items: Sequence[Item]
    done: trio.Event | None = None


@dataclass(slots=True, frozen=True)
class Refused:
    """A connection gets no session and is to be closed."""

    code: CloseCode
    reason: str


class Attach(Call[Session | Refused | None]):
    """A connection asks for its session, a new one or the one that its reconnection token names.

    The answer is the session, to which `connected` has been sent; or that there is none; or None: who asks has to
    sign in first.

    Attributes:
        lane: The connection's.
        identity: Who its JWT says it is; None: it brought none.
        token: Its reconnection token.
        resume: Its first message will say where it goes on.
        address: Where it comes from.
        id: The `id` of the message that brought the JWT, if it was one; `connected` is the reply to it.
        session: Set by the router before the session has this connection. Who waits for the answer no more, or gets
            none because the router failed, still has to give it back.
    """

    def __init__(
        self,
        reply: Reply[Session | Refused | None],
        *,
        lane: Lane,
        identity: Identity | None,
        token: str | None,
        address: str = "",
        resume: bool = False,
        id: Id = UNSET,  # noqa: A002 - the wire's name
    ) -> None:
        super().__init__(reply)
        self.lane = lane
        self.identity = identity
        self.token = token
        self.resume = resume
        self.address = address
        self.id = id
        self.session: Session | None = None


@dataclass(slots=True, frozen=True)
class Depart:
    """A connection is over."""

    session: Session
    lane: Lane
    code: int
    reason: str


@dataclass(slots=True, frozen=True)
class Emit:
    """The server itself publishes an event. `data` is a JSON object, valid UTF-8."""

    channel: str
    event_type: str
    data: bytes


@dataclass(slots=True, frozen=True)
class SendTo:
    """An event for one client, one user (all sessions) or, with neither, everybody."""

    event_type: str
    data: bytes
    client_id: str | None = None
    user_id: str | None = None


@dataclass(slots=True, frozen=True)
class HostEvents:
    """Events of the program that the router is embedded in, in order; all judged."""

    items: Sequence[Events | SendTo]


class Receipt(Struct, frozen=True):
    """Where published events stand.

    Attributes:
        first: The seq of the first.
        last: The seq of the last.
        subscribers: The channel's subscriptions at that moment.
    """

    first: int
    last: int
    subscribers: int


class Broadcast(Call[list[Receipt | Refusal]]):
    """Publish events that came over HTTP; the answer has an entry for each item.

    Attributes:
        items: Runs of events, all judged.
        done: Set when they are fanned out, or will not be; None: nobody waits for that.
    """

    def __init__(
        self, reply: Reply[list[Receipt | Refusal]], items: Sequence[Events], done: trio.Event | None = None
    ) -> None:
        super().__init__(reply)
        self.items = items
        self.done = done


class SendToCall(Call[int]):
    """Send an event, and answer how many sessions it is for.

    Attributes:
        message: The event, and for whom it is.
    """

    def __init__(self, reply: Reply[int], message: SendTo) -> None:
        super().__init__(reply)
        self.message = message


class Disconnect(Call[bool]):
    """An administrator ends a client's session; the answer: whether there was one.

    Attributes:
        client_id: Whose.
    """

    def __init__(self, reply: Reply[bool], client_id: str) -> None:
        super().__init__(reply)
        self.client_id = client_id


class Revoke(Call[int]):
    """Refuse a token, or a user's tokens, from now on, and end their sessions; the answer: how many those were.

    Attributes:
        token_id: The token's `jti`; None: it is about a user.
        user_id: The user; None: it is about one token.
    """

    def __init__(self, reply: Reply[int], *, token_id: str | None = None, user_id: str | None = None) -> None:
        super().__init__(reply)
        self.token_id = token_id
        self.user_id = user_id


class Reconfigure(Call[int]):
    """Put other permissions and channels in force; the answer: how many connected clients lost subscriptions by it.

    Attributes:
        roles: By name.
        channels: As configured.
        schemas: What their schema files hold.
    """

    def __init__(
        self,
        reply: Reply[int],
        roles: Mapping[str, RolePermissions],
        channels: Mapping[str, ChannelSettings],
        schemas: Mapping[str, Schema] = MappingProxyType({}),
    ) -> None:
        super().__init__(reply)
        self.roles = roles
        self.channels = channels
        self.schemas = schemas


class Drain(Call[int]):
    """The server is going down: say goodbye to everybody, answer with how many that were."""


#: Wakes the router once a second, to look after what time alone changes.
Tick = Literal["tick"]

Message = (
    Letter
    | Attach
    | Depart
    | Emit
    | SendTo
    | HostEvents
    | Broadcast
    | SendToCall
    | Disconnect
    | Revoke
    | Reconfigure
    | Drain
    | Tick
)
