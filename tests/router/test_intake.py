import itertools
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from router.auth.access import Grants
from router.channels import Channels
from router.clock import Clock
from router.config import Config
from router.events import EVENT_TYPE_JSON, MAX_DEPTH, TOO_DEEP
from router.frames import Binary
from router.intake import Intake
from router.letters import Events, Item, SubscribeTo
from router.limits import Rate
from router.protocol import Authenticate, GetReconnectionToken, GetSubscriptions, Unsubscribe
from tests.router.granting import grants
from tests.router.test_protocol import said, spell

ADMIN = grants("admin")
VIEWER = grants("viewer")
NOON = "2024-12-29T12:00:00.125Z"


class Side:
    """A connection's judge, with a clock that is set by hand."""

    def __init__(self, config: Config | None = None, grants: Grants = ADMIN) -> None:
        self.now = 1000.0
        self.grants = grants
        self.intake = Intake(config or Config(), Channels(), Clock(lambda: 1_735_473_600.125), lambda: self.now)

    def items(self, *payloads: bytes) -> list[Item]:
        """What becomes of payloads that judging goes through without a stop."""
        items: list[Item] = []
        assert self.intake.judge_all(iter(payloads), self.grants, items) is None
        return items

    def item(self, message: object) -> Item:
        [item] = self.items(message if isinstance(message, bytes) else spell(message))
        return item

    def error(self, message: object) -> dict[str, Any]:
        """The refusal of a message."""
        item = self.item(message)
        assert isinstance(item, bytes)
        error = said(item)
        assert error.pop("type") == "error"
        return error


def publish(data: object = None, **fields: object) -> dict[str, Any]:
    message = {"type": "publish", "channel": "signals", "event_type": "x", **fields}
    return message if data is None else message | {"data": data}


def batch(*events: object, **fields: object) -> dict[str, Any]:
    return {"type": "publish", "channel": "signals", "events": events, **fields}


def flat(items: list[Item]) -> list[object]:
    """Items without regard to which events share one."""
    singly: list[object] = []
    for item in items:
        if isinstance(item, Events):
            singly += [(item.channel, event.event_type, bytes(event.data), item.id) for event in item.events]
        else:
            singly.append(item)
    return singly


# Control messages


def test_a_ping_is_answered_at_once() -> None:
    item = Side().item({"type": "ping", "id": 0})
    assert isinstance(item, bytes)
    assert said(item) == {"type": "pong", "id": 0, "timestamp": NOON}
    item = Side().item({"type": "ping"})
    assert isinstance(item, bytes)
    assert said(item) == {"type": "pong", "timestamp": NOON}


def test_a_pong_is_not_answered() -> None:
    assert Side().items(spell({"type": "pong", "id": 1})) == []


def test_what_only_the_router_can_answer_goes_to_it() -> None:
    side = Side()
    assert side.item({"type": "unsubscribe", "channels": ["a"], "id": 1}) == Unsubscribe(["a"], id=1)
    assert side.item({"type": "get_subscriptions", "id": 1}) == GetSubscriptions(id=1)
    assert side.item({"type": "get_reconnection_token", "id": 1}) == GetReconnectionToken(id=1)


def test_to_subscribe_takes_known_channels_and_permission() -> None:
    asked = ["nope", "logs", "metrics", "status", "logs", "metrics", "", "personal", "*"]
    item = Side(grants=VIEWER).item({"type": "subscribe", "channels": asked, "id": "s"})
    assert isinstance(item, SubscribeTo)
    assert item.channels == ["metrics", "status"]
    assert list(item.denied.items()) == [
        ("nope", "unknown_channel"),
        ("logs", "permission_denied"),
        ("", "unknown_channel"),
        ("personal", "unknown_channel"),
        ("*", "unknown_channel"),
    ]
    assert item.id == "s"


def test_what_is_refused_by_its_text_takes_its_place_among_the_items() -> None:
    first, second, third = Side().items(b"{", spell({"type": "get_subscriptions"}), spell({"type": "nope", "id": 1}))
    assert isinstance(first, bytes)
    assert said(first) == {"type": "error", "code": "invalid_json", "message": "Invalid JSON format"}
    assert second == GetSubscriptions()
    assert isinstance(third, bytes)
    assert (said(third)["code"], said(third)["id"]) == ("unknown_type", 1)


