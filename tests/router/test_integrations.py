"""What a host calls: each event as it is asked for, and each mistake shown where it is made, by its name."""

import dataclasses
import datetime
import inspect
import json
import re
import subprocess
import sys
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
import trio

from router import integrations as api
from router.broadcaster import Broadcaster
from router.channels import Channels
from router.config import ChannelSettings, Config
from router.events import ActionData, ConnectionData, LogData, MetricsData, SignalData, StatusData
from router.feeds.host import HostQueue, RouterClosedError
from router.feeds.metrics import HostNumbers
from router.letters import SendTo
from router.schemas import Schema

Json = dict[str, Any]

CONFIG = Config(
    channels={"orders.*": ChannelSettings(), "tasks": ChannelSettings()},
    max_event_bytes=1000,
    host_queue_bytes=2000,
    host_queue_events=50,
)


class Host:
    """A broadcaster, and what it has put into its queue."""

    def __init__(self, config: Config = CONFIG) -> None:
        self.queue = HostQueue(config)
        self.numbers = HostNumbers()
        self.broadcaster = Broadcaster(config, self.queue, self.numbers)

    async def open(self, config: Config = CONFIG, schemas: Mapping[str, Schema] = MappingProxyType({})) -> None:
        self.queue.open(Channels(config.channels, schemas))
        await trio.lowlevel.checkpoint()

    def sent(self) -> tuple[str | None, str, Json]:
        """Channel, event type and data of the only event."""
        ((channel, event),) = [(run.channel, event) for run in self.queue._runs for event in run.events]
        return channel, event.event_type, json.loads(bytes(event.data))


@pytest.fixture
def host() -> Iterator[Host]:
    """The one router of the process, which takes events as if it ran."""
    host = Host()
    trio.run(host.open)
    api.enlist(host.broadcaster)
    try:
        yield host
    finally:
        api.dismiss(host.broadcaster)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"id": "1"}, "id: the value is not of type \"integer\" (got '1')"),
        ({}, "data.id is missing"),
        ({"id": msgspec.Raw(b"nope")}, "data: cannot be read (JSON is malformed: invalid character (byte 10))"),
        ({"id": msgspec.Raw(b"1e999")}, "data[...]: number out of range"),
    ],
)
async def test_data_must_fit_the_schema_of_their_channel(data: Json, said: str) -> None:
    config = Config(channels={"orders.*": ChannelSettings(schema_file="order.json")})
    schema = Schema('{"required": ["id"], "properties": {"id": {"type": "integer"}}}')
    host = Host(config)
    await host.open(config, {"orders.*": schema})
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        host.broadcaster.broadcast("orders.eu", "x", data)
    assert host.broadcaster.broadcast("orders.eu", "x", {"id": 1})
    assert host.sent() == ("orders.eu", "x", {"id": 1})


# What becomes of a call

