"""The methods by which a host program publishes: each checks an event, encodes it and puts it into the queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from msgspec import UNSET, Raw, Struct, UnsetType

from router.config import Config
from router.events import (
    ActionData,
    ConnectionData,
    LogData,
    MetricsData,
    SignalData,
    StatusData,
    check_object,
)
from router.feeds.host import HostQueue
from router.feeds.metrics import HostNumbers, Number
from router.letters import SendTo
from router.payloads import check_text, encode_data, encode_fields, fields_of, judge, shown
from router.protocol import EventIn

#: The `status` of an action that makes it an `action.failed`.
_FAILED = ("failed", "error")


class Broadcaster:
    """Checks what the host publishes and puts it into the queue. It has no mutable state.

    Each of its methods that broadcasts returns False where the queue is full, and raises

    - `ValueError` where the channel, the event type or a field of the data is not as it must be, or where the data
      are too large (`max_event_bytes`), cannot be encoded, or would not fit into the empty queue;
    - `TypeError` where JSON has no type for a value, or the data are not a mapping;
    - `RouterClosedError` where the router does not run: not yet, or not any more.

    `extra` are more fields of the event's data. Fields that are not given do not appear.
    """

    def __init__(self, config: Config, queue: HostQueue, numbers: HostNumbers) -> None:
        self._max_bytes = min(config.max_event_bytes, config.host_queue_bytes)
        self._queue = queue
        self._numbers = numbers

    @property
    def dropped(self) -> int:
        """Events that were dropped because the queue was full, since the start."""
        return self._queue.dropped

    @property
    def queued(self) -> int:
        """Events that the router has not taken yet."""
        return len(self._queue)

    # To whoever subscribed

    def broadcast(self, channel: str, event_type: str, data: Mapping[str, Any] | None = None) -> bool:
        """An event on any channel, configured or the system's."""
        return self._publish(channel, event_type, encode_data(data), data)

    def broadcast_signal_event(
        self,
        /,
        event_type: str = "signal.event",
        *,
        event_id: str | UnsetType = UNSET,
        is_novel: bool | UnsetType = UNSET,
        priority: int | UnsetType = UNSET,
        resonance_score: float | UnsetType | None = UNSET,
        neighbors_count: int | UnsetType = UNSET,
        **extra: Any,
    ) -> bool:
        """A signal that the system has taken in; its type stands in the data, too."""
        data = SignalData(event_id, event_type, is_novel, priority, resonance_score, neighbors_count)
        return self._publish_fields("signals", event_type, data, extra)

    def broadcast_action_event(
        self,
        /,
        event_type: str | None = None,
        *,
        action_id: str | UnsetType = UNSET,
        action_type: str | UnsetType = UNSET,
        status: str | UnsetType = UNSET,
        result: Any = UNSET,
        execution_time_ms: float | UnsetType | None = UNSET,
        error: str | UnsetType | None = UNSET,
        **extra: Any,
    ) -> bool:
        """An action: `action.failed` with an `error` or the status `failed` or `error`, else `action.executed`."""
        if event_type is None:
            event_type = "action.failed" if error or status in _FAILED else "action.executed"
        given = cast(Raw, result)  # it is encoded, whatever it is
        data = ActionData(action_id, action_type, status, given, execution_time_ms, error)
        return self._publish_fields("actions", event_type, data, extra)

    def broadcast_metrics(
        self,
        /,
        event_type: str = "system_metrics",
        *,
        cpu_percent: float | UnsetType = UNSET,
        host_cpu_percent: float | UnsetType = UNSET,
        memory_mb: float | UnsetType = UNSET,
        events_per_sec: float | UnsetType = UNSET,
        deliveries_per_sec: float | UnsetType = UNSET,
        total_connections: int | UnsetType = UNSET,
        total_channels: int | UnsetType = UNSET,
        total_subscriptions: int | UnsetType = UNSET,
        buffered_events: int | UnsetType = UNSET,
        total_tokens: int | UnsetType | None = UNSET,
        **extra: Any,
    ) -> bool:
        """Metrics of the host, at once; `give_metrics` adds them to those that the router sends anyway."""
        data = MetricsData(
            cpu_percent,
            host_cpu_percent,
            memory_mb,
            events_per_sec,
            deliveries_per_sec,
            total_connections,
            total_channels,
            total_subscriptions,
            buffered_events,
            total_tokens,
        )
        return self._publish_fields("metrics", event_type, data, extra)

    def broadcast_log(
        self,
        /,
        level: str,
        message: str,
        *,
        service: str | UnsetType = UNSET,
        correlation_id: str | UnsetType | None = UNSET,
        event_type: str | None = None,
        **extra: Any,
    ) -> bool:
        """A log message, as `log.<level>`; `Router.log_handler` brings in what goes through `logging`."""
        data = LogData(level, message, service, correlation_id)
        return self._publish_fields("logs", f"log.{level}" if event_type is None else event_type, data, extra)

    def broadcast_status(
        self,
        /,
        status: str,
        *,
        uptime_seconds: float | UnsetType = UNSET,
        version: str | UnsetType = UNSET,
        event_type: str | None = None,
        **extra: Any,
    ) -> bool:
        """What the system is doing as a whole, as `status.<status>`."""
        data = StatusData(status, uptime_seconds, version)
        return self._publish_fields("status", f"status.{status}" if event_type is None else event_type, data, extra)

    def broadcast_connection_event(
        self,
        /,
        event_type: str,
        *,
        client_id: str | UnsetType = UNSET,
        user_id: str | UnsetType | None = UNSET,
        total_connections: int | UnsetType = UNSET,
        channels: list[str] | UnsetType = UNSET,
        reason: str | UnsetType | None = UNSET,
        code: int | UnsetType | None = UNSET,
        **extra: Any,
    ) -> bool:
        """A client of the host that comes, goes or changes; the router reports its own clients itself."""
        data = ConnectionData(client_id, user_id, total_connections, channels, reason, code)
        return self._publish_fields("connections", event_type, data, extra)

    # To one, or to all

    def send_to_client(self, client_id: str, event_type: str, data: Mapping[str, Any] | None = None) -> bool:
        """An event on `personal` for one client, connected or expected back; if there is none, nobody gets it."""
        return self._send(event_type, data, client_id=check_text("client_id", client_id))

    def send_to_user(self, user_id: str, event_type: str, data: Mapping[str, Any] | None = None) -> bool:
        """An event on `personal` for each client of a user; if there is none, nobody gets it."""
        return self._send(event_type, data, user_id=check_text("user_id", user_id))

    def broadcast_global(self, event_type: str, data: Mapping[str, Any] | None = None) -> bool:
        """An event on `global` for every client, subscribed to anything or not."""
        return self._send(event_type, data)

    # Beside events

    def give_metrics(self, /, **numbers: Number | None) -> None:
        """Add numbers to each `system_metrics` event from the next one on, until they are given anew; None removes.

        Args:
            numbers: By name: `total_tokens`, or any that the router does not measure itself.

        Raises:
            TypeError: A value is not a number.
            ValueError: A name or a value cannot be used. Then nothing has changed.
            RouterClosedError: The router does not run.
        """
        self._queue.check_open()
        self._numbers.give(numbers)

    def _publish_fields(self, channel: str, event_type: str, data: Struct, extra: Mapping[str, Any]) -> bool:
        payload = encode_fields(data, extra)
        return self._publish(channel, event_type, payload, {**fields_of(data), **extra} if extra else data)

    def _publish(self, channel: str, event_type: str, payload: bytes, data: Mapping[str, Any] | Struct | None) -> bool:
        spec = self._queue.channels.find(check_text("channel", channel))
        if spec is None:
            self._queue.check_open()
            raise ValueError(f"channel {shown(channel)}: there is no such channel; give it in the setting `channels`")
        judge(event_type, payload, data, spec.check, self._max_bytes)
        return self._queue.put(channel, EventIn(event_type, Raw(payload)), len(payload))

    def _send(self, event_type: str, data: Mapping[str, Any] | None, **to: str) -> bool:
        payload = encode_data(data)
        judge(event_type, payload, data, check_object, self._max_bytes)
        return self._queue.put(None, SendTo(event_type, payload, **to), len(payload))
