"""The client's calls that the server answers: publishing, and requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any

from msgspec import Raw

from neurograph_ws_client import publishing
from neurograph_ws_client.calls import Calls
from neurograph_ws_client.events import Authenticated, EventToPublish, History, Position, Published
from neurograph_ws_client.options import read_position
from neurograph_ws_client.publishing import Publish
from neurograph_ws_client.requests import Reply


class Publication(Awaitable[Published]):
    """A publish under way. Await it for what the server says of it, or leave it: a failure is then told by `error`.

    Attributes:
        key: By which the server knows a repetition.
    """

    def __init__(self, key: str, reply: Reply[Published], wait: Callable[[], Awaitable[Published]]) -> None:
        self.key = key
        self._reply = reply
        self._wait = wait

    @property
    def done(self) -> bool:
        """Whether the answer is there, or the failure."""
        return self._reply.done

    def __await__(self) -> Generator[Any, Any, Published]:
        return self._wait().__await__()


class Asking(Calls):
    """Publishing and asking."""

    def publish(
        self, channel: str, event_type: str, data: Mapping[str, Any] | None = None, key: str | None = None
    ) -> Publication:
        """Publish an event: now, or when connected, in the order of the calls.

        It is repeated after a reconnection, with its key, so that it is published once.

        Args:
            channel: Where to.
            event_type: 1 to 128 characters of `A–Z a–z 0–9 . _ - :`.
            data: A JSON object.
            key: By which the server knows a repetition for 120 s; None: one is made.

        Raises:
            QueueFullError: Too much is waiting; await what this returns, or publish less.
            TypeError: The data are not JSON.
            ValueError: The key is too long, or the message larger than the server reads.
            ClosedError: The client is closed.
        """
        return self._publish(channel, key, event_type, data, None)

    def publish_batch(
        self, channel: str, events: Sequence[EventToPublish | Mapping[str, Any] | Raw], key: str | None = None
    ) -> Publication:
        """Publish 1 to 1,000 events with consecutive seqs, all or none; see `publish`.

        Args:
            channel: Where to.
            events: Each with `event_type` and, if it has any, `data`; or, for programs that have its JSON already, a
                `msgspec.Raw` of that, which goes out as it is.
            key: One for the batch.

        Raises:
            QueueFullError: Too much is waiting; await what this returns, or publish less.
            TypeError: The events are not JSON.
            ValueError: There are none or too many, the key is too long, or the message larger than the server reads.
            ClosedError: The client is closed.
        """
        return self._publish(channel, key, None, None, events)

    def _publish(
        self, channel: str, key: str | None, event_type: str | None, data: object, events: Sequence[Any] | None
    ) -> Publication:
        self._check_open()
        core = self._core
        number = core.number()
        if key is None:
            key = f"{self._key_prefix}-{number}"
        text = publishing.message(number, channel, key, event_type, data, events)
        if core.connected is not None and len(text) > core.connected.max_message_bytes:
            raise publishing.too_large("publish", len(text), core.connected.max_message_bytes)
        reply: Reply[Published] = Reply()
        core.publishes.add(Publish(number, str(channel), text, reply))
        core.on_output()
        return Publication(key, reply, lambda: self._reading("publish").wait(reply))

    # Asking

    async def history(
        self,
        channel: str,
        *,
        after: Position | Mapping[str, object] | None = None,
        since: str | None = None,
        last: int | None = None,
        limit: int | None = None,
    ) -> History:
        """Ask for a part of a channel's past; without any of the first three, for the newest `limit`.

        Args:
            channel: Its name; subscribing to it is not needed.
            after: A position to begin behind.
            since: A time to begin at, RFC 3339 with a zone.
            last: The newest so many.
            limit: At most so many: 100 if not given, 1,000 at most.

        Raises:
            ValueError: More than one of `after`, `since` and `last`.
            TypeError: `after` is not a position.
            RequestRefusedError: The server's error, such as `history_unavailable`.
            RequestTimeoutError: No reply in time.
            NotConnectedError: There is no connection now.
            ConnectionLostError: It ended before the reply.
        """
        if sum(one is not None for one in (after, since, last)) > 1:
            raise ValueError("after, since, last: only one of them; each says where to begin")
        begin = None if after is None else read_position("after", after)
        options = {"after": begin, "since": since, "last": last, "limit": limit}
        given = {name: value for name, value in options.items() if value is not None}
        reply: History = await self._request("history", {"channel": str(channel), **given}, str(channel))
        return reply

    async def authenticate(self, token: str) -> Authenticated:
        """Sign in, or renew the sign-in. Where `token` of the client was a string, this one takes its place.

        Raises:
            RequestRefusedError: `invalid_token`; the old one stays good.
            RequestTimeoutError: No reply in time.
            NotConnectedError: There is no connection now.
            ConnectionLostError: It ended before the reply.
        """
        driver = self._reading("authenticate")
        reply: Authenticated = await self._request("authenticate", {"token": token})
        if not callable(driver.token):
            driver.token = token
        return reply

    async def ping(self) -> float:
        """Ask for a sign of life. Returns how long it took, in seconds.

        Raises:
            RequestTimeoutError: No reply in time.
            NotConnectedError: There is no connection now.
            ConnectionLostError: It ended before the reply.
        """
        reply: float = await self._request("ping", {})
        return reply

    async def fetch_subscriptions(self) -> list[str]:
        """Ask the server for the channels that it has this client subscribed to, sorted.

        Raises:
            RequestTimeoutError: No reply in time.
            NotConnectedError: There is no connection now.
            ConnectionLostError: It ended before the reply.
        """
        reply: list[str] = await self._request("get_subscriptions", {})
        return reply

    async def _request(self, kind: str, fields: Mapping[str, Any], channel: str | None = None) -> Any:
        driver = self._reading(kind)
        reply = self._core.request(kind, {"type": kind, **fields}, driver.backend.now(), channel)
        return await driver.wait(reply)
