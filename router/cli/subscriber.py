"""`sub` at work: events to standard output, and to standard error all that happens to the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from neurograph_ws_client import (
    Channel,
    ClosedError,
    ConnectError,
    Gap,
    NeurographError,
    RequestRefusedError,
    State,
    SubscriptionDeniedError,
    TextEvent,
)

from router.cli.foreground import Output, ReaderGone
from router.cli.rendering import Renderer
from router.cli.target import Target, explain, wants_token
from router.cli.terminal import Notes, span
from router.nursery import bare_nursery

TOKEN_HINT = "give a good one by NEUROGRAPH_TOKEN or --token-file; `neurograph-router token` makes one"  # noqa: S105
#: Where our output waits, no more is read than this; the server's policy then acts, and what it drops is told.
_QUEUE: Final = {"queue_events": 1_000, "queue_bytes": 1 << 20}
_DENIED: Final = {"permission_denied": "permission denied", "unknown_channel": "there is no such channel"}


class Subscriber:
    """One run of `sub`. The mutable state is what is left to print, which channels are refused, and how it ended."""

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

        Raises:
            router.cli.target.TargetError: The target cannot be used.
        """
        self._channels = list(dict.fromkeys(channels))
        self._output = output
        self._render = render
        self._notes = notes
        self._left = count
        self._refused: set[str] = set()
        self._failure: ReaderGone | OSError | None = None
        self._code = 0
        self._client = target.client(auto_reconnect=reconnect, keep_text=True, **_QUEUE)

    async def run(self) -> int:
        """Print events until there are enough, or nothing more can come; the exit code.

        Raises:
            ReaderGone: Nobody reads the output any more.
            OSError: It cannot be written.

        Cancellation: the connection is closed, which ends the session.
        """
        client = self._client
        client.subscribe_multiple([*self._channels, Channel.PERSONAL, Channel.GLOBAL], self._print)
        client.on("connected", self._tell_connected)
        client.on("reconnecting", self._tell_lost)
        client.on("error", self._tell_error)
        client.on("gap", lambda gap: self._notes.warn(_describe(gap)))
        client.on("goodbye", self._tell_goodbye)
        client.on("token_expiring", self._tell_token)
        async with bare_nursery() as nursery:
            nursery.start_soon(self._watch_reader)
            try:
                async with client:
                    await client.run_forever()
            except (ConnectError, ClosedError) as error:
                if self._failure is None:  # otherwise we have ended it ourselves
                    self._notes.error(f"{explain(error)}{f'; {TOKEN_HINT}' if wants_token(error) else ''}")
                    self._code = 1
        if self._failure is not None:
            raise self._failure
        return self._code

    async def _print(self, event: TextEvent) -> None:
        try:
            await self._output.write(self._render(event.text))
        except (ReaderGone, OSError) as error:
            await self._end(error)
            return
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                await self._end()

    async def _watch_reader(self) -> None:
        await self._output.wait_for_no_reader()
        await self._end(ReaderGone())

    async def _end(self, failure: ReaderGone | OSError | None = None) -> None:
        self._failure = self._failure or failure
        await self._client.disconnect()

    # What is told

    def _tell_connected(self, connected: Mapping[str, Any]) -> None:
        self._refused.clear()  # whatever is refused now is told again
        who = f"{connected.get('user_id') or 'nobody'} ({connected['role']})"
        where = "again" if connected.get("reconnected") else f"to {self._client.get_connection_info()['url']}"
        self._notes.say(f"connected {where} as {who}")

    def _tell_lost(self, lost: Mapping[str, Any]) -> None:
        self._notes.say(f"{explain(lost['error'])}; coming back in {lost['delay']:.1f} s")

    async def _tell_error(self, error: NeurographError) -> None:
        if isinstance(error, SubscriptionDeniedError):
            what = "no more events of" if error.withdrawn else "not subscribed to"
            self._notes.warn(f"{what} {error.channel}: {_DENIED.get(error.code, error.code)}")
            self._refused.add(error.channel)
            if self._refused.issuperset(self._channels):
                await self._give_up("subscribed to nothing, so no event can come")
        elif isinstance(error, RequestRefusedError) and error.channel is not None:
            await self._give_up(f"cannot subscribe: {error}")
        elif not isinstance(error, ClosedError | ConnectError) or self._client.state is not State.CLOSED:
            self._notes.error(str(error))  # otherwise it is the end, of which `run` tells

    async def _give_up(self, reason: str) -> None:
        self._notes.error(reason)
        self._code = 1
        await self._end()

    def _tell_goodbye(self, goodbye: Mapping[str, Any]) -> None:
        self._notes.say(f"the server says goodbye: {goodbye.get('reason') or 'no reason given'}")

    def _tell_token(self, expiring: Mapping[str, Any]) -> None:
        self._notes.warn(f"the token expires at {expiring['expires_at']}; {TOKEN_HINT}")


def _describe(gap: Gap) -> str:
    first, last, count = gap["from"], gap["to"], gap["count"]
    where = "" if first is None or last is None else f", seq {span(first, last)}"
    lost = "events" if count is None else f"{count:,} event{'' if count == 1 else 's'}"
    return f"GAP on {gap['of']}: {lost} lost{where} ({gap['reason']})"
