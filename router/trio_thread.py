"""A thread that runs Trio, for programs that do not."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable

import trio

from router.errors import RouterError


class TrioThread:
    """Runs one async function; a daemon, which keeps no program alive.

    The mutable state is the way into its Trio, which the thread sets, and whether it was given up before that.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Callable[[], None]], Awaitable[None]],
        stop: Callable[[], None],
        *,
        ending_s: float,
    ) -> None:
        """Make it; nothing starts yet.

        Args:
            name: The thread's.
            run: What runs; it is given what it has to call once it has started.
            stop: Called within its Trio, tells it to end in order.
            ending_s: How long it may take to end where it is cancelled.
        """
        self._run = run
        self._stop = stop
        self._ending_s = ending_s
        self._scope = trio.CancelScope()
        self._settled = threading.Event()
        self._given_up = False
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self, within_s: float) -> None:
        """Start; returns once it has started, or has ended, or took longer. An interrupt ends it."""
        self._thread.start()
        try:
            self._settled.wait(within_s)
        except BaseException:
            self._give_up()
            raise

    def end(self, within_s: float) -> None:
        """End in order, and be cancelled where that takes longer. An interrupt cancels it at once.

        Raises:
            RouterError: It does not even end then.
        """
        self._call(self._stop)
        try:
            self._thread.join(within_s)
        finally:
            self._give_up()
        if self._thread.is_alive():
            raise RouterError(f"the thread {self._thread.name} does not end; it is left to itself")

    def _give_up(self) -> None:
        self._given_up = True
        self._call(self._scope.cancel)
        self._thread.join(self._ending_s)

    def _call(self, function: Callable[[], object]) -> None:
        if self._token is not None:
            try:
                self._token.run_sync_soon(function)
            except trio.RunFinishedError:
                pass

    def _main(self) -> None:
        async def main() -> None:
            self._token = trio.lowlevel.current_trio_token()
            with self._scope:
                if not self._given_up:
                    await self._run(self._settled.set)

        try:
            trio.run(main)
        finally:
            self._settled.set()
