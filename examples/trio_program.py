"""A router in a Trio program's own nursery: it comes before the work that it tells of, and goes after it.

python examples/trio_program.py
"""

import signal

import trio

from router.embed import Router
from router.integrations import broadcast_action_event, broadcast_status
from router.loading import load


async def work() -> None:
    """Do something again and again, and tell of it."""
    for number in range(1_000_000):
        began = trio.current_time()
        await trio.sleep(0.5)
        spent_ms = (trio.current_time() - began) * 1000
        broadcast_action_event(action_id=str(number), action_type="nap", status="done", execution_time_ms=spent_ms)


async def until_told_to_stop(scope: trio.CancelScope) -> None:
    """End the work at Ctrl-C or SIGTERM."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def main() -> None:
    """Serve for as long as there is work."""
    async with Router(load().config) as router:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_told_to_stop, nursery.cancel_scope)
            nursery.start_soon(work)
            print(f"listening at {router.url}, Ctrl-C stops", flush=True)
        broadcast_status("stopped")  # the last that clients hear before their goodbye


if __name__ == "__main__":
    trio.run(main)