# Where judging stops


def test_judging_stops_at_authenticate_and_goes_on_behind_it() -> None:
    intake, items = Side().intake, list[Item]()
    messages = [{"type": "get_subscriptions"}, {"type": "authenticate", "token": "a.b.c", "id": 1}, publish()]
    left = iter([spell(message) for message in messages])
    assert intake.judge_all(left, ADMIN, items) == Authenticate("a.b.c", id=1)
    assert items == [GetSubscriptions()]
    assert intake.judge_all(left, VIEWER, items) is None
    assert isinstance(items[1], bytes)  # by the grants that came of it
    assert said(items[1])["code"] == "permission_denied"


def test_judging_stops_at_a_binary_message() -> None:
    items: list[Item] = []
    left: Iterator[bytes] = iter([spell(publish()), Binary(b"\0"), spell(publish())])
    stopped_at = Side().intake.judge_all(left, ADMIN, items)
    assert stopped_at == b"\0"
    assert isinstance(stopped_at, Binary)
    assert len(flat(items)) == 1


# Publishing


def test_an_event_goes_on_as_its_publisher_spelled_it() -> None:
    item = Side().item(b'{"type":"publish","channel":"logs","event_type":"log.info","data":{ "n" :1e2},"id":5}')
    assert flat([item]) == [("logs", "log.info", b'{ "n" :1e2}', 5)]
    assert flat([Side().item(publish())]) == [("signals", "x", b"{}", UNSET)]


def test_a_batch_is_one_item() -> None:
    item = Side().item(batch({"event_type": "a", "data": {"priority": 1}}, {"event_type": "b"}, id="b"))
    assert isinstance(item, Events)
    assert flat([item]) == [("signals", "a", b'{"priority": 1}', "b"), ("signals", "b", b"{}", "b")]


@pytest.mark.parametrize("channel", ["nope", "", "Signals", "signals.*", "personal", "global"])
def test_an_unknown_channel(channel: str) -> None:
    error = Side().error(publish(channel=channel, id=1))
    assert error == {"code": "unknown_channel", "message": f"Unknown channel: {channel}", "id": 1}


def test_of_a_long_unknown_name_the_beginning_is_told() -> None:
    assert Side().error(publish(channel="a" * 1000))["message"] == f"Unknown channel: {'a' * 64}"


@pytest.mark.parametrize("message", [publish(channel="connections"), batch({"event_type": "x"}, channel="connections")])
def test_a_channel_that_one_may_not_publish_on(message: dict[str, Any]) -> None:
    text = "Permission denied to publish to channel: connections"
    assert Side().error(message) == {"code": "permission_denied", "message": text}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"event_type": ""}, "event_type must be 1 to 128 characters of A-Z a-z 0-9 . _ - : (got '')"),
        ({"event_type": "a b"}, "event_type must be 1 to 128 characters of A-Z a-z 0-9 . _ - : (got 'a b')"),
        ({"data": []}, "data must be an object"),
        ({"data": None}, "data must be an object"),
        ({"data": "{}"}, "data must be an object"),
        ({"data": {"priority": 256}}, "data.priority: expected `int` <= 255"),
        ({"data": {"is_novel": 1}}, "data.is_novel: expected `bool`, got `int`"),
    ],
)
def test_an_event_that_is_not_good(fields: dict[str, Any], text: str) -> None:
    good = {"event_type": "x"}
    message = {"type": "publish", "channel": "signals", "id": 1} | good | fields
    assert Side().error(message) == {"code": "invalid_message", "message": text, "id": 1}
    error = Side().error(batch(good, good, good | fields, good, good | fields, id=1))
    assert error == {"code": "invalid_message", "message": f"events[2].{text}", "id": 1, "index": 2}
    error = Side().error(batch(good | fields))
    assert error == {"code": "invalid_message", "message": f"events[0].{text}", "index": 0}


def test_a_publish_without_anything_to_publish() -> None:
    error = Side().error({"type": "publish", "channel": "signals", "id": 1})
    assert error == {"code": "invalid_message", "message": "event_type is missing", "id": 1}


