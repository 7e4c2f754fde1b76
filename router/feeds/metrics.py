"""The metrics feed: how this machine and this process are doing, every few seconds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping

import msgspec
import psutil
import trio

from actors import ActorRef, Mailbox
from router.events import CHANNELS, MetricsData
from router.hub.state import RouterState
from router.letters import Emit, Message
from router.protocol import encode, field_error

Number = int | float

#: The field of the measurement that only the host program can know.
_HOSTS_OWN = "total_tokens"
_MEASURED = frozenset(MetricsData.__struct_fields__) - {_HOSTS_OWN}
#: What keeps a measurement far below the size that an event may have.
MAX_NUMBERS = 100
MAX_NAME_CHARACTERS = 64


class HostNumbers:
    """What the host program adds to each measurement. The mutable state is one table, replaced as a whole."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._given: Mapping[str, Number] = {}

    def give(self, numbers: Mapping[str, Number | None]) -> None:
        """Set numbers by name, None removing one; those that are not named stay. Any thread may call it.

        Raises:
            TypeError: A value is not a number.
            ValueError: A name is one that the router itself measures, or too long; a value is not finite or, as
                `total_tokens`, out of range; or there are too many. Then nothing has changed.
        """
        judged = {name: _judged(name, value) for name, value in numbers.items()}
        with self._lock:
            given = {name: value for name, value in {**self._given, **judged}.items() if value is not None}
            if len(given) > MAX_NUMBERS:
                raise ValueError(
                    f"{len(given)} metrics of the host program: at most {MAX_NUMBERS} are allowed; None removes one"
                )
            self._given = given

    @property
    def given(self) -> Mapping[str, Number]:
        """All that there are now."""
        return self._given


def _judged(name: str, value: Number | None) -> Number | None:
    if name in _MEASURED:
        raise ValueError(f"{name} is measured by the router itself; choose another name")
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS:
        raise ValueError(f"{name[:MAX_NAME_CHARACTERS]!r}: a name has 1 to {MAX_NAME_CHARACTERS} characters")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number (got {value!r}); None removes it")
    if not abs(value) <= sys.float_info.max:
        raise ValueError(f"{name} must be finite, and no larger than a float can be; None removes it")
    number = int(value) if isinstance(value, int) else float(value)  # numbers of other libraries are subclasses
    try:
        CHANNELS["metrics"].check(encode({name: number}))
    except msgspec.ValidationError as error:
        raise ValueError(f"{field_error(error)} (got {value!r})") from None
    return number


class MetricsFeed:
    """The actor that measures. The mutable state is the sums at its last look, for rates."""

    def __init__(self, state: RouterState, router: ActorRef[Message], numbers: HostNumbers | None = None) -> None:
        self._state = state
        self._router = router
        self._numbers = numbers or HostNumbers()
        self._process = psutil.Process()
        self._looked_at = 0.0
        self._events = 0
        self._deliveries = 0

    async def run(self, mailbox: Mailbox[None], *, task_status: trio.TaskStatus[None]) -> None:
        """Measure at each interval, until the mailbox ends."""
        self._measure()
        psutil.cpu_percent()
        task_status.started()
        while True:
            with trio.move_on_after(self._state.config.metrics_interval_s):
                async for _ in mailbox:
                    pass
                return
            await self._router.send(Emit("metrics", "system_metrics", encode(self._measure())))

    def _measure(self) -> dict[str, object]:
        state, counters = self._state, self._state.counters
        now = trio.current_time()
        elapsed_s = max(now - self._looked_at, 1e-6)
        buffered = state.buffered_events()
        deliveries = max(0, counters.matched - buffered - state.dropped_events())
        events_per_s = (counters.events - self._events) / elapsed_s
        deliveries_per_s = max(0, deliveries - self._deliveries) / elapsed_s
        self._looked_at, self._events, self._deliveries = now, counters.events, deliveries
        with self._process.oneshot():
            return {
                "cpu_percent": self._process.cpu_percent(),
                "host_cpu_percent": psutil.cpu_percent(),
                "memory_mb": round(self._process.memory_info().rss / 1e6, 1),
                "events_per_sec": round(events_per_s, 1),
                "deliveries_per_sec": round(deliveries_per_s, 1),
                "total_connections": state.sessions.connected,
                "total_channels": len(state.streams),
                "total_subscriptions": state.subscriptions.total,
                "buffered_events": buffered,
                _HOSTS_OWN: None,
                **self._numbers.given,
            }
