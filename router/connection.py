"""The connection actor: one client's socket, from the handshake to the last byte.

Its mailbox, a bounded memory channel, carries wake-ups: something waits to be written, or the connection is to be
closed. What is to be written lies in the lane and the outbox. Reading is driven by the WebSocket library's own
task through the lane; so a connection is two tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import structlog
import trio
from msgspec import UNSET

from actors import ActorError, ActorGoneError, ActorRef, Mailbox, MailboxFull, Reply
from router.auth.access import Grants
from router.auth.tokens import Authenticator, Identity, InvalidTokenError
from router.blocking import Patience
from router.errors import CloseCode, ErrorCode
from router.frames import Binary
from router.handshake import Handshake
from router.hub.attachment import anonymous, grants_of
from router.hub.state import RouterState
from router.intake import Intake
from router.lanes import Lane, WebSocket
from router.letters import Attach, Depart, Item, Letter, Message, Refused, SignIn
from router.protocol import Authenticate, Id, Refusal, decode
from router.sessions import Session

log = structlog.get_logger("router.connection")

WAKE: Literal["wake"] = "wake"
Wake = Literal["wake"]

#: A letter has items for so large a part of the replies that may wait: each may want one.
_PARTS_OF_ROOM = 5


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

    The mutable state is who the client is, what it asked the router for, and the judge of its messages. The lane
    has the rest.
    """

    __slots__ = (
        "_grants", "_handshake", "_identity", "_intake", "_lane", "_patience", "_request", "_services", "_session",
        "_signing_in", "_ws", "address", "expiry_announced", "heartbeat_at",
    )  # fmt: skip

    def __init__(self, lane: Lane, handshake: Handshake, services: Services, address: str) -> None:
        self._lane = lane
        self._handshake = handshake
        self._services = services
        state = services.state
        self._intake = Intake(state.config, state.channels, state.clock, trio.current_time)
        self._identity: Identity | None = None
        self._grants: Grants | None = None
        self._session: Session | None = None
        #: What the router was asked and has not answered.
        self._request: Attach | None = None
        #: The time that a client has which must sign in first; None: it need not.
        self._signing_in: trio.CancelScope | None = None
        #: For what it has read last; None: there is no channel that blocks.
        self._patience: Patience | None = None
        self._ws = WebSocket(lane)
        self.address = address
        #: `token_expiring` has been said of the token in force.
        self.expiry_announced = False
        #: When the next heartbeat is due, on Trio's clock.
        self.heartbeat_at = trio.current_time() + state.config.heartbeat_s

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
        """Its session, once it has one: also one that it was given and has not been told of."""
        return self._session if self._request is None else self._request.session

    @property
    def identity(self) -> Identity | None:
        """Who the client is, by its last valid token."""
        return self._identity

    async def run(self, mailbox: Mailbox[Wake], *, task_status: trio.TaskStatus[None]) -> None:
        """Serve the client from the handshake to the last byte. Cancellation: the socket is closed at once."""
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
            with trio.move_on_after(config.close_s, shield=True):  # it does not wait, but who knows the transport
                await self._lane.drop()

    async def _serve(self, mailbox: Mailbox[Wake]) -> None:
        if not self._is_over():  # it is, where it is one connection too many
            await self._check_token()
        if not self._is_over():
            await self._attach()
        if self._signing_in is None:
            await self._write(mailbox)
        else:
            with self._signing_in:
                await self._write(mailbox)
            if self._signing_in.cancelled_caught:
                self._lane.close(CloseCode.POLICY_VIOLATION, "sign-in took too long")

    async def _write(self, mailbox: Mailbox[Wake]) -> None:
        """Write what waits whenever woken, until the connection is over."""
        lane = self._lane
        while not self._is_over():
            try:
                await mailbox.receive()
            except trio.EndOfChannel:
                lane.close(CloseCode.GOING_AWAY, "the server is going down")
            await lane.write_waiting()
            if lane.said_last:
                lane.close(CloseCode.GOING_AWAY, "the server is going down")
        if self._patience is not None:
            self._patience.end()  # whoever reads has the peer's close frame to read

    def _is_over(self) -> bool:
        """Whether only the close is left, under a deadline: also where the peer has closed and does not read on."""
        lane = self._lane
        return lane.close_request is not None or lane.close_sent or lane.left or lane.ended

    # Opening

    async def _check_token(self) -> None:
        """Learn who the client is by the token of its handshake; a bad one is answered by the close."""
        token, services = self._handshake.token, self._services
        if token is None:
            return
        if services.authenticator is not None:
            await self._verify_first(token, services.authenticator)
        elif not services.state.token_ignored:
            services.state.token_ignored = True
            log.warning("a token came, and no key is configured to check it: such tokens are ignored")

    async def _verify_first(self, token: str, authenticator: Authenticator) -> None:
        try:
            self._identity = await authenticator.verify(token)
        except InvalidTokenError as error:
            self._lane.close(CloseCode.POLICY_VIOLATION, error.reason)

    async def _attach(self, reply_to: Id = UNSET) -> None:
        """Get a session from the router, which sends `connected`; then begin to read."""

        def question(reply: Reply[Session | Refused | None]) -> Attach:
            token = self._handshake.reconnection_token
            self._request = Attach(
                reply,
                lane=self._lane,
                identity=self._identity,
                token=token,
                address=self.address,
                resume=self._handshake.resume,
                id=reply_to,
            )
            return self._request

        try:
            answer = await self._services.router.ask(question)
        except ActorError as error:
            self._lane.close(CloseCode.INTERNAL_ERROR, str(error))
            return
        self._request = None
        if answer is None:
            self._signing_in = trio.CancelScope(deadline=trio.current_time() + self._services.state.config.sign_in_s)
            self._ws.read(self._take_first)
        elif isinstance(answer, Refused):
            self._lane.close(answer.code, answer.reason)
        else:
            self._session, self._identity, self._grants = answer, answer.identity, answer.grants
            self._ws.read(self._take)

    # Reading

    async def _take_first(self, messages: list[bytes]) -> None:
        """The first message where it has to be `authenticate`; what came with it is taken as usual."""
        assert self._signing_in is not None
        assert self._services.authenticator is not None
        if isinstance(messages[0], Binary):
            self._refuse_binary()
            return
        message = _only_authenticate(messages[0])
        if message is None:
            self._lane.close(CloseCode.POLICY_VIOLATION, "the first message must be authenticate")
            return
        self._signing_in.deadline = math.inf  # it came in time, however long the check takes
        await self._verify_first(message.token, self._services.authenticator)
        if self._is_over():
            return
        await self._attach(message.id)
        if len(messages) > 1 and not self._is_over():
            await self._take(messages[1:])

    async def _take(self, messages: list[bytes]) -> None:
        """All whole messages of one read: judge each, hand them to the router."""
        assert self._session is not None
        assert self._grants is not None
        items: list[Item] = []
        left = iter(messages)
        while (stopped_at := self._intake.judge_all(left, self._grants, items)) is not None:
            if isinstance(stopped_at, Binary):
                self._refuse_binary()
                break
            try:
                items.append(await self._authenticate(stopped_at))
            except Refusal as refusal:
                items.append(refusal.frame())
        if self._intake.too_many(len(messages)):
            self._lane.close(CloseCode.TOO_MANY_MESSAGES, "too many messages")
        try:
            await self._hand_over(self._session, items)
        except ActorGoneError as error:
            self._lane.close(CloseCode.INTERNAL_ERROR, str(error))

    async def _hand_over(self, session: Session, items: list[Item]) -> None:
        """Send one letter, as a rule; in parts, where its items would need more replies than may wait.

        Each part waits until the client has taken the replies to the one before: who sends thousands of requests
        at once and reads is served, as fast as it reads.
        """
        config, channels = self._services.state.config, self._services.state.channels
        self._patience = Patience(spent=self._is_over()) if channels.any_block else None
        at_once = max(1, config.control_messages // _PARTS_OF_ROOM)
        while len(items) > at_once:
            part, items = items[:at_once], items[at_once:]
            done = trio.Event()
            await self._send(session, part, done)
            await done.wait()
            with trio.move_on_after(config.message_s) as deadline:
                await self._lane.until_control_taken()
            if deadline.cancelled_caught:
                self._lane.close(CloseCode.CONTROL_OVERFLOW, "the client does not read its replies")
        await self._send(session, items)

    async def _send(self, session: Session, items: list[Item], done: trio.Event | None = None) -> None:
        """One letter; of events on channels that block as many as it takes to wait for room."""
        router = self._services.router
        if items and self._patience is not None:

            async def send(part: list[Item], fanned_out: trio.Event | None) -> None:
                try:
                    await router.send(Letter(session, self._lane, part, fanned_out))
                except BaseException:
                    if fanned_out is not None:
                        fanned_out.set()  # it was not sent, and others wait for it
                    raise

            await self._services.state.blocking.hand_on(items, send, self._patience)
            if done is None:
                return
            items = []
        await router.send(Letter(session, self._lane, items, done))

    def _refuse_binary(self) -> None:
        self._lane.close(CloseCode.UNSUPPORTED_DATA, "binary messages are not taken")

    async def _authenticate(self, message: Authenticate) -> SignIn:
        """Check a token that comes over an open connection; the old one stays good where this one is not."""
        services = self._services
        known = self._identity
        assert known is not None
        if services.authenticator is None:
            identity = anonymous(services.state)
        else:
            try:
                identity = await services.authenticator.verify(message.token)
            except InvalidTokenError as error:
                raise Refusal(ErrorCode.INVALID_TOKEN, error.reason, id=message.id) from None
        if known.user_id is not None and identity.user_id != known.user_id:
            raise Refusal(ErrorCode.INVALID_TOKEN, "the token is another user's", id=message.id)
        self._identity, self.expiry_announced = identity, False
        self._grants = grants_of(services.state, identity)
        return SignIn(identity, self._grants, message.id)

    # Ending

    def _depart(self) -> None:
        """Tell the router. Where its mailbox is full, it finds the note when it has worked through that."""
        self._lane.end()
        self._services.connections.discard(self)
        session = self.session
        if session is None:
            return  # if the router has not seen the request yet, it will see that the lane has ended
        code, reason = self._end()
        departure = Depart(session, self._lane, code, reason)
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


def _only_authenticate(payload: bytes) -> Authenticate | None:
    try:
        message = decode(payload)
    except Refusal:
        return None
    return message if isinstance(message, Authenticate) else None