def test_a_publish_that_is_one_event_and_several() -> None:
    text = "events: a publish has either events or event_type and data"
    error = Side().error(batch({"event_type": "x"}, event_type="x", id=1))
    assert error == {"code": "invalid_message", "message": text, "id": 1}


def test_the_size_of_an_event_is_that_of_its_data_as_published() -> None:
    config = Config(max_event_bytes=20)
    blanks = b'{"type":"publish","channel":"signals","event_type":"x","id":1,"data":%b}'
    fits, over = b'{ "s"  :  "aaaaaa" }', '{"s":"ééééééa"}'.encode() + b" " * 5 + b"}"
    assert len(fits) == 20
    assert flat(Side(config).items(blanks % fits)) == [("signals", "x", fits, 1)]
    over = '{"s":"éééééé","a":0}'.encode()
    assert len(over) == 26
    text = "data has 26 bytes, the limit is 20"
    assert Side(config).error(blanks % over) == {"code": "payload_too_large", "message": text, "id": 1}
    item = Side(config).item(publish(id="a" * 64, other="b" * 100))
    assert isinstance(item, Events)  # what is around the data does not count


def test_the_limit_is_for_one_event() -> None:
    config = Config(max_event_bytes=20)
    good = {"event_type": "x", "data": {"s": "aaaaaaaa"}}
    assert len(flat([Side(config).item(batch(*[good] * 10))])) == 10
    error = Side(config).error(batch(good, {"event_type": "x", "data": {"s": "a" * 20}}, good, id=1))
    text = "events[1].data has 29 bytes, the limit is 20"
    assert error == {"code": "payload_too_large", "message": text, "id": 1, "index": 1}


def test_what_can_be_read_can_be_checked_however_deep_it_is() -> None:
    side, met = Side(), set()
    for depth in range(500, 1100):  # the interpreter's limit is in between
        data = b'{"x":' + b"[" * depth + b"]" * depth + b"}"
        for payload in (
            b'{"type":"publish","channel":"signals","event_type":"x","id":1,"data":' + data + b"}",
            b'{"type":"publish","channel":"signals","id":1,"events":[{"event_type":"x","data":' + data + b"}]}",
        ):
            [item] = side.items(payload)
            met.add(item if isinstance(item, bytes) else type(item))
    assert Events in met
    refused = [said(item) for item in met if isinstance(item, bytes)]
    assert {"type": "error", "code": "invalid_json", "message": "Invalid JSON format"} in refused
    assert {(error["code"], error.get("index")) for error in refused} == {
        ("invalid_json", None),
        ("invalid_message", None),
        ("invalid_message", 0),
    }


def test_data_that_not_every_reader_could_decode_are_refused() -> None:
    def deep(levels: int) -> Any:
        return Raw(b'{"a":' * levels + b'"}]"' + b"}" * levels)

    def error(message: dict[str, Any]) -> dict[str, Any]:
        return side.error(msgspec.json.encode(message))

    side, wide = Side(), {"a": [{"b": ["}]"]}] * MAX_DEPTH}
    good, bad = {"event_type": "x", "data": deep(MAX_DEPTH)}, {"event_type": "x", "data": deep(MAX_DEPTH + 1)}
    assert len(flat([side.item(msgspec.json.encode(batch(good, good)))])) == 2
    assert isinstance(side.item(publish(wide)), Events)
    assert error(publish(id=1, **bad)) == {"code": "invalid_message", "message": TOO_DEEP, "id": 1}
    said_of_one = {"code": "invalid_message", "message": f"events[1].{TOO_DEEP}", "id": 1, "index": 1}
    assert error(batch(good, bad, id=1)) == said_of_one
    run = [publish({"a": 1}), publish(**bad), publish({"a": 2})]
    assert [type(item) for item in side.items(*map(msgspec.json.encode, run))] == [Events, bytes, Events]


