import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.events import CHANNELS, EVENT_TYPE_JSON, MAX_DEPTH, EventTypeError, is_too_deep

TEXT = (["", "text", "é😀\n"], [0, 1.5, True, [], {}])
BOOL = ([True, False], [0, 1, "true", [], {}])
COUNT = ([0, 1, 2**63, 10**30], [-1, 1.5, 1e3, "1", True, [], {}])
AMOUNT = ([0, 0.0, 1, 45.2, 1e9], [-1, -0.1, "1", True, [], {}])
PERCENT = ([0, 31.5, 100], [-0.1, 100.5, 101, "1", True, [], {}])
UNIT = ([0, 0.5, 1], [-0.1, 1.5, 2, "x", True, [], {}])
BYTE = ([0, 200, 255], [-1, 256, 1.5, "1", True, [], {}])
CODE = ([1000, 4500], [1.5, "1000", True, [], {}])
NAMES = ([[], ["metrics", "logs"]], ["metrics", 1, True, {}, [1], [None], [["metrics"]]])
ANYTHING: tuple[list[Any], list[Any]] = ([0, "text", True, [1], {"any": [1]}], [])

NULL_TOO = True
#: channel → field → the values that it may and may not have, and whether null is one of the first.
SCHEMAS: dict[str, dict[str, tuple[tuple[list[Any], list[Any]], bool]]] = {
    "metrics": {
        "cpu_percent": (AMOUNT, False),
        "host_cpu_percent": (PERCENT, False),
        "memory_mb": (AMOUNT, False),
        "events_per_sec": (AMOUNT, False),
        "deliveries_per_sec": (AMOUNT, False),
        "total_connections": (COUNT, False),
        "total_channels": (COUNT, False),
        "total_subscriptions": (COUNT, False),
        "buffered_events": (COUNT, False),
        "total_tokens": (COUNT, NULL_TOO),
    },
    "signals": {
        "event_id": (TEXT, False),
        "event_type": (TEXT, False),
        "is_novel": (BOOL, False),
        "priority": (BYTE, False),
        "resonance_score": (UNIT, NULL_TOO),
        "neighbors_count": (COUNT, False),
    },
    "actions": {
        "action_id": (TEXT, False),
        "action_type": (TEXT, False),
        "status": (TEXT, False),
        "result": (ANYTHING, NULL_TOO),
        "execution_time_ms": (AMOUNT, NULL_TOO),
        "error": (TEXT, NULL_TOO),
    },
    "logs": {
        "level": (TEXT, False),
        "message": (TEXT, False),
        "service": (TEXT, False),
        "correlation_id": (TEXT, NULL_TOO),
    },
    "status": {"status": (TEXT, False), "uptime_seconds": (AMOUNT, False), "version": (TEXT, False)},
    "connections": {
        "client_id": (TEXT, False),
        "user_id": (TEXT, NULL_TOO),
        "total_connections": (COUNT, False),
        "channels": (NAMES, False),
        "reason": (TEXT, NULL_TOO),
        "code": (CODE, NULL_TOO),
    },
}


def values(*, right: bool) -> list[tuple[str, str, Any]]:
    chosen = []
    for channel, fields in SCHEMAS.items():
        for field, ((good, bad), null_too) in fields.items():
            taken = (good if right else bad) + ([None] if null_too is right else [])
            chosen += [(channel, field, value) for value in taken]
    return chosen


def check(channel: str, data: object) -> None:
    CHANNELS[channel].check(json.dumps(data).encode())


def test_the_channels_are_those_of_the_contract_each_under_its_name() -> None:
    assert list(CHANNELS) == list(SCHEMAS) == ["metrics", "signals", "actions", "logs", "status", "connections"]
    assert all(spec.name == name and len(spec.description) > 10 for name, spec in CHANNELS.items())


def test_nobody_adds_a_channel_at_run_time() -> None:
    channels: Any = CHANNELS
    with pytest.raises(TypeError):
        channels["more"] = CHANNELS["logs"]


@pytest.mark.parametrize(("channel", "field", "value"), values(right=True))
def test_a_field_with_a_value_of_its_kind_passes(channel: str, field: str, value: Any) -> None:
    check(channel, {field: value})
    check(channel, {"other": [value], field: value, "more": None})


