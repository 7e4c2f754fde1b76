"""End to end: the client and the real server."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from neurograph_ws_client import (
    Channel,
    ClosedError,
    NeurographWSClient,
    PublishUncertainError,
    RequestRefusedError,
    SubscriptionDeniedError,
)
from ws_log import as_in_a_program
from ws_peer import Collected, Run, both_loops
from ws_router import Router, router

pytestmark = both_loops

ROOT = Path(__file__).parents[3]
KEY = "0123456789abcdef0123456789abcdef"


def token(**claims: Any) -> str:
    return jwt.encode({"sub": "alice", "role": "admin", **claims}, KEY, "HS256")


def test_ten_thousand_events_in_order(run: Run) -> None:
    async def scenario() -> None:
        got = Collected()
        async with NeurographWSClient(one.url) as subscriber, NeurographWSClient(one.url) as publisher:
            subscriber.subscribe(Channel.SIGNALS, got)
            await subscriber.ping()  # replies come in the order of the requests, so it is subscribed
            for first in range(0, 10_000, 500):
                events = [{"event_type": "signal.a", "data": {"n": first + n}} for n in range(500)]
                published = await publisher.publish_batch("signals", events)
                assert published.subscribers == 1
            await got.until(10_000)
        assert [item["data"]["n"] for item in got.items] == list(range(10_000))
        assert got.seqs == list(range(1, 10_001))

    with router() as one:
        run(scenario)


def test_killed_and_restarted_under_load(run: Run) -> None:
    """Nothing that was published for certain is missing unannounced, and nothing comes twice."""
    routers: list[Router] = []

    async def scenario() -> None:
        got, gaps, back = Collected(), Collected(), Collected()
        async with NeurographWSClient(routers[0].url) as client:
            client.on("gap", gaps)
            client.on("connected", back)
            client.subscribe("signals", got)
            certain, uncertain = [], 0
            for number in range(1_200):
                if number == 600:
                    routers[0].end(signal.SIGKILL)
                    routers.append(Router(routers[0].port))
                one = client.publish("signals", "signal.a", {"n": number})
                if number % 100 == 99:
                    try:
                        await one
                        certain.append(number)
                    except PublishUncertainError:
                        uncertain += 1
            await back.until(2)
            last = await client.publish("signals", "signal.a", {"n": -1})
            while not got.items or got.items[-1]["data"]["n"] != -1:
                await got.until(len(got.items) + 1)
            assert last.last == got.seqs[-1]
        assert [gap["reason"] for gap in gaps.items] == ["epoch_changed"]
        numbers = [item["data"]["n"] for item in got.items]
        assert len(set(numbers)) == len(numbers)
        assert set(certain) <= set(numbers)
        assert numbers[:-1] == sorted(numbers[:-1])
        restart = next(at for at in range(1, len(numbers)) if got.seqs[at] < got.seqs[at - 1])
        assert got.seqs[:restart] == list(range(1, restart + 1))
        assert got.seqs[restart:] == list(range(1, len(numbers) - restart + 1))

    with router() as first:
        routers.append(first)
        try:
            run(scenario)
        finally:
            for one in routers[1:]:
                one.end(signal.SIGTERM)


def test_signing_in_and_what_a_role_may(run: Run) -> None:
    async def scenario() -> None:
        errors, got = Collected(), Collected()
        async with NeurographWSClient(one.url, token(role="viewer")) as client:
            client.on("error", errors)
            assert client.get_connection_info()["user_id"] == "alice"
            client.subscribe_multiple(["logs", "metrics"], got)
            (denied,) = await errors.until(1)
            assert isinstance(denied, SubscriptionDeniedError)
            assert (denied.channel, denied.code) == ("logs", "permission_denied")
            with pytest.raises(RequestRefusedError, match="permission_denied"):
                await client.publish("logs", "log.info", {"message": "hello"})
            assert (await client.authenticate(token())).role == "admin"
            assert await client.fetch_subscriptions() == ["logs", "metrics"]
            await client.publish("logs", "log.info", {"message": "hello"})
            while "log.info" not in [item["event_type"] for item in got.items]:
                await got.until(len(got.items) + 1)

    with router(jwt_keys=KEY) as one:
        run(scenario)


def test_a_token_is_renewed_before_it_ends(run: Run) -> None:
    async def scenario() -> None:
        asked: list[float] = []

        def fresh() -> str:
            asked.append(time.time())
            return token(exp=time.time() + 4)

        expiring = Collected()
        async with NeurographWSClient(one.url, fresh) as client:
            client.on("token_expiring", expiring)
            await expiring.until(2)  # the second is of the second token
            assert client.get_connection_info()["reconnects"] == 0
        assert len(asked) >= 2

    with router(jwt_keys=KEY) as one:
        run(scenario)


def test_a_token_that_ends_is_final_without_a_function(run: Run) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(one.url, token(exp=time.time() + 3))
        await client.connect()
        with pytest.raises(ClosedError) as caught:
            await client.run_forever()
        assert caught.value.code == 4002

    with router(jwt_keys=KEY) as one:
        run(scenario)


@pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "clients" / "python" / "README.md"], ids=str)
def test_the_first_screen_prints_its_signal_on_a_channel_with_a_past(
    run: Run, document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, text = document.read_text(encoding="utf-8").partition("```python\n")
    program, _, _ = text.partition("asyncio.run(main())")
    names: dict[str, Any] = {}

    async def scenario() -> None:
        async with NeurographWSClient(one.url) as client:
            await client.publish_batch("signals", [{"event_type": "signal.old", "data": {"priority": 1}}] * 3)
        exec(program.replace("ws://127.0.0.1:8000", one.url), names)
        await names["main"]()

    with router() as one:
        run(scenario)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("4 ")
    assert "{'priority': 200}" in line


def test_the_past_and_where_it_ends(run: Run) -> None:
    async def scenario() -> None:
        async with NeurographWSClient(one.url) as client:
            await client.publish_batch(
                "signals", [{"event_type": "signal.a", "data": {"priority": n}} for n in range(20)]
            )
            page = await client.history("signals", last=20, limit=15)
            assert page.more
            rest = await client.history("signals", after={"epoch": page.epoch, "seq": page.events[-1]["seq"]})
            assert [item["seq"] for item in page.events + rest.events] == list(range(1, 21))
            with pytest.raises(RequestRefusedError, match="history_unavailable") as caught:
                await client.history("signals", after={"epoch": "of old", "seq": 3})
            assert caught.value.epoch == page.epoch
            wanted = {"data.priority": {"$gte": 15}}
            seqs = []
            async for item in client.events("signals", filter=wanted, recover={"epoch": page.epoch, "seq": 10}):
                seqs.append(item["seq"])
                if len(seqs) == 5:
                    break
            assert seqs == [16, 17, 18, 19, 20]

    with router() as one:
        run(scenario)


def test_a_planned_restart_is_announced_and_used(run: Run) -> None:
    routers: list[Router] = []

    async def scenario() -> None:
        goodbye, back, delays = Collected(), Collected(), Collected()
        async with NeurographWSClient(routers[0].url) as client:
            client.on("goodbye", goodbye)
            client.on("reconnecting", delays)
            client.on("connected", back)
            await back.until(1)
            routers[0].end(signal.SIGTERM)
            routers.append(Router(routers[0].port))
            await back.until(2)
        announced = goodbye.items[0]["reconnect_after_ms"] / 1000
        assert delays.items[0]["delay"] == announced

    with router() as first:
        routers.append(first)
        try:
            run(scenario)
        finally:
            for one in routers[1:]:
                one.end(signal.SIGTERM)


def test_nothing_secret_is_written(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    secret = token()

    async def scenario() -> None:
        async with NeurographWSClient(one.url, secret, debug=True) as client:
            await client.authenticate(secret)
            session = client._core.connected
            assert session is not None
            assert session.reconnection_token is not None
            secrets.append(session.reconnection_token)

    secrets = [secret]
    with router(jwt_keys=KEY) as one, as_in_a_program():
        run(scenario)
    written = capfd.readouterr().err
    assert "connected as" in written
    assert not any(one in written for one in secrets)