@pytest.mark.parametrize("key", ["", ".", "data.", ".data", "data..sensor", "nope", "sensor.data", "Data", " data"])
@pytest.mark.parametrize("policy", ["latest", "drop_oldest"])
def test_a_key_that_leads_nowhere_in_any_event_is_refused(key: str, policy: str) -> None:
    error = Side().error({"type": "subscribe", "channels": ["signals"], "id": 1, "policy": policy, "key": key})
    text = f"key: {key!r} is not a path into an event; write it as data.sensor or data.items.0.id"
    assert error == {"code": "invalid_message", "message": text, "id": 1}


def test_of_a_long_key_the_beginning_is_told() -> None:
    error = Side().error({"type": "subscribe", "channels": ["signals"], "policy": "latest", "key": "k" * 9999})
    assert error["message"].startswith(f"key: '{'k' * 64}' is not a path into an event")


# The order of the checks

STEPS = ["shape", "channel", "permission", "rate", "schema", "size"]
CODES = {
    "shape": "invalid_message",
    "channel": "unknown_channel",
    "permission": "permission_denied",
    "rate": "rate_limited",
    "schema": "invalid_message",
    "size": "payload_too_large",
}
FAULTS = [faults for count in range(1, 7) for faults in itertools.combinations(STEPS, count)]


@pytest.mark.parametrize("shape", [{"event_type": "a b"}, {"data": []}], ids=["event_type", "data"])
@pytest.mark.parametrize("faults", FAULTS, ids="+".join)
def test_of_several_faults_the_first_step_tells(faults: tuple[str, ...], shape: dict[str, Any]) -> None:
    side = Side(Config(max_event_bytes=50, rate_publish=Rate(1000, 1)), VIEWER if "permission" in faults else ADMIN)
    if "rate" in faults:
        side.grants = ADMIN
        side.item(batch(*[{"event_type": "x"}] * 1000))
        side.grants = VIEWER if "permission" in faults else ADMIN
    data: dict[str, Any] = {}
    if "schema" in faults:
        data["priority"] = 256
    if "size" in faults:
        data["s"] = "a" * 60
    event = {"event_type": "x", "data": data} | (shape if "shape" in faults else {})
    channel = "nope" if "channel" in faults else "signals"
    first = next(step for step in STEPS if step in faults)
    error = side.error({"type": "publish", "channel": channel, "id": 1} | event)
    assert (error["code"], error["id"]) == (CODES[first], 1)
    if first == "schema":
        assert "priority" in error["message"]
    # In a batch the faults of each step stand at another event, the later steps' first.
    events = [{"event_type": "x", "data": {"priority": 256}}] if "schema" in faults else []
    events += [{"event_type": "x", "data": {"s": "a" * 60}}] if "size" in faults else []
    events += [{"event_type": "x"} | shape] if "shape" in faults else []
    error = side.error({"type": "publish", "channel": channel, "id": 1, "events": [*events, {"event_type": "y"}]})
    assert (error["code"], error["id"]) == (CODES[first], 1)
    index = {"shape": len(events) - 1, "schema": 0, "size": 0}.get(first)
    assert error.get("index") == index


# Runs of events


def runs(items: list[Item]) -> list[int]:
    """How many events each item has, 0 for what is none."""
    return [len(item.events) if isinstance(item, Events) else 0 for item in items]


ONE = spell(publish({"priority": 1}))


def test_events_that_follow_one_another_on_a_channel_become_one_item() -> None:
    side = Side()
    items = side.items(ONE, ONE, spell(publish(event_type="y")), ONE)
    assert runs(items) == [4]
    one, other = ("signals", "x", b'{"priority": 1}', UNSET), ("signals", "y", b"{}", UNSET)
    assert flat(items) == [one, one, other, one]
    assert runs(side.items(spell(batch({"event_type": "a"}, {"event_type": "b"})), ONE, ONE)) == [4]


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (publish(channel="logs"), [2, 1, 2]),
        (publish(id=1), [2, 1, 2]),
        (batch({"event_type": "x"}), [2, 3]),
        (batch({"event_type": "x"}, id=1), [2, 1, 2]),
        ({"type": "ping"}, [2, 0, 2]),
        ({"type": "pong"}, [2, 2]),
        ({"type": "get_subscriptions"}, [2, 0, 2]),
        (publish(event_type="a b"), [2, 0, 2]),
        (publish({"priority": 256}), [2, 0, 2]),
        (publish([]), [2, 0, 2]),
        (publish(channel="nope"), [2, 0, 2]),
        (batch(), [2, 0, 2]),
        (batch({"event_type": "x"}, event_type="x"), [2, 0, 2]),
        ({"type": "nope"}, [2, 0, 2]),
    ],
)
def test_a_run_ends_at_anything_else(between: object, expected: list[int]) -> None:
    assert runs(Side().items(ONE, ONE, spell(between), ONE, ONE)) == expected