@pytest.mark.parametrize(("channel", "field", "value"), values(right=False))
def test_a_field_with_any_other_value_is_refused_by_its_name(channel: str, field: str, value: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=rf"at `\$\.{field}"):
        check(channel, {field: value})
    good = {name: rights[0] for name, ((rights, _), _) in SCHEMAS[channel].items()}
    check(channel, good)
    with pytest.raises(msgspec.ValidationError, match=rf"at `\$\.{field}"):
        check(channel, {**good, field: value})


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_field_is_optional_and_others_pass(channel: str) -> None:
    check(channel, {})
    check(channel, {"x": None, "nested": {name: [] for name in SCHEMAS[channel]}, "Priority": -1})


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("data", [[], [{}], "{}", 0, 1.5, True, False, None])
def test_data_that_are_no_object_are_refused(channel: str, data: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        check(channel, data)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 400, "9" * 5000])
def test_a_number_that_no_float_can_hold_is_refused_where_one_is_meant(number: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        CHANNELS["metrics"].check(f'{{"cpu_percent":{number}}}'.encode())
    CHANNELS["metrics"].check(f'{{"gpu_percent":{number}}}'.encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(channel=st.sampled_from(sorted(CHANNELS)), data=st.dictionaries(st.text(max_size=10), JSON, max_size=4))
def test_no_other_field_is_looked_at(channel: str, data: dict[str, Any]) -> None:
    check(channel, {name: value for name, value in data.items() if name not in SCHEMAS[channel]})


@given(data=st.data(), channel=st.sampled_from(sorted(CHANNELS)))
def test_no_json_makes_a_check_raise_anything_else(data: st.DataObject, channel: str) -> None:
    fields = st.dictionaries(st.sampled_from(sorted(SCHEMAS[channel])) | st.text(max_size=3), JSON, max_size=4)
    try:
        check(channel, data.draw(fields))
    except msgspec.ValidationError as error:
        assert " - at `$." in str(error)  # noqa: PT017 - it is not the raising that is tested


# Event types

ALLOWED = re.compile(r"[A-Za-z0-9._:\-]{1,128}", re.ASCII)
EVENT_TYPES = st.from_regex(ALLOWED, fullmatch=True)


@given(EVENT_TYPES)
def test_an_event_type_gives_its_piece_of_the_event(event_type: str) -> None:
    for _ in range(2):  # made, then looked up
        assert json.loads(b'{"event_type":"' + EVENT_TYPE_JSON[event_type] + b"1}") == {
            "event_type": event_type,
            "data": 1,
        }
    assert event_type in EVENT_TYPE_JSON


@given(st.text(max_size=140) | st.text("az.09_-: /*\n", max_size=4) | EVENT_TYPES.map(lambda text: text + "\n"))
def test_what_is_no_event_type_is_refused_and_not_remembered(text: str) -> None:
    if ALLOWED.fullmatch(text):
        assert EVENT_TYPE_JSON[text]
        return
    with pytest.raises(EventTypeError, match="event_type must be 1 to 128 characters of A-Z a-z 0-9"):
        EVENT_TYPE_JSON[text]
    assert text not in EVENT_TYPE_JSON


@pytest.mark.parametrize("event_type", ["-", "x" * 128, "Az09._-:", "system_metrics", "signal.input.text"])
def test_event_types(event_type: str) -> None:
    assert EVENT_TYPE_JSON[event_type] == f'{event_type}","data":'.encode()


@pytest.mark.parametrize("text", ["", "x" * 129, "a b", "a/b", "a*", "é", "٣", "a\n", "\0", 'a"', "a\\"])
def test_texts_that_are_no_event_types(text: str) -> None:
    with pytest.raises(EventTypeError):
        EVENT_TYPE_JSON[text]


def test_the_error_shows_the_text_but_not_all_of_a_long_one() -> None:
    assert str(EventTypeError("a b")).endswith("(got 'a b')")
    assert str(EventTypeError(" " * 32)).endswith(f"(got '{' ' * 32}')")
    assert str(EventTypeError(" " * 33)).endswith(f"(got '{' ' * 32}…')")


def test_event_types_are_remembered_up_to_a_bound() -> None:
    EVENT_TYPE_JSON.clear()
    for number in range(EVENT_TYPE_JSON.MAX_ENTRIES):
        assert EVENT_TYPE_JSON[f"t{number}"]
    assert len(EVENT_TYPE_JSON) == EVENT_TYPE_JSON.MAX_ENTRIES
    assert EVENT_TYPE_JSON["one.more"] == b'one.more","data":'
    assert list(EVENT_TYPE_JSON) == ["one.more"]


# Depth


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@pytest.mark.parametrize(
    "opening", [b'{"a":', b"[", b'["]]}\\\\\\"]",', b'[{},"[]]]]",\n', b'{"[{":1,"\\"[":"]","b" : ']
)
@pytest.mark.parametrize("depth", [1, 8, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 2 * MAX_DEPTH, 30_000])
def test_how_deep_data_may_nest(opening: bytes, depth: int) -> None:
    data = opening * (depth - 1) + b"[]" + (b"}" if opening.startswith(b"{") else b"]") * (depth - 1)
    assert is_too_deep(data) is (depth > MAX_DEPTH)
    assert is_too_deep(msgspec.Raw(data)) is (depth > MAX_DEPTH)


_nested = st.recursive(
    st.none() | st.text('[]{}\\"a', max_size=4),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text('[]{}\\"a', max_size=2), parts, max_size=3),
)


@given(_nested, st.integers(0, 25))
def test_depth_is_what_counts_not_the_number_of_brackets(value: Any, more: int) -> None:
    for _ in range(more):
        value = [value, [[]]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("router.events.MAX_DEPTH", 12)
        patch.setattr("router.events.SHALLOW_BYTES", 26)
        assert is_too_deep(json.dumps(value).encode()) is (depth_of(value) > 12)