CALLS: list[tuple[Callable[[], bool], str, str, Json]] = [
    (lambda: api.broadcast_signal_event(), "signals", "signal.event", {"event_type": "signal.event"}),
    (
        lambda: api.broadcast_signal_event(
            "signal.input.text", event_id="e-1", is_novel=True, priority=255, resonance_score=None, neighbors_count=0
        ),
        "signals",
        "signal.input.text",
        {
            "event_id": "e-1",
            "event_type": "signal.input.text",
            "is_novel": True,
            "priority": 255,
            "resonance_score": None,
            "neighbors_count": 0,
        },
    ),
    (lambda: api.broadcast_action_event(), "actions", "action.executed", {}),
    (
        lambda: api.broadcast_action_event(
            action_id="a-1", action_type="mail", status="done", result={"n": [1]}, execution_time_ms=1.5, error=None
        ),
        "actions",
        "action.executed",
        {
            "action_id": "a-1",
            "action_type": "mail",
            "status": "done",
            "result": {"n": [1]},
            "execution_time_ms": 1.5,
            "error": None,
        },
    ),
    (lambda: api.broadcast_action_event(error="no"), "actions", "action.failed", {"error": "no"}),
    (lambda: api.broadcast_action_event(status="failed"), "actions", "action.failed", {"status": "failed"}),
    (lambda: api.broadcast_action_event(status="error"), "actions", "action.failed", {"status": "error"}),
    (lambda: api.broadcast_action_event(error=""), "actions", "action.executed", {"error": ""}),
    (
        lambda: api.broadcast_action_event("action.begun", error="no"),
        "actions",
        "action.begun",
        {"error": "no"},
    ),
    (
        lambda: api.broadcast_metrics(
            cpu_percent=1,
            host_cpu_percent=2.5,
            memory_mb=3,
            events_per_sec=4,
            deliveries_per_sec=5,
            total_connections=6,
            total_channels=7,
            total_subscriptions=8,
            buffered_events=9,
            total_tokens=10,
            gpu_percent=11,
        ),
        "metrics",
        "system_metrics",
        {
            "cpu_percent": 1,
            "host_cpu_percent": 2.5,
            "memory_mb": 3,
            "events_per_sec": 4,
            "deliveries_per_sec": 5,
            "total_connections": 6,
            "total_channels": 7,
            "total_subscriptions": 8,
            "buffered_events": 9,
            "total_tokens": 10,
            "gpu_percent": 11,
        },
    ),
    (lambda: api.broadcast_metrics("gpu_metrics", t=1), "metrics", "gpu_metrics", {"t": 1}),
    (
        lambda: api.broadcast_log("warning", "low", service="disk", correlation_id="c"),
        "logs",
        "log.warning",
        {"level": "warning", "message": "low", "service": "disk", "correlation_id": "c"},
    ),
    (
        lambda: api.broadcast_log("info", "x", event_type="log.audit"),
        "logs",
        "log.audit",
        {"level": "info", "message": "x"},
    ),
    (
        lambda: api.broadcast_status("running", uptime_seconds=1.5, version="1.0"),
        "status",
        "status.running",
        {"status": "running", "uptime_seconds": 1.5, "version": "1.0"},
    ),
    (lambda: api.broadcast_status("busy", event_type="x"), "status", "x", {"status": "busy"}),
    (
        lambda: api.broadcast_connection_event(
            "client.connected",
            client_id="c",
            user_id=None,
            total_connections=1,
            channels=["a"],
            reason=None,
            code=1000,
        ),
        "connections",
        "client.connected",
        {"client_id": "c", "user_id": None, "total_connections": 1, "channels": ["a"], "reason": None, "code": 1000},
    ),
    (lambda: api.broadcast("tasks", "task.done"), "tasks", "task.done", {}),
    (lambda: api.broadcast("orders.eu", "x", {"a": 1}), "orders.eu", "x", {"a": 1}),
    (lambda: api.broadcast("signals", "x", {"priority": 1}), "signals", "x", {"priority": 1}),
    # More fields, whatever their names
    (
        lambda: api.broadcast_status("up", self=1, data=2),
        "status",
        "status.up",
        {"status": "up", "self": 1, "data": 2},
    ),
    (
        lambda: api.broadcast_signal_event(extra={"self": "x"}, name="n"),
        "signals",
        "signal.event",
        {"event_type": "signal.event", "extra": {"self": "x"}, "name": "n"},
    ),
]


@pytest.mark.parametrize(("call", "channel", "event_type", "data"), CALLS)
def test_an_event_is_as_it_was_asked_for(
    host: Host, call: Callable[[], bool], channel: str, event_type: str, data: Json
) -> None:
    assert call()
    assert host.sent() == (channel, event_type, data)


@pytest.mark.parametrize(
    ("call", "client_id", "user_id"),
    [
        (lambda: api.send_to_client("c-1", "hello", {"a": 1}), "c-1", None),
        (lambda: api.send_to_user("ada", "hello", {"a": 1}), None, "ada"),
        (lambda: api.broadcast_global("hello", {"a": 1}), None, None),
    ],
)
def test_an_event_is_for_whom_it_was_sent_to(
    host: Host, call: Callable[[], bool], client_id: str | None, user_id: str | None
) -> None:
    assert call()
    assert host.sent() == (None, "hello", {"a": 1})
    (run,) = host.queue._runs
    (message,) = run.events
    assert isinstance(message, SendTo)
    assert (message.client_id, message.user_id) == (client_id, user_id)


@pytest.mark.parametrize(
    ("method", "struct"),
    [
        (Broadcaster.broadcast_signal_event, SignalData),
        (Broadcaster.broadcast_action_event, ActionData),
        (Broadcaster.broadcast_metrics, MetricsData),
        (Broadcaster.broadcast_log, LogData),
        (Broadcaster.broadcast_status, StatusData),
        (Broadcaster.broadcast_connection_event, ConnectionData),
    ],
)
def test_the_arguments_are_the_fields_of_the_channel(method: Callable[..., bool], struct: type[msgspec.Struct]) -> None:
    names = set(inspect.signature(method).parameters) - {"self", "extra"}
    assert names | {"event_type"} == set(struct.__struct_fields__) | {"event_type"}


