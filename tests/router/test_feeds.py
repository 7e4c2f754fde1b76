"""The feeds: what the server itself has to say."""

import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import psutil
import pytest
import trio
from trio.testing import MockClock

from actors import ChildSpec
from router import __version__
from router.config import Config
from router.events import CHANNELS
from router.feeds.logs import MAX_MESSAGE_CHARACTERS, LogFeed, LogHandler
from router.feeds.metrics import HostNumbers, MetricsFeed
from router.feeds.status import StatusFeed
from tests.router.harness import Json, World, running


def metrics(world: World) -> list[ChildSpec]:
    return [ChildSpec("metrics", lambda: MetricsFeed(world.state, world.router))]


# Metrics


async def test_metrics_come_every_five_seconds_and_fit_their_schema(autojump_clock: MockClock) -> None:
    async with running(feeds=metrics) as world:
        client = await world.subscriber("metrics", "signals", "logs")
        event: Json = {}
        for turn in range(1, 4):
            event = await client.expect(None, channel="metrics", event_type="system_metrics", seq=turn)
            assert trio.current_time() == 5 * turn
            CHANNELS["metrics"].check(msgspec.Raw(msgspec.json.encode(event["data"])))
        data = event["data"]
        assert data["total_connections"] == 1
        assert data["total_channels"] == 6
        assert data["total_subscriptions"] == 3
        assert data["buffered_events"] == 0
        assert data["total_tokens"] is None
        assert abs(data["memory_mb"] - psutil.Process().memory_info().rss / 1e6) < 200
        assert 0 <= data["host_cpu_percent"] <= 100


async def test_rates_are_of_the_last_interval_and_deliveries_are_what_went_out(autojump_clock: MockClock) -> None:
    async with running(Config(metrics_interval_s=10, outbox_events=20), feeds=metrics) as world:
        watcher = await world.subscriber("metrics")
        reader, stuck = [await world.subscriber("signals") for _ in range(2)]
        await watcher.expect(None)
        for number in range(40):
            if number == 10:
                stuck.stall()
            reader.publish()
            await world.settle()
        data = (await watcher.expect(None))["data"]
        assert data["events_per_sec"] == 4.1, "the last measurement was an event, too"
        # All forty to the reader; ten to the other, and one that its lane holds; one measurement.
        assert data["deliveries_per_sec"] == pytest.approx((40 + 10 + 1 + 1) / 10)
        assert data["buffered_events"] == 20
        data = (await watcher.expect(None))["data"]
        assert (data["events_per_sec"], data["deliveries_per_sec"]) == (0.1, 0.1)
        reader.send("unsubscribe", channels=["signals"])
        stuck.send("unsubscribe", channels=["signals"])
        data = (await watcher.expect(None))["data"]
        assert data["deliveries_per_sec"] == 0.1, "what was forgotten was not delivered"
        assert data["buffered_events"] == 0


async def test_events_given_back_by_a_connection_do_not_make_the_rate_negative(autojump_clock: MockClock) -> None:
    async with running(feeds=metrics) as world:
        watcher = await world.subscriber("metrics")
        client = await world.subscriber("signals")
        client.stall()
        client.send("publish", channel="signals", events=[{"event_type": "x"}] * 5)
        await watcher.expect(None)
        client.vanish()
        data = (await watcher.expect(None))["data"]
        assert data["deliveries_per_sec"] == 0
        assert data["buffered_events"] == 5


async def test_a_measurement_that_the_router_had_no_room_for_is_not_followed_by_another_at_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rates would be of no time at all."""
    async with running(Config(router_mailbox=1), feeds=metrics) as world:
        gate = await world.hold(monkeypatch)
        await trio.sleep(27)
        gate.set()
        await world.settle()
        assert world.state.streams["metrics"].seq == 2
        await trio.sleep(4.9)
        assert world.state.streams["metrics"].seq == 2
        await trio.sleep(0.2)
        assert world.state.streams["metrics"].seq == 3


async def test_what_the_host_gives_is_in_each_measurement_until_it_is_removed(autojump_clock: MockClock) -> None:
    numbers = HostNumbers()

    def feeds(world: World) -> list[ChildSpec]:
        return [ChildSpec("metrics", lambda: MetricsFeed(world.state, world.router, numbers))]

    async with running(feeds=feeds) as world:
        client = await world.subscriber("metrics")
        numbers.give({"total_tokens": 50_000, "queue_depth": 1.5})
        for _ in range(2):
            data = (await client.expect(None))["data"]
            assert (data["total_tokens"], data["queue_depth"]) == (50_000, 1.5)
            assert data["total_subscriptions"] == 1
        numbers.give({"total_tokens": None, "never_given": None})
        data = (await client.expect(None))["data"]
        assert (data["total_tokens"], data["queue_depth"]) == (None, 1.5)
        numbers.give({"queue_depth": None})
        assert "queue_depth" not in (await client.expect(None))["data"]


class Celsius(float):
    """A number of another library's kind."""


