"""A thread with a Trio of its own: it starts, ends in order or cancelled, and is given up whatever it is at."""

import threading
from collections.abc import Callable

import pytest
import trio

from router.errors import RouterError
from router.trio_thread import TrioThread

#: Passes only where something hangs.
DEADLINE_S = 30


class Work:
    """What runs in the thread."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._stop: trio.Event | None = None

    async def run(self, started: Callable[[], None]) -> None:
        self._stop = trio.Event()
        self.said.append("begun")
        started()
        try:
            await self._stop.wait()
            self.said.append("stopped")
        finally:
            self.said.append("ended")

    def stop(self) -> None:
        assert self._stop is not None
        self._stop.set()


def test_it_starts_and_ends_in_order() -> None:
    work = Work()
    thread = TrioThread("worker", work.run, work.stop, ending_s=DEADLINE_S)
    thread.start(DEADLINE_S)
    assert work.said == ["begun"]
    thread.end(DEADLINE_S)
    assert work.said == ["begun", "stopped", "ended"]
    thread.end(DEADLINE_S)


def test_what_does_not_stop_is_cancelled() -> None:
    work = Work()
    thread = TrioThread("worker", work.run, lambda: None, ending_s=DEADLINE_S)
    thread.start(DEADLINE_S)
    thread.end(0.01)
    assert work.said == ["begun", "ended"]


def test_what_ends_before_it_has_started_is_not_waited_for() -> None:
    async def run(started: Callable[[], None]) -> None:
        await trio.lowlevel.checkpoint()

    TrioThread("worker", run, lambda: None, ending_s=DEADLINE_S).start(DEADLINE_S)


def test_given_up_before_its_trio_runs_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is there and has not come to its Trio, so there is no way yet to cancel anything in it."""
    release, run = threading.Event(), trio.run

    def run_later(main: Callable[[], object]) -> None:
        release.wait(DEADLINE_S)
        run(main)  # type: ignore[arg-type]

    monkeypatch.setattr(trio, "run", run_later)
    work = Work()
    thread = TrioThread("worker", work.run, work.stop, ending_s=0.01)
    thread.start(0.01)
    with pytest.raises(RouterError, match="the thread worker does not end"):
        thread.end(0.01)
    release.set()
    thread._thread.join(DEADLINE_S)
    assert not thread._thread.is_alive()
    assert work.said == []
