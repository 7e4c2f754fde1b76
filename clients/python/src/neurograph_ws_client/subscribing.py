"""The client's calls for subscribing and listening."""

# An event of a channel known by name is more exactly typed than one of any channel, which mypy would rather not have.
# mypy: disable-error-code="overload-overlap"

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Unpack, cast, overload

from neurograph_ws_client.calls import Calls
from neurograph_ws_client.dispatching import NAMES
from neurograph_ws_client.events import (
    ActionsEvent,
    Callback,
    Channel,
    ConnectionsEvent,
    Event,
    Gap,
    LogsEvent,
    MetricsEvent,
    SignalsEvent,
    StatusEvent,
    SubscribeMultipleOptions,
    SubscribeOptions,
)
from neurograph_ws_client.iterating import Buffer, EventStream
from neurograph_ws_client.options import read_options, read_positions


class Subscribing(Calls):
    """Subscribing, and being called back."""

    @overload
    def subscribe(
        self,
        channel: Literal[Channel.METRICS, "metrics"],
        handler: Callable[[MetricsEvent], object] | None = None,
        **options: Unpack[SubscribeOptions],
    ) -> None: ...
    @overload
    def subscribe(
        self,
        channel: Literal[Channel.SIGNALS, "signals"],
        handler: Callable[[SignalsEvent], object] | None = None,
        **options: Unpack[SubscribeOptions],
    ) -> None: ...
    @overload
    def subscribe(
        self,
        channel: Literal[Channel.ACTIONS, "actions"],
        handler: Callable[[ActionsEvent], object] | None = None,
        **options: Unpack[SubscribeOptions],
    ) -> None: ...
    @overload
    def subscribe(
        self,
        channel: Literal[Channel.LOGS, "logs"],
        handler: Callable[[LogsEvent], object] | None = None,
        **options: Unpack[SubscribeOptions],
    ) -> None: ...
    @overload
    def subscribe(
        self,
        channel: Literal[Channel.STATUS, "status"],
        handler: Callable[[StatusEvent], object] | None = None,
        **options: Unpack[SubscribeOptions],
    ) -> None: ...
    @overload
    def subscribe(
        self,
        channel: Literal[Channel.CONNECTIONS, "connections"],
        handler: Callable[[ConnectionsEvent], object] | None = None,
        **options: Unpack[SubscribeOptions],
    ) -> None: ...
    @overload
    def subscribe(
        self,
        channel: str,
        handler: Callable[[Event], object] | None = None,
        **options: Unpack[SubscribeOptions],
    ) -> None: ...
    @overload
    def subscribe(
        self,
        channel: str,
        handler: Callable[[dict[str, Any]], object],
        **options: Unpack[SubscribeOptions],
    ) -> None: ...
    def subscribe(
        self, channel: str, handler: Callable[[Any], object] | None = None, **options: Unpack[SubscribeOptions]
    ) -> None:
        """Subscribe; sent when connected, and again after each reconnection, with the position that was reached.

        A channel may have several handlers. Options belong to the channel: those that are given hold from then on, as
        long as the handler is there; then those that were given before. Without any, it keeps those that it has.
        `last` and `since` count only where the subscription begins.

        Args:
            channel: Its name; `personal` and `global` come without being asked for, and need a handler only.
            handler: Called with each event, in order; may be async, and is then awaited.
            options: See `SubscribeOptions`.

        Raises:
            ValueError: An option is none of the contract's, or they cannot stand together.
            TypeError: There is no such option, or an argument has the wrong type.
            ClosedError: The client is closed.
        """
        if not isinstance(channel, str):
            raise TypeError(f"channel: one name (got {channel!r}); for several, subscribe_multiple()")
        at = options.get("recover")
        several = {**options, "recover": None if at is None else {channel: at}}
        self.subscribe_multiple([channel], handler, **cast(SubscribeMultipleOptions, several))

    def subscribe_multiple(
        self,
        channels: Sequence[str],
        handler: Callable[[Any], object] | None = None,
        **options: Unpack[SubscribeMultipleOptions],
    ) -> None:
        """Subscribe to several channels in one message; see `subscribe`.

        Args:
            channels: Their names.
            handler: For all of them.
            options: See `SubscribeMultipleOptions`.

        Raises:
            ValueError: An option is none of the contract's, or they cannot stand together.
            TypeError: There is no such option, or an argument has the wrong type.
            ClosedError: The client is closed.
        """
        self._check_open()
        if isinstance(channels, str) or not all(isinstance(channel, str) for channel in channels):
            raise TypeError(f"channels: a list of names, such as ['metrics', 'signals'] (got {channels!r})")
        if handler is not None and not callable(handler):
            raise TypeError(f"handler: it must be a function, sync or async (got {handler!r})")
        read = read_options(**options)
        recover = read_positions(options.get("recover"), channels)
        for channel in channels:
            self._core.subscriptions.add(str(channel), handler, read, recover.get(channel))
        self._core.on_output()

    def unsubscribe(self, channel: str, handler: Callable[[Any], object] | None = None) -> None:
        """Take a handler away, or all; with the last one the subscription ends. What is not there is no error."""
        subscription = self._core.subscriptions.wanted.get(channel)
        self._core.subscriptions.remove(str(channel), handler)
        if subscription is not None and channel not in self._core.subscriptions.wanted:
            for buffer in list(self._buffers):
                if buffer.channel == channel:
                    buffer.end(None, drop=False)
        self._core.on_output()

    def get_subscriptions(self) -> list[str]:
        """The channels that this client wants, sorted; `fetch_subscriptions` asks the server for its list."""
        return sorted(self._core.subscriptions.wanted)

    @overload
    def events(
        self,
        channel: Literal[Channel.METRICS, "metrics"],
        *,
        gaps: Literal[False] = False,
        **options: Unpack[SubscribeOptions],
    ) -> EventStream[MetricsEvent]: ...
    @overload
    def events(
        self, channel: Literal[Channel.METRICS, "metrics"], *, gaps: Literal[True], **options: Unpack[SubscribeOptions]
    ) -> EventStream[MetricsEvent | Gap]: ...
    @overload
    def events(
        self,
        channel: Literal[Channel.SIGNALS, "signals"],
        *,
        gaps: Literal[False] = False,
        **options: Unpack[SubscribeOptions],
    ) -> EventStream[SignalsEvent]: ...
    @overload
    def events(
        self, channel: Literal[Channel.SIGNALS, "signals"], *, gaps: Literal[True], **options: Unpack[SubscribeOptions]
    ) -> EventStream[SignalsEvent | Gap]: ...
    @overload
    def events(
        self,
        channel: Literal[Channel.ACTIONS, "actions"],
        *,
        gaps: Literal[False] = False,
        **options: Unpack[SubscribeOptions],
    ) -> EventStream[ActionsEvent]: ...
    @overload
    def events(
        self, channel: Literal[Channel.ACTIONS, "actions"], *, gaps: Literal[True], **options: Unpack[SubscribeOptions]
    ) -> EventStream[ActionsEvent | Gap]: ...
    @overload
    def events(
        self,
        channel: Literal[Channel.LOGS, "logs"],
        *,
        gaps: Literal[False] = False,
        **options: Unpack[SubscribeOptions],
    ) -> EventStream[LogsEvent]: ...
    @overload
    def events(
        self, channel: Literal[Channel.LOGS, "logs"], *, gaps: Literal[True], **options: Unpack[SubscribeOptions]
    ) -> EventStream[LogsEvent | Gap]: ...
    @overload
    def events(
        self,
        channel: Literal[Channel.STATUS, "status"],
        *,
        gaps: Literal[False] = False,
        **options: Unpack[SubscribeOptions],
    ) -> EventStream[StatusEvent]: ...
    @overload
    def events(
        self, channel: Literal[Channel.STATUS, "status"], *, gaps: Literal[True], **options: Unpack[SubscribeOptions]
    ) -> EventStream[StatusEvent | Gap]: ...
    @overload
    def events(
        self,
        channel: Literal[Channel.CONNECTIONS, "connections"],
        *,
        gaps: Literal[False] = False,
        **options: Unpack[SubscribeOptions],
    ) -> EventStream[ConnectionsEvent]: ...
    @overload
    def events(
        self,
        channel: Literal[Channel.CONNECTIONS, "connections"],
        *,
        gaps: Literal[True],
        **options: Unpack[SubscribeOptions],
    ) -> EventStream[ConnectionsEvent | Gap]: ...
    @overload
    def events(
        self, channel: str, *, gaps: Literal[False] = False, **options: Unpack[SubscribeOptions]
    ) -> EventStream[Event]: ...
    @overload
    def events(
        self, channel: str, *, gaps: Literal[True], **options: Unpack[SubscribeOptions]
    ) -> EventStream[Event | Gap]: ...
    def events(self, channel: str, *, gaps: bool = False, **options: Unpack[SubscribeOptions]) -> EventStream[Any]:
        """Subscribe, and iterate over the events; when the loop is left, unsubscribe.

        A loop that is slow makes the other handlers wait as soon as 1,000 events wait for it.

        Args:
            channel: Its name.
            gaps: Give gaps too, at their place: they have `"type": "gap"`.
            options: See `SubscribeOptions`.

        Raises:
            ValueError: An option is none of the contract's, or they cannot stand together.
            TypeError: There is no such option, or an argument has the wrong type.
            ClosedError: The client is closed.
        """
        channel = str(channel)
        wanted = self._core.subscriptions.wanted
        buffer = Buffer(channel, lambda: wanted.get(channel), gaps=gaps)
        self.subscribe(channel, buffer, **options)
        self._buffers.add(buffer)
        return EventStream(buffer, self._check_events, lambda: self.unsubscribe(channel, buffer))

    # Callbacks

    def on(self, name: str, callback: Callback) -> None:
        """Call back when something happens; the callback may be async.

        connected (what the server said of itself), disconnected (`code`, `reason`, `reconnect`), error (an
        exception), pong, gap (at its place among the events), reconnecting (`attempt`, `delay` in s, `error`: why),
        token_expiring, goodbye. One that is set right after `connect()` still hears of that connection.

        Raises:
            ValueError: There is no such name.
            TypeError: The callback is no function.
        """
        if not callable(callback):
            raise TypeError(f"callback: it must be a function, sync or async (got {callback!r})")
        self._callbacks[self._known(name)] += (callback,)

    def off(self, name: str, callback: Callback | None = None) -> None:
        """Call back no more; without a callback, none of this name. What is not there is no error.

        Raises:
            ValueError: There is no such name.
        """
        kept = self._callbacks[self._known(name)]
        self._callbacks[name] = () if callback is None else tuple(one for one in kept if one != callback)

    def _known(self, name: str) -> str:
        if name not in self._callbacks:
            raise ValueError(f"{name!r} is not a name to call back for; those are {', '.join(NAMES)}")
        return name
