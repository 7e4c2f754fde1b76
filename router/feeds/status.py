"""The status feed: `status.running` once all is up, `status.draining` when the server is told to stop."""

from __future__ import annotations

import trio

from router import __version__
from router.letters import Emit
from router.protocol import encode


class StatusFeed:
    """Makes the events. It has no task: the server tells its own steps."""

    def __init__(self) -> None:
        self._started_at = trio.current_time()

    def event(self, status: str) -> Emit:
        """The event of a step, for example `running`."""
        uptime_s = round(trio.current_time() - self._started_at, 3)
        data = {"status": status, "uptime_seconds": uptime_s, "version": __version__}
        return Emit("status", f"status.{status}", encode(data))