@pytest.mark.parametrize(("given", "found"), [(1, 1), (-1.5, -1.5), (Celsius(2.5), 2.5), (2**70, 2**70)])
def test_any_finite_number_may_be_given(given: float, found: float) -> None:
    numbers = HostNumbers()
    numbers.give({"x": given, "total_tokens": 0})
    assert numbers.given == {"x": found, "total_tokens": 0}
    assert type(numbers.given["x"]) in (int, float)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"cpu_percent": 1}, ValueError, "cpu_percent is measured by the router itself; choose another name"),
        ({"cpu_percent": None}, ValueError, "cpu_percent is measured by the router itself"),
        ({"buffered_events": 1}, ValueError, "buffered_events is measured by the router itself"),
        ({"x": True}, TypeError, r"x must be a number \(got True\); None removes it"),
        ({"x": "1"}, TypeError, r"x must be a number \(got '1'\)"),
        ({"x": float("nan")}, ValueError, "x must be finite, and no larger"),
        ({"x": float("-inf")}, ValueError, "x must be finite"),
        ({"x": 10**5000}, ValueError, "x must be finite"),
        ({"total_tokens": -1}, ValueError, r"total_tokens: expected `int` >= 0 \(got -1\)"),
        ({"total_tokens": 1.5}, ValueError, r"total_tokens: expected `int \| null`, got `float` \(got 1.5\)"),
        ({"": 1}, ValueError, "'': a name has 1 to 64 characters"),
        ({"x" * 65: 1}, ValueError, "a name has 1 to 64 characters"),
        ({f"x{n}": n for n in range(101)}, ValueError, "102 metrics of the host program: at most 100 are allowed"),
    ],
)
def test_numbers_that_cannot_be_used_change_nothing(given: dict[str, Any], kind: type[Exception], message: str) -> None:
    numbers = HostNumbers()
    numbers.give({"kept": 1})
    with pytest.raises(kind, match=message):
        numbers.give({"first": 1, **given} if len(given) == 1 else given)
    assert numbers.given == {"kept": 1}


async def test_feeds_end_with_their_mailbox_at_once(autojump_clock: MockClock) -> None:
    handler = LogHandler()

    def feeds(world: World) -> list[ChildSpec]:
        return [*metrics(world), ChildSpec("logs", lambda: LogFeed(handler, world.router))]

    async with running(feeds=feeds) as world:
        for name in ("metrics", "logs"):
            world.services.ref(name).tell(None)
        await trio.sleep(7)
        world.services.stop()
        await world.settle()
        assert trio.current_time() == 7
        assert all(node.state == "ended" for node in world.services.tree())


# Status


async def test_a_status_tells_what_and_since_when(autojump_clock: MockClock) -> None:
    status = StatusFeed()
    await trio.sleep(12.3456)
    async with running() as world:
        client = await world.subscriber("status")
        world.router.tell(status.event("draining"))
        event = await client.expect(None, event_type="status.draining")
        assert event["data"] == {"status": "draining", "uptime_seconds": 12.346, "version": __version__}


# Logs


@pytest.fixture
def handler() -> Iterator[LogHandler]:
    """A handler of the program's records, as the command line installs it."""
    handler = LogHandler(capacity=50)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def record(name: str = "app", level: int = logging.INFO, text: Any = "hello", *arguments: object) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, text, arguments, None)


def logged(handler: LogHandler) -> list[Json]:
    return [dict(data) for data in handler.take()]


async def test_a_log_record_becomes_an_event(handler: LogHandler, autojump_clock: MockClock) -> None:
    def feed(world: World) -> list[ChildSpec]:
        return [ChildSpec("logs", lambda: LogFeed(handler, world.router))]

    logging.getLogger("early").info("before anybody listens")
    async with running(feeds=feed) as world:
        await world.settle()
        client = await world.subscriber("logs")
        logging.getLogger("app.part").warning("%d left", 3, extra={"correlation_id": "c-1"})
        logging.getLogger("app").error("done")
        first = await client.expect(None, event_type="log.warning", channel="logs")
        assert first["data"] == {
            "level": "warning", "message": "3 left", "service": "app.part", "correlation_id": "c-1",
        }  # fmt: skip
        second = await client.expect(None, event_type="log.error")
        assert second["data"]["correlation_id"] is None
        await world.settle()
        assert client.take() == []
        assert world.state.streams["logs"].seq >= 3, "what was logged early is fed, too"


