"""Handing events out: others get their turn."""

from __future__ import annotations

import time
from typing import Any

from neurograph_ws_client.backend import current
from neurograph_ws_client.dispatching import NAMES, Dispatcher
from ws_line import Line, event
from ws_peer import Run, both_loops


@both_loops
def test_handlers_that_never_wait_let_others_run(run: Run) -> None:
    async def scenario() -> None:
        line = Line()
        handled: list[int] = []
        seen: list[int] = []

        def handler(item: Any) -> None:
            time.sleep(0.001)
            handled.append(item["seq"])

        line.open(epoch="e1")
        line.subscribe("signals", handler)
        line.granted("signals")
        line.say(*(event("signals", seq) for seq in range(1, 101)))
        dispatcher = Dispatcher(line.core, dict.fromkeys(NAMES, ()), current(), lambda: None)
        dispatcher.finish()

        async def other() -> None:
            while len(handled) < 100:
                seen.append(len(handled))
                await current().breathe()

        await current().together(dispatcher.handle, other)
        assert len(handled) == 100
        assert any(0 < count < 100 for count in seen)

    run(scenario)
