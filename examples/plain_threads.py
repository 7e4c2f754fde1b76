"""A router beside plain threads: each sensor reports from a thread of its own, and ends with the router.

python examples/plain_threads.py
"""

import itertools
import random
import threading
import time

from router.embed import Router
from router.integrations import RouterClosedError, broadcast_signal_event
from router.loading import load


def report(sensor: str) -> None:
    """Report for as long as somebody may listen."""
    for number in itertools.count():
        try:
            broadcast_signal_event(
                "signal.sensor.temperature",
                event_id=f"{sensor}-{number}",
                priority=100,
                sensor=sensor,
                celsius=round(random.gauss(21, 2), 1),
            )
        except RouterClosedError:
            return
        time.sleep(0.5)


def main() -> None:
    """Serve until Enter is pressed."""
    with Router(load().config) as router:
        for sensor in ("kitchen", "cellar", "roof"):
            threading.Thread(target=report, args=(sensor,)).start()
        input(f"listening at {router.url}, Enter stops\n")


if __name__ == "__main__":
    main()
