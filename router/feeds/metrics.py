"""The metrics feed: how this machine and this process are doing, every few seconds."""

from __future__ import annotations

import psutil
import trio

from actors import ActorRef, Mailbox
from router.letters import Emit, Message
from router.protocol import encode
from router.state import RouterState


class MetricsFeed:
    """The actor that measures. The mutable state is the sums at its last look, for rates."""

    def __init__(self, state: RouterState, router: ActorRef[Message]) -> None:
        self._state = state
        self._router = router
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
                "total_tokens": None,
            }
