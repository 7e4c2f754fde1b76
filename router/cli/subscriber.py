"""`sub` at work: events to standard output, and to standard error all that happens to the stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from router.cli.foreground import Output, ReaderGone
from router.cli.rendering import Renderer
from router.cli.terminal import Notes, span
from router.nursery import bare_nursery
from router.talk import Conversation, Lost, Return, Target, keep_talking
from router.talk.said import (
    Connected,
    Error,
    Event,
    Gap,
    Goodbye,
    Message,
    Position,
    Positions,
    Subscribed,
    TokenExpiring,
    Unsubscribed,
)

_SUBSCRIBE_ID = 1
TOKEN_HINT = "give a good one by NEUROGRAPH_TOKEN or --token-file; `neurograph-router token` makes one"  # noqa: S105


class Subscriber:
    """One run of `sub`. The mutable state is where each channel's stream is, and what is left to print."""

    def __init__(
        self,
        channels: Sequence[str],
        target: Target,
        output: Output,
        render: Renderer,
        notes: Notes,
        *,
        count: int | None = None,
        reconnect: bool = True,
    ) -> None:
        """Prepare.

        Args:
            channels: To subscribe to.
            target: The server.
            output: Gets the events.
            render: How they look.
            notes: Get all else.
            count: To end after so many events; None: never.
            reconnect: Whether to come back when the connection is lost.
        """
        self._channels = list(dict.fromkeys(channels))
        self._target = target
        self._output = output
        self._render = render
        self._notes = notes
        self._left = count
        self._reconnect = reconnect
        self._subscribed: set[str] = set()
        self._positions: dict[str, Position] = {}

    async def run(self) -> int:
        """Print events until there are enough, or nothing more can come; the exit code.

        Raises:
            ReaderGone: Nobody reads the output any more.
            OSError: It cannot be written.
            router.talk.TalkError: The target cannot be used.
        """
        code = 0
        gone = False
        async with bare_nursery() as nursery:

            async def watch_reader() -> None:
                nonlocal gone
                await self._output.wait_for_no_reader()
                gone = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch_reader)
            try:
                await keep_talking(self._target, self._converse, self._on_lost)
            except Lost as lost:
                hint = f"; {TOKEN_HINT}" if lost.may_return is Return.WITH_FRESH_TOKEN else ""
                self._notes.error(f"{lost}{hint}")
                code = 1
        if gone:
            raise ReaderGone
        return code

    def _on_lost(self, lost: Lost, delay_s: float) -> None:
        if not self._reconnect:
            raise lost
        self._notes.say(f"{lost}; coming back in {delay_s:.1f} s")

    async def _converse(self, conversation: Conversation, connected: Connected) -> None:
        who = f"{connected.user_id or 'nobody'} ({connected.role})"
        if connected.reconnected:
            self._notes.say(f"connected again as {who}")
            self._begin(connected)
        else:
            self._notes.say(f"connected to {self._target.shown} as {who}")
        known = {*connected.channels, *connected.denied}
        if missing := [name for name in self._channels if name not in known]:
            await conversation.send({"type": "subscribe", "channels": missing, "id": _SUBSCRIBE_ID})
        else:
            self._check_subscribed()
        while self._left != 0:
            await self._take(*await conversation.receive())

    async def _take(self, message: Message, payload: bytes) -> None:
        match message:
            case Event():
                await self._output.write(self._render(message, payload))
                self._count(message)
            case Subscribed():
                self._begin(message)
                self._check_subscribed()
            case Unsubscribed(reason=reason) if reason:
                self._subscribed.difference_update(message.channels)
                self._notes.warn(f"no more events of {', '.join(message.channels)}: {reason}")
                self._check_subscribed()
            case Gap():
                self._notes.warn(_describe(message))
                if message.to is not None and message.of in self._positions:
                    self._positions[message.of].seq = message.to
            case Positions():
                self._positions.update(message.positions)
            case Goodbye():
                self._notes.say(f"the server says goodbye: {message.reason or 'no reason given'}")
            case TokenExpiring():
                self._notes.warn(f"the token expires at {message.expires_at}; {TOKEN_HINT}")
            case Error():
                if message.id == _SUBSCRIBE_ID:
                    raise Lost(f"cannot subscribe: {message.message} ({message.code})", Return.NO)
                self._notes.error(f"{message.message} ({message.code})")
            case _:
                pass

    def _count(self, event: Event) -> None:
        if event.seq is not None and event.channel in self._positions:
            self._positions[event.channel].seq = event.seq
        if self._left is not None:
            self._left -= 1

    # What is subscribed, and from where on

    def _begin(self, message: Connected | Subscribed) -> None:
        """Take note of where streams go on; what went by since we last heard of one is told as a gap."""
        for name, position in message.positions.items():
            before = self._positions.get(name)
            if before is not None and before.epoch != position.epoch:
                self._notes.warn(f"GAP on {name}: its numbering began anew; what came after seq {before.seq} is lost")
            elif before is not None and before.seq < position.seq:
                lost = position.seq - before.seq
                self._notes.warn(
                    f"GAP on {name}: {_events(lost)} lost while away, seq {span(before.seq + 1, position.seq)}"
                )
            self._positions[name] = position
        self._subscribed.update(message.channels)
        self._tell_denied(message.denied, message.reasons)

    def _tell_denied(self, denied: Iterable[str], reasons: Mapping[str, str]) -> None:
        for name in denied:
            self._subscribed.discard(name)
            reason = reasons.get(name, "")
            said = {"permission_denied": "permission denied", "unknown_channel": "there is no such channel"}
            self._notes.warn(f"not subscribed to {name}: {said.get(reason, reason or 'refused')}")

    def _check_subscribed(self) -> None:
        if not self._subscribed:
            raise Lost("subscribed to nothing, so no event can come", Return.NO)


def _describe(gap: Gap) -> str:
    where = "" if gap.start is None or gap.to is None else f", seq {span(gap.start, gap.to)}"
    lost = "events" if gap.count is None else _events(gap.count)
    return f"GAP on {gap.of}: {lost} lost{where} ({gap.reason})"


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"