def test_a_run_has_a_greatest_size() -> None:
    payload = spell(publish({"s": "a" * 10_000}))
    follow = 64 * 1024 // len(payload)
    assert runs(Side().items(*[payload] * (follow + 2))) == [1 + follow, 1]


def test_what_could_be_too_large_is_looked_at_by_itself() -> None:
    config = Config(max_event_bytes=len(ONE) - 1)
    assert runs(Side(config).items(ONE, ONE)) == [1, 1]
    assert runs(Side(Config(max_event_bytes=len(ONE))).items(ONE, ONE, ONE)) == [2, 1]


def test_where_events_are_counted_there_are_no_runs() -> None:
    side = Side(Config(rate_publish=Rate(2, 1)))
    assert runs(side.items(ONE, ONE, ONE)) == [1, 1, 0]


def test_an_event_type_that_was_forgotten_is_checked_again() -> None:
    side, items = Side(), list[Item]()

    def forgetful() -> Iterator[bytes]:
        for event_type in ("x", "y", "a b"):
            yield spell(publish(event_type=event_type))
            EVENT_TYPE_JSON.clear()

    assert side.intake.judge_all(forgetful(), ADMIN, items) is None
    assert runs(items) == [1, 1, 0]


PAYLOADS = st.one_of(
    st.builds(publish, st.sampled_from([{}, {"priority": 1}, {"priority": -1}, {"s": "a" * 30}, []])),
    st.builds(publish, channel=st.sampled_from(["signals", "logs", "connections", "nope"]), id=st.integers(1, 9)),
    st.builds(publish, event_type=st.sampled_from(["x", "never-seen", "a b"])),
    st.builds(batch, st.sampled_from([{"event_type": "x"}, {"event_type": ""}, {}]), st.just({"event_type": "y"})),
    st.sampled_from(
        [{"type": "ping"}, {"type": "pong"}, {"type": "subscribe", "channels": ["logs"]}, {"type": "nope"}]
    ),
)


@given(messages=st.lists(PAYLOADS, max_size=12), limit=st.sampled_from([10, 80, 100, 65_536]))
def test_messages_of_one_read_are_judged_as_each_alone(messages: list[dict[str, Any]], limit: int) -> None:
    config = Config(max_event_bytes=limit)
    payloads = [spell(message) for message in messages]
    together, alone = Side(config), Side(config)
    assert flat(together.items(*payloads)) == flat([item for payload in payloads for item in alone.items(payload)])