@pytest.mark.parametrize("name", [name for name in vars(Broadcaster) if name.startswith(("broadcast", "send", "give"))])
def test_every_method_is_a_function_with_the_same_signature_and_words(name: str) -> None:
    method, function = getattr(Broadcaster, name), getattr(api, name)
    expected = inspect.signature(method)
    first, *others = expected.parameters.values()
    assert first.name == "self"
    assert inspect.signature(function) == expected.replace(parameters=others)
    assert function.__doc__ == method.__doc__


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (datetime.datetime(2024, 12, 29, tzinfo=datetime.UTC), "2024-12-29T00:00:00Z"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Point(1), {"x": 1}),
        ((1, 2), [1, 2]),
        (StatusData("up"), {"status": "up"}),
        (msgspec.Raw(b'{"a": [1]}'), {"a": [1]}),
        (msgspec.Raw('"größer"'.encode()), "größer"),
        ("größer", "größer"),
        (2**70, 2**70),
    ],
)
def test_values_may_be_whatever_can_be_json(host: Host, value: object, found: object) -> None:
    assert api.broadcast("tasks", "x", {"value": value})
    assert host.sent()[2] == {"value": found}


@pytest.mark.parametrize("data", [{"a": 1}, MappingProxyType({"a": 1}), OrderedDict(a=1)])
def test_data_may_be_any_mapping(host: Host, data: Any) -> None:
    assert api.broadcast("tasks", "x", data)
    assert host.sent()[2] == {"a": 1}


def test_what_is_changed_afterwards_does_not_change_the_event(host: Host) -> None:
    data = {"a": [1]}
    api.broadcast("tasks", "x", data)
    data["a"].append(2)
    assert host.sent()[2] == {"a": [1]}


# Mistakes


class Mute:
    def __repr__(self) -> str:
        raise LookupError


class Unwilling:
    def __repr__(self) -> str:
        return "Unwilling()"


