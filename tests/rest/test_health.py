"""`/healthz` and `/readyz`."""

import pytest
import trio
from trio.testing import MockClock

from router.letters import Drain
from router.rest.health import READY_WITHIN_S
from tests.rest.calls import api


async def test_a_server_is_alive_and_ready(autojump_clock: MockClock) -> None:
    async with api() as rest:
        assert (await rest.call("/healthz")).ok() == {"status": "ok"}
        assert (await rest.call("/readyz")).ok() == {"status": "ready"}


async def test_while_it_goes_down_it_is_alive_but_not_ready(autojump_clock: MockClock) -> None:
    async with api() as rest:
        await rest.world.router.ask(Drain)
        assert "going down" in (await rest.call("/readyz")).problem(503, "engine_unavailable")
        assert (await rest.call("/healthz")).status == 200


async def test_with_a_router_that_does_not_answer_it_is_not_ready(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api() as rest:
        gate = await rest.world.hold(monkeypatch)
        begun = trio.current_time()
        answer = await rest.call("/readyz")
        assert trio.current_time() - begun == READY_WITHIN_S
        answer.problem(503, "engine_unavailable")
        assert answer.headers["retry-after"] == "1"
        assert (await rest.call("/healthz")).status == 200
        gate.set()
        assert (await rest.call("/readyz")).status == 200
