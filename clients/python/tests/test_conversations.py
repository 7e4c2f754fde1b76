"""The contract's dialogues, held with the real server on a connection of the client, which reads all that is said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from neurograph_ws_client import NeurographWSClient, ProtocolError, State
from ws_line import fixture
from ws_peer import Collected, Run, both_loops
from ws_router import Router, router
from ws_talk import Talk, overhear

CONVERSATIONS: Final = fixture("conversations.json")


@pytest.fixture(scope="module")
def server() -> Iterator[Router]:
    with router(metrics_interval_s=0.2) as one:
        yield one


@both_loops
@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=[each["name"] for each in CONVERSATIONS])
def test_conversation(run: Run, conversation: Any, server: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        heard, errors = overhear(monkeypatch), Collected()
        async with NeurographWSClient(server.url) as client:
            client.on("error", errors)
            talk = Talk(client, heard)
            for step in conversation["steps"]:
                for _ in range(step.get("times", 1)):
                    await talk.step(step)
            ends = any("expect_close" in step for step in conversation["steps"])
            assert client.state is (State.CLOSED if ends else State.OPEN)
        assert [error for error in errors.items if isinstance(error, ProtocolError)] == []

    run(scenario)