# Rates

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "ping": ("rate_ping", {"type": "ping"}),
    "subscribe": ("rate_subscribe", {"type": "subscribe", "channels": ["logs"]}),
    "unsubscribe": ("rate_unsubscribe", {"type": "unsubscribe", "channels": ["logs"]}),
    "get_subscriptions": ("rate_get_subscriptions", {"type": "get_subscriptions"}),
    "get_reconnection_token": ("rate_other", {"type": "get_reconnection_token"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_bucket_that_is_full_at_the_start(kind: str) -> None:
    setting, message = KINDS[kind]
    side, rate = Side(), getattr(Config(), setting)
    for _ in range(int(rate.burst)):
        assert b"rate_limited" not in bytes(str(side.item(message)), "utf-8")
    wait_s = round(1 / rate.per_s + 0.001, 3)
    assert side.error(message | {"id": "a"}) == {
        "code": "rate_limited",
        "message": f"Too many {kind} messages, try again in {wait_s} s",
        "id": "a",
        "retry_after": wait_s,
    }
    side.now += wait_s
    assert not isinstance(side.item(message), bytes) or kind == "ping"
    assert side.error(message)["code"] == "rate_limited"


def test_no_kind_takes_from_anothers_bucket() -> None:
    same: dict[str, Any] = dict.fromkeys([*(setting for setting, _ in KINDS.values()), "rate_publish"], Rate(1, 1))
    side = Side(Config(**same))  # even the very same rate is not the same bucket
    for message in [*(message for _, message in KINDS.values()), publish()]:
        item = side.item(message)
        assert not isinstance(item, bytes) or said(item)["type"] == "pong"
    for message in [*(message for _, message in KINDS.values()), publish()]:
        assert side.error(message)["code"] == "rate_limited"


def test_to_authenticate_and_to_ask_for_a_token_share_a_bucket() -> None:
    side, items = Side(Config(rate_other=Rate(2, 1))), list[Item]()
    sign_in = spell({"type": "authenticate", "token": "t", "id": 1})
    assert side.intake.judge_all(iter([sign_in]), ADMIN, items) == Authenticate("t", id=1)
    assert side.item({"type": "get_reconnection_token"}) == GetReconnectionToken()
    error = side.error(sign_in)
    assert (error["code"], error["id"], error["retry_after"]) == ("rate_limited", 1, 1.001)
    assert error["message"].startswith("Too many authenticate messages")


def test_what_has_no_shape_is_not_counted() -> None:
    side = Side(Config(rate_subscribe=Rate(1, 1)))
    for _ in range(5):
        assert side.error({"type": "subscribe", "channels": 5})["code"] == "invalid_message"
    assert isinstance(side.item({"type": "subscribe", "channels": ["logs"]}), SubscribeTo)


def test_pong_and_publish_have_no_rate_of_their_own() -> None:
    assert len(flat(Side().items(*[ONE] * 5000))) == 5000
    assert Side().items(*[spell({"type": "pong"})] * 5000) == []


def test_a_configured_rate_counts_events() -> None:
    side = Side(Config(rate_publish=Rate(10, 5)))
    assert len(flat([side.item(batch(*[{"event_type": "x"}] * 8))])) == 8
    error = side.error(batch(*[{"event_type": "x"}] * 3, id=1))
    assert (error["code"], error["id"], error["retry_after"]) == ("rate_limited", 1, 0.201)
    assert error["message"] == "Too many publish messages, try again in 0.201 s"
    assert "index" not in error
    side.now += 0.201
    assert len(flat([side.item(batch(*[{"event_type": "x"}] * 3))])) == 3


def test_what_is_refused_before_the_rate_costs_nothing_and_what_comes_behind_it_does() -> None:
    side = Side(Config(rate_publish=Rate(1, 1), max_event_bytes=30))
    for message in (publish([]), publish(event_type=""), publish(channel="nope"), publish(channel="connections")):
        assert side.error(message)["code"] != "rate_limited"
    assert side.error(publish({"priority": 256}))["code"] == "invalid_message"
    assert side.error(publish())["code"] == "rate_limited"


def test_any_messages_may_be_counted_too() -> None:
    side = Side(Config(max_messages_per_s=5))
    assert not side.intake.too_many(50)  # ten seconds' worth at once
    assert side.intake.too_many(1)
    side.now += 1.001
    assert not side.intake.too_many(5)
    assert side.intake.too_many(1)
    side.now += 100
    assert not side.intake.too_many(50)


def test_by_default_messages_are_not_counted() -> None:
    side = Side()
    assert not any(side.intake.too_many(1_000_000) for _ in range(10))


def test_a_fraction_of_a_message_a_second_is_a_rate_as_well() -> None:
    side = Side(Config(max_messages_per_s=0.01))
    assert not side.intake.too_many(1)
    assert side.intake.too_many(1)


# Nothing else


@given(st.lists(st.binary(max_size=40), max_size=3), st.sampled_from([ADMIN, VIEWER]))
def test_every_payload_becomes_an_item_or_a_refusal(payloads: list[bytes], grants: Grants) -> None:
    for item in Side(grants=grants).items(*payloads):
        assert isinstance(item, bytes)
        assert json.loads(item[item.index(b"{") :])["code"] in {"invalid_json", "invalid_message", "unknown_type"}
