"""`POST events` as lines (`application/x-ndjson`): a stream as long as one likes, in flat memory (ASGI).

Quart would keep a body whole in memory. Here each piece is judged and published before the next one is asked for, so
that a router that is behind stops the sender.
"""

from __future__ import annotations

from collections.abc import Iterator

from router.rest.admission import Context, identify, intake_of
from router.rest.asgi import App, Receive, Scope, Send, answer, encoded, header, refuse
from router.rest.events import Judge
from router.rest.lines import Lines
from router.rest.problems import ProblemError
from router.rest.reading import NDJSON, media_type, require_type

#: Of a line, for all but the event's `data`.
ENVELOPE_BYTES = 4096


class Uploads:
    """Takes uploads of lines; all other requests go on to the app."""

    def __init__(self, app: App, context: Context, path: str) -> None:
        self._app = app
        self._context = context
        self._path = path
        self._max_line_bytes = context.state.config.max_event_bytes + ENVELOPE_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        is_upload = (
            scope["method"] == "POST"
            and scope["path"] == self._path
            and media_type(header(scope, b"content-type")) == NDJSON
        )
        await (self._upload if is_upload else self._app)(scope, receive, send)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            judge = await self._take_in(scope, receive)
        except ProblemError as error:
            await refuse(send, error)
            return
        if judge is not None:
            status, headers, body = judge.verdict()
            await answer(send, status, encoded(headers), body)

    async def _take_in(self, scope: Scope, receive: Receive) -> Judge | None:
        """Publish what comes; None: the client has left before the end, and of its last line nothing is published."""
        identity = await identify(self._context, header(scope, b"authorization"))
        require_type(NDJSON, header(scope, b"content-encoding"), (NDJSON,))
        judge = Judge(self._context, identity, intake_of(self._context, identity, scope), patient=True)
        lines = Lines(self._max_line_bytes)
        more = True
        while more:
            event = await judge.wait(lines.next, receive)
            if event["type"] == "http.disconnect":
                return None
            await self._judge(judge, lines.feed(event.get("body", b"")))
            more = event.get("more_body", False)
        await self._judge(judge, lines.end())
        return judge

    async def _judge(self, judge: Judge, lines: Iterator[tuple[int, bytes | None]]) -> None:
        """Judge lines, and publish them before more is read."""
        for number, line in lines:
            if line is None:
                judge.reject(number, f"the line has more than {self._max_line_bytes} bytes")
            else:
                await judge.take(number, line)
        await judge.flush()