def nested(depth: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(depth - 1):
        data = {"a": data}
    return data


def circle() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


ODD: Any = 1

MISTAKES: list[tuple[Callable[[], object], type[Exception], str]] = [
    # The channel
    (
        lambda: api.broadcast("nope", "x"),
        ValueError,
        "channel 'nope': there is no such channel; give it in the",
    ),
    (lambda: api.broadcast("orders.*", "x"), ValueError, "channel 'orders.*': there is no such channel"),
    (lambda: api.broadcast(1, "x"), TypeError, "channel must be a string (got 1)"),  # type: ignore[arg-type]
    (lambda: api.broadcast([], "x"), TypeError, "channel must be a string (got [])"),  # type: ignore[arg-type]
    # Depth
    (lambda: api.broadcast("tasks", "x", nested(513)), ValueError, "data nests deeper than 512 lists and objects"),
    (lambda: api.send_to_user("u", "x", nested(513)), ValueError, "data nests deeper than 512 lists and objects"),
    (lambda: api.broadcast("tasks", "x", nested(2000)), ValueError, "a: maximum recursion depth exceeded"),
    # The event type
    (lambda: api.broadcast("tasks", "two words"), ValueError, "event_type must be 1 to 128 characters"),
    (lambda: api.broadcast("tasks", ""), ValueError, "event_type must be 1 to 128 characters"),
    (lambda: api.broadcast("tasks", 5), TypeError, "event_type must be a string (got 5)"),  # type: ignore[arg-type]
    (lambda: api.broadcast("tasks", ["x"]), TypeError, "event_type must be a string (got ['x'])"),  # type: ignore[arg-type]
    (lambda: api.broadcast_global("ä"), ValueError, "event_type must be 1 to 128 characters"),
    (lambda: api.broadcast_log("very low", "x"), ValueError, "(got 'log.very low')"),
    # Fields that do not fit
    (
        lambda: api.broadcast_signal_event(priority=300),
        ValueError,
        "priority: expected `int` <= 255 (got 300)",
    ),
    (
        lambda: api.broadcast_signal_event(priority="x"),  # type: ignore[arg-type]
        ValueError,
        "priority: expected `int`, got `str` (got 'x')",
    ),
    (
        lambda: api.broadcast_signal_event(resonance_score=2, extra=1),
        ValueError,
        "resonance_score: expected `float` <= 1.0 (got 2)",
    ),
    (
        lambda: api.broadcast_metrics(cpu_percent=float("nan")),
        ValueError,
        "cpu_percent: expected `float`, got `null` (got nan)",
    ),
    (
        lambda: api.broadcast_connection_event("x", channels=["a", 1]),  # type: ignore[list-item]
        ValueError,
        "channels[1]: expected `str`, got `int` (got ['a', 1])",
    ),
    (lambda: api.broadcast_log("info", 5), ValueError, "message: expected `str`, got `int` (got 5)"),  # type: ignore[arg-type]
    (
        lambda: api.broadcast("signals", "x", {"priority": -1}),
        ValueError,
        "priority: expected `int` >= 0 (got -1)",
    ),
    (
        lambda: api.broadcast("status", "x", {"status": msgspec.Raw(b"1")}),
        ValueError,
        "status: expected `str`, got `int`",
    ),
    # What is no JSON
    (
        lambda: api.broadcast("tasks", "x", {"a": 1, "b": Unwilling()}),
        TypeError,
        "b: Encoding objects of type",
    ),
    (lambda: api.broadcast("tasks", "x", {"a": {"b": Unwilling()}}), TypeError, "(got {'b': Unwilling()})"),
    (lambda: api.broadcast("tasks", "x", {"a": Mute()}), TypeError, "a: Encoding objects of type"),
    (lambda: api.broadcast("tasks", "x", {"a": Mute()}), TypeError, "(got <Mute>)"),
    (lambda: api.broadcast("tasks", "x", {(1, 2): 3}), TypeError, "data: Only dicts with str-like"),  # type: ignore[dict-item]
    (lambda: api.broadcast("tasks", "x", {"a": "\udc80"}), ValueError, "a: 'utf-8' codec"),
    (lambda: api.broadcast("tasks", "x", {"a": circle()}), ValueError, "a: maximum recursion depth exceeded"),
    (lambda: api.broadcast_status(Unwilling()), TypeError, "status: Encoding"),  # type: ignore[arg-type]
    (lambda: api.broadcast_action_event(result=Unwilling()), TypeError, "result: Encoding objects of type"),
    (lambda: api.broadcast_status("up", more=Unwilling()), TypeError, "more: Encoding objects of type"),
    (lambda: api.send_to_user("ada", "x", {"a": Unwilling()}), TypeError, "a: Encoding objects of type"),
    (lambda: api.broadcast("tasks", "x", ODD), TypeError, "data must be a mapping, as a dict is one (got 1)"),
    (lambda: api.broadcast_global("x", "{}"), TypeError, "data must be a mapping"),  # type: ignore[arg-type]
    # Raw bytes that would harm every reader
    (lambda: api.broadcast("tasks", "x", {"a": msgspec.Raw(b"nope")}), ValueError, "look at the msgspec.Raw"),
    (
        lambda: api.broadcast("tasks", "x", {"a": msgspec.Raw(b'"\xff"')}),
        ValueError,
        "look at the msgspec.Raw",
    ),
    (lambda: api.broadcast_global("x", {"a": msgspec.Raw(b"[")}), ValueError, "look at the msgspec.Raw"),
    (lambda: api.broadcast_global("x", {"a": msgspec.Raw(b'"\xff"')}), ValueError, "look at the msgspec.Raw"),
    # Size
    (
        lambda: api.broadcast("tasks", "x", {"a": "x" * 993}),
        ValueError,
        "1001 bytes of JSON, the limit is 1000",
    ),
    (
        lambda: api.broadcast_global("x", {"a": "x" * 993}),
        ValueError,
        "data: 1001 bytes of JSON, the limit is",
    ),
    (lambda: api.broadcast_log("info", "x" * 2000), ValueError, "bytes of JSON, the limit is 1000"),
    # For whom
    (lambda: api.send_to_client(None, "x"), TypeError, "client_id must be a string (got None)"),  # type: ignore[arg-type]
    (lambda: api.send_to_user(7, "x"), TypeError, "user_id must be a string (got 7)"),  # type: ignore[arg-type]
    # Metrics
    (lambda: api.give_metrics(cpu_percent=1), ValueError, "cpu_percent is measured by the router itself"),
]


@pytest.mark.parametrize(("call", "kind", "message"), MISTAKES)
def test_a_mistake_is_shown_where_it_is_made(
    host: Host, call: Callable[[], object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as failure:
        call()
    assert message in str(failure.value)
    assert len(str(failure.value)) < 300
    assert len(host.queue) == 0
    assert host.broadcaster.dropped == 0


def test_the_largest_event_there_may_be_is_taken(host: Host) -> None:
    assert api.broadcast("tasks", "x", {"a": "x" * 992})
    assert host.queue._bytes == 1000


async def test_an_event_that_could_never_fit_into_the_queue_is_a_mistake() -> None:
    config = Config(host_queue_bytes=100)
    host = Host(config)
    await host.open(config)
    assert host.broadcaster.broadcast("signals", "x", {"a": "x" * 92})
    with pytest.raises(ValueError, match="the limit is 100 "):
        host.broadcaster.broadcast("signals", "x", {"a": "x" * 93})


def test_a_field_s_own_code_may_fail_in_any_way(host: Host) -> None:
    class Broken:
        @property
        def __dataclass_fields__(self) -> Any:
            raise LookupError("lost")

    with pytest.raises(TypeError, match="a: "):
        api.broadcast("tasks", "x", {"a": Broken()})


# Full, closed, none, several


def test_where_the_queue_is_full_they_return_false_and_count(host: Host) -> None:
    assert [api.broadcast("tasks", "x") for _ in range(52)] == [True] * 50 + [False] * 2
    assert not api.broadcast_global("x")
    assert (host.broadcaster.dropped, host.broadcaster.queued) == (3, 50)


def test_a_mistake_is_shown_though_the_queue_is_full(host: Host) -> None:
    while api.broadcast("tasks", "x"):
        pass
    with pytest.raises(ValueError, match="priority"):
        api.broadcast_signal_event(priority=300)


EVERY: list[Callable[[Any], object]] = [
    lambda b: b.broadcast("signals", "x"),
    lambda b: b.broadcast("orders.eu", "x"),
    lambda b: b.broadcast_signal_event(),
    lambda b: b.broadcast_action_event(),
    lambda b: b.broadcast_metrics(),
    lambda b: b.broadcast_log("info", "x"),
    lambda b: b.broadcast_status("up"),
    lambda b: b.broadcast_connection_event("x"),
    lambda b: b.send_to_client("x", "x"),
    lambda b: b.send_to_user("x", "x"),
    lambda b: b.broadcast_global("x"),
    lambda b: b.give_metrics(total_tokens=1),
]


@pytest.mark.parametrize("call", EVERY)
def test_a_router_that_has_not_started_takes_nothing(call: Callable[[Any], object]) -> None:
    with pytest.raises(RouterClosedError, match="has not started yet"):
        call(Host().broadcaster)


@pytest.mark.parametrize("call", EVERY)
def test_a_router_that_is_closed_takes_nothing(host: Host, call: Callable[[Any], object]) -> None:
    host.queue.close("the router is going down")
    with pytest.raises(RouterClosedError, match="the router is going down"):
        call(api)


@pytest.mark.parametrize("call", EVERY)
def test_without_a_router_they_say_how_to_start_one(call: Callable[[Any], object]) -> None:
    with pytest.raises(
        RouterClosedError, match=r"no router runs in this process: start one with `with Router\(config\):`"
    ):
        call(api)


def test_with_several_routers_they_say_how_to_name_one(host: Host) -> None:
    other = Host()
    api.enlist(other.broadcaster)
    try:
        with pytest.raises(RuntimeError, match="2 routers run in this process: call the method of the one") as failure:
            api.broadcast_global("x")
        assert not isinstance(failure.value, RouterClosedError)
    finally:
        api.dismiss(other.broadcaster)
    assert api.broadcast_global("x")


def test_a_forked_process_forgets_them(host: Host) -> None:
    api._forget_all()
    with pytest.raises(RouterClosedError, match="no router runs in this process"):
        api.broadcast_global("x")


FORK = """
import os, sys, trio
from router import integrations
from router.broadcaster import Broadcaster
from router.config import Config
from router.feeds.host import HostQueue, RouterClosedError
from router.feeds.metrics import HostNumbers

integrations.enlist(Broadcaster(Config(), HostQueue(Config()), HostNumbers()))
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    integrations.broadcast_global("x")
except RouterClosedError as error:
    os._exit(0 if "no router runs in this process" in str(error) else 1)
os._exit(2)
"""


def test_a_forked_process_has_no_router() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", FORK], timeout=60, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
