"""A program with a router in it, and a thread that broadcasts as fast as it can: `host_program.py CALL EVENTS`.

It says `listening PORT`, waits for a line, broadcasts, says what that took as JSON, and stays until another line comes.
"""

import sys
import threading
import time
from collections.abc import Callable

import msgspec

from router.config import Config
from router.embed import Router
from router.integrations import broadcast, broadcast_signal_event

#: What a thread that was refused waits before it tries again.
_PAUSE_S = 0.001
_PAD = "x" * 30

Call = Callable[[str], bool]


class Broadcast(msgspec.Struct, frozen=True):
    """What it took.

    Attributes:
        seconds: From the first call to the return of the last.
        refused: Calls that returned False, and were made again after a pause.
    """

    seconds: float
    refused: int


def any_event(event_id: str) -> bool:
    """An event by the general function, about as long as those of the load generator."""
    data = {"event_id": event_id, "is_novel": True, "priority": 200, "neighbors_count": 12, "pad": _PAD}
    return broadcast("signals", "signal.input.text", data)


def signal_event(event_id: str) -> bool:
    """The same by the function for signals."""
    return broadcast_signal_event(
        "signal.input.text", event_id=event_id, is_novel=True, priority=200, neighbors_count=12
    )


CALLS: dict[str, Call] = {"broadcast": any_event, "broadcast_signal_event": signal_event}


def produce(call: Call, events: int) -> Broadcast:
    """Broadcast so many events, each until it is taken."""
    refused = 0
    began = time.perf_counter()
    for number in range(events):
        event_id = f"evt-{number:010}"
        while not call(event_id):
            refused += 1
            time.sleep(_PAUSE_S)
    return Broadcast(time.perf_counter() - began, refused)


def main(call: Call, events: int) -> None:
    """Run the router in its thread and the producer in another one."""
    with Router(Config(port=0)) as router:
        print(f"listening {router.addresses[0][1]}", flush=True)
        sys.stdin.readline()
        results: list[Broadcast] = []
        thread = threading.Thread(target=lambda: results.append(produce(call, events)))
        thread.start()
        thread.join()
        print(msgspec.json.encode(results[0]).decode(), flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main(CALLS[sys.argv[1]], int(sys.argv[2]))
