"""End to end: the network stalls between the client and the real server, and comes back."""

from __future__ import annotations

from typing import Any

import pytest

from neurograph_ws_client import NeurographWSClient, State, liveness
from ws_peer import Collected, Run, both_loops, on_trio
from ws_router import router
from ws_stall import network


@both_loops
def test_a_stalled_network_is_noticed_and_nothing_is_lost_unannounced(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "GRACE_S", 1.0)

    async def scenario() -> None:
        got, gaps, lost, waits, back = Collected(), Collected(), Collected(), Collected(), Collected()
        client = NeurographWSClient(between.url, connect_timeout=1.0)
        client.on("gap", gaps)
        client.on("disconnected", lost)
        client.on("reconnecting", waits)
        client.on("connected", back)
        async with client, NeurographWSClient(one.url) as publisher:
            client.subscribe("signals", got)
            await client.ping()
            await publisher.publish_batch("signals", [{"event_type": "signal.before"}] * 100)
            await got.until(100)

            between.stall()
            mine = client.publish("signals", "signal.mine")  # the network keeps it, and the client too
            await publisher.publish_batch("signals", [{"event_type": "signal.during"}] * 500)
            assert "silent for 1.5 s" in (await lost.until(1))[0]["reason"]
            await waits.until(2)  # an attempt has failed meanwhile
            assert not client.is_connected()

            between.pass_on()
            await back.until(2)
            published = await mine
            last = await publisher.publish("signals", "signal.after")
            while last.last not in got.seqs:
                await got.until(len(got.items) + 1)
        missing = [seq for gap in gaps.items for seq in range(gap["from"], gap["to"] + 1)]
        assert sorted(got.seqs + missing) == list(range(1, last.last + 1))
        assert got.seqs == sorted(got.seqs)
        assert [seq_of(item) for item in got.items if item["event_type"] == "signal.mine"] == [published.first]

    with router(heartbeat_s=0.5) as one, network(one.port) as between:
        run(scenario)


def seq_of(event: dict[str, Any]) -> int:
    return int(event["seq"])


def test_disconnecting_from_a_stalled_server_that_nothing_reads_has_a_time_limit() -> None:
    async def scenario() -> None:
        client = NeurographWSClient(between.url, close_timeout=0.1)
        await client.connect()
        between.stall()
        await client.disconnect()
        assert client.state is State.CLOSED

    with router() as one, network(one.port) as between:
        on_trio(scenario)
