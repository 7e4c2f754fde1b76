"""The connection actor: one client's socket, from the handshake to the last byte.

Its mailbox, a bounded memory channel, carries wake-ups: something waits to be written, or the connection is to be
closed. What is to be written lies in the lane and the outbox. Reading is driven by the WebSocket library's own
task through the lane; so a connection is two tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import structlog
import trio

from actors import ActorError, ActorGoneError, ActorRef, Mailbox, MailboxFull
from router.attachment import anonymous, grants_of
from router.auth import Authenticator, Identity, InvalidTokenError
from router.errors import CloseCode, ErrorCode
from router.frames import Binary
from router.handshake import Handshake
from router.intake import Intake
from router.lanes import Lane, WebSocket
from router.letters import Attach, Attached, Depart, Item, Letter, Message, Refused, SignIn
from router.permissions import Grants
from router.protocol import Authenticate, Refusal, decode
from router.sessions import Session
from router.state import RouterState

log = structlog.get_logger("router.connection")

WAKE: Literal["wake"] = "wake"
Wake = Literal["wake"]

_NO_GRANTS = Grants(frozenset(), frozenset())


@dataclass(slots=True, frozen=True)
class Services:
    """What all connections share."""

    state: RouterState
    router: ActorRef[Message]
    authenticator: Authenticator | None
    #: All connections there are, for the watch over them.
    connections: set[Connection]


class Connection:
    """One client's connection.

    The mutable state is who the client is, its session once it has one, and the judge of its messages. The lane
    has the rest.
    """

    __slots__ = (
        "_first", "_grants", "_handshake", "_identity", "_intake", "_lane", "_services", "_session", "_ws",
        "address", "expiry_announced", "heartbeat_at",
    )  # fmt: skip

    def __init__(self, lane: Lane, handshake: Handshake, services: Services, address: str) -> None:
        self._lane = lane
        self._handshake = handshake
        self._services = services
        self._intake = Intake(services.state.config, services.state.clock, trio.current_time)
        self._identity: Identity | None = None
        self._grants = _NO_GRANTS
        self._session: Session | None = None
        self._ws = WebSocket(lane)
        #: Set by the first message where it has to be `authenticate`.
        self._first: trio.Event | None = None
        self.address = address
        #: `token_expiring` has been said of the token in force.
        self.expiry_announced = False
        #: When the next heartbeat is due, on Trio's clock.
        self.heartbeat_at = trio.current_time() + services.state.config.heartbeat_s

    @property
    def lane(self) -> Lane:
        """Both lanes."""
        return self._lane

    @property
    def text_heartbeat(self) -> bool:
        """Whether heartbeats go as messages: scripts in a browser cannot see pings."""
        return self._handshake.text_heartbeat

    @property
    def session(self) -> Session | None:
        """Its session, once it has one."""
        return self._session

    @property
    def identity(self) -> Identity | None:
        """Who the client is, by its last valid token."""
        return self._identity

    async def run(self, mailbox: Mailbox[Wake], *, task_status: trio.TaskStatus[None]) -> None:
        """Live from the handshake to the last byte. Cancellation: the socket is closed at once."""
        config = self._services.state.config
        task_status.started()
        self._services.connections.add(self)
        try:
            try:
                async with trio.open_nursery() as nursery:
                    if await self._ws.open(
                        nursery,
                        max_message_bytes=config.max_message_bytes,
                        within_s=config.handshake_s,
                        subprotocol=self._handshake.subprotocol,
                    ):
                        await self._serve(mailbox)
                        await self._ws.close(config.close_s)
                    nursery.cancel_scope.cancel()
            finally:
                self._depart()
            await self._lane.hang_up(config.close_s)
        finally:
            await self._lane.drop()

    # Opening

    async def _serve(self, mailbox: Mailbox[Wake]) -> None:
        if await self._sign_in():
            await self._attach()
            async for _ in mailbox:
                await self._lane.write_waiting()
                if self._lane.said_last:
                    self._lane.close(CloseCode.GOING_AWAY, "the server is going down")
                if self._is_over():
                    break

    def _is_over(self) -> bool:
        lane = self._lane
        return lane.close_request is not None or lane.left or lane.ended

    async def _sign_in(self) -> bool:
        """Find out who the client is, or wait for it to say so where it has to; False: it is to be closed."""
        token, authenticator = self._handshake.token, self._services.authenticator
        if authenticator is None:
            if token is not None:
                log.warning("token ignored: no key is configured", address=self.address)
            return True
        if token is not None:
            return await self._check_first(token, authenticator)
        if self._services.state.config.allow_anonymous or self._handshake.reconnection_token:
            return True
        return await self._wait_for_authenticate()

    async def _check_first(self, token: str, authenticator: Authenticator) -> bool:
        try:
            self._identity = await authenticator.verify(token)
        except InvalidTokenError as error:
            self._lane.close(CloseCode.POLICY_VIOLATION, error.reason)
            return False
        return True

    async def _wait_for_authenticate(self) -> bool:
        self._first = trio.Event()
        self._ws.read(self._take_first)
        with trio.move_on_after(self._services.state.config.sign_in_s):
            await self._first.wait()
        if self._identity is None:
            self._lane.close(CloseCode.POLICY_VIOLATION, "sign-in took too long")
            return False
        return True

    async def _attach(self) -> None:
        """Get a session from the router, which sends `connected`; then begin to read."""
        services, token = self._services, self._handshake.reconnection_token
        if self._session is not None:
            return
        try:
            answer: Attached | Refused = await services.router.ask(
                lambda reply: Attach(reply, lane=self._lane, identity=self._identity, token=token)
            )
        except ActorError as error:
            self._lane.close(CloseCode.INTERNAL_ERROR, str(error))
            return
        if isinstance(answer, Attached):
            self._session = answer.session
            self._identity, self._grants = answer.session.identity, answer.session.grants
            self._ws.read(self._take)
        else:
            self._lane.close(answer.code, answer.reason)

    # Reading

    async def _take_first(self, messages: list[bytes]) -> None:
        """The first message where it has to be `authenticate`; what came with it is taken as usual."""
        assert self._first is not None
        assert self._services.authenticator is not None
        try:
            message = decode(messages[0])
            if not isinstance(message, Authenticate):
                raise Refusal(ErrorCode.INVALID_TOKEN, "the first message must be authenticate")
            self._identity = await self._services.authenticator.verify(message.token)
        except (Refusal, InvalidTokenError) as error:
            self._lane.close(CloseCode.POLICY_VIOLATION, str(error))
        else:
            await self._attach()
        self._first.set()
        if self._session is not None and len(messages) > 1:
            await self._take(messages[1:])

    async def _take(self, messages: list[bytes]) -> None:
        """All whole messages of one read: judge each, hand them to the router as one letter."""
        assert self._session is not None
        items: list[Item] = []
        left = iter(messages)
        while (stopped_at := self._intake.judge_all(left, self._grants, items)) is not None:
            if isinstance(stopped_at, Binary):
                self._lane.close(CloseCode.UNSUPPORTED_DATA, "binary messages are not taken")
                break
            try:
                items.append(await self._authenticate(stopped_at))
            except Refusal as refusal:
                items.append(refusal.frame())
        if self._intake.too_many(len(messages)):
            self._lane.close(CloseCode.TOO_MANY_MESSAGES, "too many messages")
        try:
            await self._services.router.send(Letter(self._session, self._lane, items))
        except ActorGoneError as error:
            self._lane.close(CloseCode.INTERNAL_ERROR, str(error))

    async def _authenticate(self, message: Authenticate) -> SignIn:
        """Check a token that comes over an open connection; the old one stays good where this one is not."""
        services = self._services
        known = self._identity
        if services.authenticator is None:
            identity = anonymous(services.state)
        else:
            try:
                identity = await services.authenticator.verify(message.token)
            except InvalidTokenError as error:
                raise Refusal(ErrorCode.INVALID_TOKEN, error.reason, id=message.id) from None
        if known is not None and known.user_id is not None and identity.user_id != known.user_id:
            raise Refusal(ErrorCode.INVALID_TOKEN, "the token is another user's", id=message.id)
        self._identity, self.expiry_announced = identity, False
        self._grants = grants_of(services.state, identity)
        return SignIn(identity, self._grants, message.id)

    # Ending

    def _depart(self) -> None:
        """Tell the router. Where its mailbox is full, it finds the note at its next look at the clock."""
        self._lane.end()
        self._services.connections.discard(self)
        if self._session is None:
            return
        code, reason = self._end()
        departure = Depart(self._session, self._lane, code, reason)
        try:
            self._services.router.tell(departure)
        except MailboxFull:
            self._services.state.departures.append(departure)
        except ActorGoneError:
            pass  # the server is going down; sessions go with it

    def _end(self) -> tuple[int, str]:
        """How the connection ended: our own reason, the peer's, or none."""
        if self._lane.close_request is not None:
            return self._lane.close_request
        return self._ws.closed_by_peer or (1006, "")
