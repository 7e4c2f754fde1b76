"""`POST events`: many events, each judged by itself; those that pass are published in their order.

This is the judge, and the call with a JSON array, whose body is in memory whole. A stream of lines comes in by
`upload`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Annotated, TypeVar

import msgspec
import trio
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.structs import asdict
from quart import Blueprint, Response, request

from router.auth.identity import Identity
from router.blocking import Patience
from router.errors import ErrorCode
from router.hub.attachment import grants_of
from router.intake import Intake
from router.letters import Broadcast, Events, Receipt
from router.protocol import Publish, Refusal
from router.rest.admission import Context, ask, before_goodbye, caller, intake_of, require_still_good
from router.rest.answers import Data, EventType, data_of
from router.rest.operations import operation
from router.rest.problems import Problem, ProblemError
from router.rest.reading import JSON, NDJSON, decode, decode_body, read_body

T = TypeVar("T")

#: What the router is given at a time, at most.
BATCH_EVENTS = 1000
BATCH_BYTES = 64 * 1024
#: So many refusals are listed; the others are counted.
MAX_LISTED = 100
#: Items judged before others get their turn.
_ITEMS_BETWEEN_YIELDS = 64


class EventItem(Struct, frozen=True):
    """An event, and its channel."""

    channel: str
    event_type: EventType
    data: Data = UNSET


class Rejected(Struct, frozen=True):
    """An event that was not published."""

    line: Annotated[int, Meta(description="Of lines its number, from 1; of an array the item's index, from 0")]
    error: str


class EventsDone(Struct):
    """What became of the events."""

    accepted: int
    rejected: Annotated[list[Rejected], Meta(description=f"The first {MAX_LISTED}")]
    rejected_count: int


class EventsProblem(Problem, kw_only=True, frozen=True):
    """No event was published, and why (RFC 9457). What became of each is there where the body could be read."""

    accepted: int | UnsetType = UNSET
    rejected: list[Rejected] | UnsetType = UNSET
    rejected_count: int | UnsetType = UNSET


_decode_item = msgspec.json.Decoder(EventItem)
_decode_array = msgspec.json.Decoder(list[Raw])


class Judge:
    """Judges one caller's events and hands them on in batches; waiting for the router is the back-pressure.

    The mutable state is what has become of the events so far, and the batch that is being made: runs of events of
    one channel, and the number of each event.
    """

    def __init__(self, context: Context, identity: Identity, intake: Intake, *, patient: bool) -> None:
        """Make a judge.

        Args:
            context: What there is.
            identity: The caller.
            intake: The caller's, which knows its rate.
            patient: Events over the rate are waited with, and else refused.
        """
        self._context = context
        self._identity = identity
        self._intake = intake
        self._patient = patient
        self._grants = grants_of(context.state, identity)
        self._retry_after: float | None = None
        self._judged = 0
        self._accepted = 0
        self._rejected: list[Rejected] = []
        self._rejected_count = 0
        self._runs: list[Events] = []
        self._numbers: list[int] = []
        self._events = 0
        self._bytes = 0

    async def take(self, number: int, payload: bytes) -> None:
        """Judge one event.

        Raises:
            ProblemError: The router is not there, or the token is good no more.

        Cancellation: what has not been handed on is lost.
        """
        self._judged += 1
        if self._judged % _ITEMS_BETWEEN_YIELDS == 0:
            await trio.lowlevel.checkpoint()
        try:
            message = await self._check(number, payload)
        except Refusal as refusal:
            self.reject(number, refusal.message)
            return
        if not self._runs or self._runs[-1].channel != message.channel:
            self._runs.append(Events(message.channel, []))
        self._runs[-1].events.append(message)
        self._numbers.append(number)
        self._events += 1
        self._bytes += len(payload)
        if self._events >= BATCH_EVENTS or self._bytes >= BATCH_BYTES:
            await self.flush()

    async def _check(self, number: int, payload: bytes) -> Publish:
        item = decode(payload, _decode_item)
        message = Publish(channel=item.channel, event_type=item.event_type, data=data_of(item.data))
        while True:
            try:
                self._intake.check_publish(message, self._grants, len(payload))
            except Refusal as refusal:
                if refusal.retry_after is None:
                    raise
                if not self._patient:
                    self._retry_after = refusal.retry_after
                    raise Refusal(refusal.code, f"{refusal.code}: {refusal.message}") from None
                await self.flush()  # what is over the rate comes later, as under any other back-pressure
                await self.wait(number, partial(trio.sleep, refusal.retry_after))
            else:
                return message

    async def wait(self, number: int, wait: Callable[[], Awaitable[T]]) -> T:
        """Wait, with nothing in hand, for the event of this number.

        Raises:
            ProblemError: The server goes down.

        Cancellation: as that of `wait`.
        """
        try:
            return await before_goodbye(self._context, wait)
        except ProblemError as error:
            raise self._told(error, number) from None

    def _told(self, error: ProblemError, number: int) -> ProblemError:
        return error.told(f"{self._accepted} events before line {number} were accepted")

    def reject(self, number: int, error: str) -> None:
        """Count an event as not published."""
        self._rejected_count += 1
        if len(self._rejected) < MAX_LISTED:
            self._rejected.append(Rejected(number, error))

    async def flush(self) -> None:
        """Hand on what has been judged.

        Raises:
            ProblemError: The router is not there, or the token is good no more.
        """
        if not self._runs:
            return
        runs, numbers = self._runs, deque(self._numbers)
        self._runs, self._numbers, self._events, self._bytes = [], [], 0, 0

        async def send(part: list[Events], done: trio.Event | None) -> None:
            answers: list[Receipt | Refusal] = await ask(self._context, lambda reply: Broadcast(reply, part, done))
            for run, answer in zip(part, answers, strict=True):
                lines = [numbers.popleft() for _ in run.events]
                if isinstance(answer, Refusal):
                    for line in lines:
                        self.reject(line, answer.message)
                else:
                    self._accepted += len(lines)

        try:
            require_still_good(self._context, self._identity)
            await self._context.state.blocking.hand_on(runs, send, Patience())
        except ProblemError as error:
            raise self._told(error, numbers[0]) from None

    def verdict(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer."""
        rejected = sorted(self._rejected, key=lambda each: each.line)
        if self._accepted:
            done = EventsDone(self._accepted, rejected, self._rejected_count)
            return HTTPStatus.OK, {"Content-Type": JSON}, msgspec.json.encode(done)
        detail = "none of the events can be published" if rejected else "there is no event in the body"
        error = ProblemError(HTTPStatus.BAD_REQUEST, detail, code=ErrorCode.INVALID_MESSAGE)
        if self._retry_after is not None:
            detail = "none of the events was published, and some were over the rate"
            error = ProblemError(HTTPStatus.TOO_MANY_REQUESTS, detail, retry_after=self._retry_after)
        problem = EventsProblem(
            **asdict(error.problem), accepted=0, rejected=rejected, rejected_count=self._rejected_count
        )
        return error.status, error.headers, msgspec.json.encode(problem)


def add_events(blueprint: Blueprint, context: Context) -> None:
    """Add the resource."""

    @blueprint.post("/events")
    @operation(
        "Publishing",
        EventsDone,
        body=list[EventItem],
        example=[
            {"channel": "signals", "event_type": "signal.input.text", "data": {"priority": 200}},
            {"channel": "logs", "event_type": "log.info", "data": {"level": "info", "message": "hello"}},
        ],
        problems=[HTTPStatus.SERVICE_UNAVAILABLE],
        problem_models={HTTPStatus.BAD_REQUEST: EventsProblem},
    )
    async def events() -> Response:
        """Publish many events.

        A JSON array, or one event a line (`application/x-ndjson`), as many as you like. Each needs publish permission
        on its channel. They are judged one by one, and those that pass are published in their order. On a channel with
        the option `block` the call waits for room with all subscribers, as long as each of them reads in time.
        """
        payload = await read_body((JSON, NDJSON))
        judge = Judge(context, caller(), intake_of(context, caller(), request.scope), patient=False)
        items: list[Raw] = decode_body(payload, _decode_array)
        for index, item in enumerate(items):
            await judge.take(index, bytes(item))
        await judge.flush()
        status, headers, body = judge.verdict()
        return Response(body, status=status, headers=headers)