async def test_records_of_other_threads_are_fed(handler: LogHandler, autojump_clock: MockClock) -> None:
    def feed(world: World) -> list[ChildSpec]:
        return [ChildSpec("logs", lambda: LogFeed(handler, world.router))]

    async with running(feeds=feed) as world:
        client = await world.subscriber("logs")

        def log() -> None:
            for number in range(20):
                logging.getLogger("app").info("%d", number)

        thread = threading.Thread(target=log)
        thread.start()
        thread.join()
        messages = [(await client.expect(None))["data"]["message"] for _ in range(20)]
        assert messages == [str(n) for n in range(20)]


async def test_the_feed_goes_on_after_a_crash_of_its_own(
    handler: LogHandler, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = LogHandler.take

    def fail_once(self: LogHandler) -> Any:
        monkeypatch.setattr(LogHandler, "take", take)
        raise RuntimeError("poisoned")

    def feed(world: World) -> list[ChildSpec]:
        return [ChildSpec("logs", lambda: LogFeed(handler, world.router))]

    async with running(feeds=feed) as world:
        client = await world.subscriber("logs")
        monkeypatch.setattr(LogHandler, "take", fail_once)
        logging.getLogger("app").info("poison")
        await trio.sleep(1)
        logging.getLogger("app").info("after")
        texts = [(await client.expect(None))["data"]["message"] for _ in range(2)]
        assert texts == ["poison", "after"]


async def test_logging_about_logging_comes_to_an_end(handler: LogHandler, autojump_clock: MockClock) -> None:
    """A router that fails on every record, and logs each failure, gets no more of them to fail on."""

    def feed(world: World) -> list[ChildSpec]:
        return [ChildSpec("logs", lambda: LogFeed(handler, world.router))]

    async with running(feeds=feed) as world:
        await world.settle()
        handler.take()
        before = world.state.streams["logs"].seq
        await world.crash()
        assert world.state.streams["logs"].seq == before


@pytest.mark.parametrize("name", ["actors", "actors.child", "router.hub", "router.feeds.logs", "router.feeds.host"])
def test_what_publishes_records_is_not_fed(name: str) -> None:
    handler = LogHandler()
    handler.handle(record(name))
    assert logged(handler) == []


@pytest.mark.parametrize("name", ["actorsandmovies", "router.hubris", "router", "router.server", "app.actors"])
def test_what_merely_sounds_alike_is_fed(name: str) -> None:
    handler = LogHandler()
    handler.handle(record(name))
    assert [data["service"] for data in logged(handler)] == [name]


def test_tokens_are_redacted_without_a_formatter_s_help() -> None:
    handler = LogHandler()
    handler.handle(record("app", logging.INFO, "GET /ws?token=%s", "secret"))
    try:
        raise ValueError("Bearer abcdefgh12345")
    except ValueError:
        odd = record()
        odd.exc_info = sys.exc_info()
        handler.handle(odd)
    first, second = [data["message"] for data in logged(handler)]
    assert first == "GET /ws?token=[redacted]"
    assert "Traceback" in second
    assert "abcdefgh" not in second


@pytest.mark.parametrize(
    ("number", "level"),
    [
        (5, "debug"),
        (10, "debug"),
        (20, "info"),
        (25, "info"),
        (30, "warning"),
        (40, "error"),
        (50, "critical"),
        (99, "critical"),
    ],
)
def test_every_level_is_one_of_five(number: int, level: str) -> None:
    handler = LogHandler(level=0)
    handler.handle(record(level=number))
    assert logged(handler)[0]["level"] == level


def test_the_oldest_records_go_first_where_there_are_too_many() -> None:
    handler = LogHandler(capacity=3)
    for number in range(5):
        handler.handle(record(text=str(number)))
    assert [data["message"] for data in logged(handler)] == ["2", "3", "4"]
    assert logged(handler) == []


def test_a_record_that_cannot_be_formatted_does_not_fail_whoever_logs(capsys: pytest.CaptureFixture[str]) -> None:
    handler = LogHandler()
    handler.handle(record("app", logging.INFO, "%d", "no number"))
    assert logged(handler) == []
    assert "Logging error" in capsys.readouterr().err


def test_whatever_stands_in_a_record_can_be_sent() -> None:
    handler = LogHandler()
    odd = record("app\udc80", logging.INFO, "a\udcff" + "x" * 100_000)
    odd.correlation_id = 17
    handler.handle(odd)
    (data,) = logged(handler)
    assert len(msgspec.json.encode(data)) < Config().max_event_bytes
    assert data["message"] == ("a?" + "x" * 100_000)[:MAX_MESSAGE_CHARACTERS] + "…"
    assert data["service"] == "app?"
    assert data["correlation_id"] == "17"
    CHANNELS["logs"].check(msgspec.Raw(msgspec.json.encode(data)))


def test_records_after_the_end_of_the_loop_harm_nobody() -> None:
    handler = LogHandler()

    async def main() -> None:
        handler.listen()
        await trio.lowlevel.checkpoint()

    trio.run(main)
    handler.handle(record())
    handler.handle(record())
    assert len(logged(handler)) == 2
