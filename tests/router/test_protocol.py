import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from router.errors import ErrorCode
from router.events import CHANNELS
from router.policies import Policy
from router.protocol import (
    MAX_BATCH_EVENTS,
    MESSAGE_TYPES,
    Authenticate,
    ClientMessage,
    GetReconnectionToken,
    GetSubscriptions,
    History,
    Id,
    Ping,
    Pong,
    Position,
    Publish,
    Refusal,
    Resume,
    Subscribe,
    Unsubscribe,
    decode,
    denied_fields,
    field_error,
    reply,
)
from tests.router.test_fixtures_shape import is_id, is_json
from tests.router.test_frames import parse

BAD_ID = "id must be a string of up to 64 characters or an integer within ±2^53"


def said(frame: bytes) -> dict[str, Any]:
    """The message of a frame, its fields in their order."""
    message: dict[str, Any] = json.loads(bytes(parse(frame).data))
    return message


def spell(message: object) -> bytes:
    return json.dumps(message).encode()


def refusal(payload: bytes | str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decode(payload.encode() if isinstance(payload, str) else payload)
    return caught.value


def assert_refused(
    payload: bytes | str, code: ErrorCode, message: str, echoed: Id = UNSET, index: int | None = None
) -> None:
    error = refusal(payload)
    assert (error.code, error.message, error.id, error.index) == (code, message, echoed, index)
    assert error.retry_after is None


# Messages that are good


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"ping"}', Ping()),
        ('{"type":"pong","id":"a"}', Pong(id="a")),
        ('{"type":"get_subscriptions","id":1}', GetSubscriptions(id=1)),
        ('{"type":"get_reconnection_token"}', GetReconnectionToken()),
        ('{"type":"authenticate","token":"a.b.c"}', Authenticate("a.b.c")),
        (
            '{"type":"subscribe","channels":["a","a"],"policy":"latest","last":5}',
            Subscribe(["a", "a"], policy=Policy.LATEST, last=5),
        ),
        ('{"type":"history","channel":"a","last":5}', History("a", last=5)),
        ('{"type":"resume","positions":{"a":{"epoch":"e","seq":0}}}', Resume({"a": Position("e", 0)})),
        ('{"channels":["a"],"id":0,"type":"unsubscribe"}', Unsubscribe(["a"], id=0)),
    ],
)
def test_control_messages(text: str, message: ClientMessage) -> None:
    assert decode(text.encode()) == message


def test_one_event() -> None:
    message = decode(b'{"type":"publish","channel":"c","event_type":"t","data": { "a" : [1e2] } ,"id":"p"}')
    assert isinstance(message, Publish)
    assert (message.channel, message.event_type, message.events, message.id) == ("c", "t", UNSET, "p")
    assert bytes(message.data) == b'{ "a" : [1e2] }'


def test_several_events() -> None:
    message = decode(b'{"type":"publish","channel":"c","events":[{"event_type":"a"},{"data":[],"event_type":"b"}]}')
    assert isinstance(message, Publish)
    assert isinstance(message.events, list)
    assert [(event.event_type, bytes(event.data)) for event in message.events] == [("a", b"{}"), ("b", b"[]")]
    assert message.event_type is UNSET


def test_every_message_type_is_known_by_its_name() -> None:
    assert sorted(MESSAGE_TYPES) == [
        "authenticate", "get_reconnection_token", "get_subscriptions", "history", "ping", "pong", "publish", "resume",
        "subscribe", "unsubscribe",
    ]  # fmt: skip
    for name, kind in MESSAGE_TYPES.items():
        fields = {"channels": ["a"], "token": "t", "channel": "c", "event_type": "e", "positions": {}}
        message = decode(spell({"type": name, **fields}))
        assert type(message) is kind


@pytest.mark.parametrize("id", ["", "a" * 64, "é" * 64, "😀" * 64, 0, -0, -1, 2**53, -(2**53)])
def test_ids(id: str | int) -> None:  # noqa: A002
    message = decode(spell({"type": "ping", "id": id}))
    assert message.id == id
    assert type(message.id) is type(id)


# Messages that are not


@pytest.mark.parametrize(
    "text",
    [
        "{", "}", "[", "nul", "truth", "-", "01", "1.", ".5", "+1", "1e", "0x1", "NaN", "Infinity", '"', "'a'",
        '"\\x"', '"\\u12"', '"\t"', '"\n"', '"\\ud800"', '"\\udc00\\ud800"', "[1,]", "[,1]", '{"a"}', '{"a":}',
        '{"a":1,}', "{a:1}", "1 2", "{}{}", "[]]", "/**/{}", "\ufeff{}", "{}\0", "\v{}",
    ],
)  # fmt: skip
def test_text_that_is_no_json_alone_and_inside_of_a_message(text: str) -> None:
    for around in (
        "$",
        '{"type":"ping","id":1,"x":$}',
        '{"type":"publish","channel":"signals","event_type":"t","id":1,"data":{"x":$}}',
        '{"type":"subscribe","channels":5,"id":1,"x":$}',
        '{"type":"nope","id":1,"x":[$]}',
        '{"type":5,"id":1,"x":$}',
        '{"id":[],"type":"ping","x":$}',
        '[{"type":"ping"},$]',
    ):
        assert_refused(around.replace("$", text), ErrorCode.INVALID_JSON, "Invalid JSON format")


@pytest.mark.parametrize("text", ["", " ", "\r\n\t"])
def test_nothing_is_no_json(text: str) -> None:
    assert_refused(text, ErrorCode.INVALID_JSON, "Invalid JSON format")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 30_000,
        '{"a":' * 13_000,
        '{"type":"ping","x":' + "[" * 30_000 + "]" * 30_000 + "}",
        '{"type":5,"x":' + "[" * 30_000 + "]" * 30_000 + "}",
        '{"type":"ping","id":' + "[" * 30_000 + "]" * 30_000 + "}",
        '{"type":"subscribe","channels":' + "[" * 30_000 + "]" * 30_000 + "}",
        "[" * 30_000 + "]" * 30_000,
    ],
    ids=lambda text: text[:40],
)
def test_what_is_too_deep_is_no_json(text: str) -> None:
    assert_refused(text, ErrorCode.INVALID_JSON, "Invalid JSON format")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"\xff"}',
        b'{"type":"ping","id":"\xff"}',
        b'{"type":"authenticate","token":"\xc3"}',
        b'{"type":"subscribe","channels":["\xed\xa0\x80"]}',
        b"\xff",
    ],
)
def test_text_that_is_no_utf_8_is_refused_even_if_it_should_get_here(payload: bytes) -> None:
    assert_refused(payload, ErrorCode.INVALID_JSON, "Invalid JSON format")


@pytest.mark.parametrize("text", ["[]", '[{"type":"ping","id":1}]', "1", '"ping"', "null", "true", "-1.5e3"])
def test_json_that_is_no_object(text: str) -> None:
    assert_refused(text, ErrorCode.INVALID_MESSAGE, "a message must be a JSON object")


@pytest.mark.parametrize("type", ["", ',"type":null', ',"type":1', ',"type":1e999', ',"type":["ping"]', ',"type":{}'])
def test_a_type_that_is_no_string(type: str) -> None:  # noqa: A002
    assert_refused('{"id":3' + type + "}", ErrorCode.INVALID_MESSAGE, "type must be a string", 3)


@pytest.mark.parametrize("type", ["", "nope", "PING", "ping ", "connected", "x" * 100])
def test_a_type_that_is_not_known_is_echoed_with_those_that_are(type: str) -> None:  # noqa: A002
    error = refusal(spell({"type": type, "id": "u"}))
    assert (error.code, error.id) == (ErrorCode.UNKNOWN_TYPE, "u")
    assert error.message == f"Unknown message type: {type[:64]} (known: {', '.join(sorted(MESSAGE_TYPES))})"


@pytest.mark.parametrize(
    "id",
    [
        "null",
        "true",
        "1.5",
        "1.0",
        "1e2",
        "1e999",
        "[]",
        "{}",
        str(2**53 + 1),
        str(-(2**53) - 1),
        "9" * 5000,
        '"' + "a" * 65 + '"',
    ],
)
@pytest.mark.parametrize(
    "rest", ['"type":"ping"', '"type":"nope"', '"type":5', '"type":"subscribe","channels":5', '"x":1', '"type":"pong"']
)  # fmt: skip
def test_a_bad_id_goes_before_all_else_and_is_not_echoed(id: str, rest: str) -> None:  # noqa: A002
    assert_refused(f'{{{rest},"id":{id}}}', ErrorCode.INVALID_MESSAGE, BAD_ID)
    assert_refused(f'{{"id":{id},{rest}}}', ErrorCode.INVALID_MESSAGE, BAD_ID)


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (',"channels":"metrics"', "channels must be an array"),
        (',"channels":{"metrics":1}', "channels must be an array"),
        (',"channels":1', "channels must be an array"),
        (',"channels":1e999', "channels must be an array"),
        (',"channels":' + "9" * 5000, "channels must be an array"),
        (',"channels":null', "channels must be an array"),
        (',"channels":true', "channels must be an array"),
        ("", "channels must be an array"),
        (',"channels":[]', "channels: expected `array` of length >= 1"),
        (',"channels":["a",5]', "channels[1]: expected `str`, got `int`"),
        (',"channels":[null]', "channels[0]: expected `str`, got `null`"),
    ],
)
def test_bad_channels(kind: str, channels: str, message: str) -> None:
    assert_refused(f'{{"type":"{kind}","id":5{channels}}}', ErrorCode.INVALID_MESSAGE, message, 5)


@pytest.mark.parametrize(
    ("fields", "message", "index"),
    [
        ('"type":"authenticate"', "token is missing", None),
        ('"type":"authenticate","token":5', "token: expected `str`, got `int`", None),
        ('"type":"publish"', "channel is missing", None),
        ('"type":"publish","channel":5', "channel: expected `str`, got `int`", None),
        ('"type":"publish","channel":"c","event_type":null', "event_type: expected `str`, got `null`", None),
        ('"type":"publish","channel":"c","events":null', "events: expected `array`, got `null`", None),
        ('"type":"publish","channel":"c","events":[]', "events: expected `array` of length >= 1", None),
        (
            '"type":"publish","channel":"c","events":[{"event_type":"a"},5]',
            "events[1]: expected `object`, got `int`",
            1,
        ),
        ('"type":"publish","channel":"c","events":[{}]', "events[0].event_type is missing", 0),
        (
            '"type":"publish","channel":"c","events":[{"event_type":5}]',
            "events[0].event_type: expected `str`, got `int`",
            0,
        ),
    ],
)
def test_the_field_that_is_wrong_is_named(fields: str, message: str, index: int | None) -> None:
    assert_refused(f'{{{fields},"id":"a"}}', ErrorCode.INVALID_MESSAGE, message, "a", index)
    assert_refused(f"{{{fields}}}", ErrorCode.INVALID_MESSAGE, message, UNSET, index)


def test_a_batch_has_a_greatest_length() -> None:
    event = {"event_type": "a"}
    message = decode(spell({"type": "publish", "channel": "c", "events": [event] * MAX_BATCH_EVENTS}))
    assert isinstance(message, Publish)
    text = "events: expected `array` of length <= 1000"
    too_long = {"type": "publish", "channel": "c", "events": [event] * (MAX_BATCH_EVENTS + 1)}
    assert_refused(spell(too_long), ErrorCode.INVALID_MESSAGE, text)


def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    assert decode(b'{"type":"subscribe","channels":["a"],"id":1,"channels":["b"],"id":2}') == Subscribe(["b"], id=2)
    assert_refused(
        '{"type":"ping","type":"nope","id":3}', ErrorCode.UNKNOWN_TYPE, refusal('{"type":"nope"}').message, 3
    )
    assert_refused('{"type":"ping","id":1,"id":[]}', ErrorCode.INVALID_MESSAGE, BAD_ID)


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"subscribe","channels":5,"channels":["a"],"id":3}',
        '{"type":"nope","type":"ping","id":3}',
        '{"type":"ping","type":"pong","id":3}',
        '{"type":"ping","id":[],"id":3}',
        '{"type":" - at `$.events[5]`","type":"publish","id":3}',
    ],
)
def test_a_key_that_stands_twice_must_be_good_both_times(text: str) -> None:
    error = refusal(text)
    assert (error.code, error.id, error.index) == (ErrorCode.INVALID_MESSAGE, 3, None)


# Against a reading by other means

STRINGS = st.text(max_size=6) | st.sampled_from(["metrics", "ping", "a" * 65])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**54), 2**54)
    | st.floats(allow_nan=False, allow_infinity=False, width=16)
    | STRINGS
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=2))
EVENTS = st.lists(
    st.fixed_dictionaries({}, optional={"event_type": SCALARS | STRINGS, "data": VALUES, "id": VALUES}) | VALUES,
    max_size=3,
)
POSITION = st.fixed_dictionaries({"seq": st.integers(-1, 3)}, optional={"epoch": STRINGS})
POSITIONS = st.dictionaries(STRINGS, POSITION, max_size=2)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from([*MESSAGE_TYPES, "publish", "subscribe", "history"]) | VALUES,
        "id": st.integers() | STRINGS | VALUES,
        "channels": st.lists(STRINGS, max_size=3) | VALUES,
        "channel": STRINGS | VALUES,
        "event_type": STRINGS | VALUES,
        "data": VALUES,
        "events": EVENTS | VALUES,
        "token": STRINGS | VALUES,
        "positions": POSITIONS | VALUES,
        "after": POSITION | VALUES,
        "recover": POSITIONS | VALUES,
        "last": st.integers(-1, 3) | VALUES,
        "limit": st.sampled_from([0, 1, 1000, 1001]) | VALUES,
        "policy": st.sampled_from([*Policy, "drop"]) | VALUES,
        "key": STRINGS | VALUES,
        "other": VALUES,
    },
)  # fmt: skip


def is_strings(value: object) -> bool:
    return isinstance(value, list) and value != [] and all(isinstance(item, str) for item in value)


def is_events(value: object) -> bool:
    return (
        isinstance(value, list)
        and value != []
        and all(isinstance(event, dict) and isinstance(event.get("event_type"), str) for event in value)
    )


def is_key(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 64


def is_position(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("epoch"), str) and is_count(value.get("seq"), 0)


def are_positions(value: object) -> bool:
    return isinstance(value, dict) and all(map(is_position, value.values()))


def is_count(value: object, least: int, most: int = 2**63 - 1) -> bool:
    return type(value) is int and least <= value <= most


def has_its_fields(message: dict[str, Any]) -> bool:
    match message["type"]:
        case "unsubscribe":
            return is_strings(message.get("channels"))
        case "subscribe":
            return (
                is_strings(message.get("channels"))
                and message.get("policy", "latest") in [*Policy]
                and isinstance(message.get("key", ""), str)
                and are_positions(message.get("recover", {}))
                and is_count(message.get("last", 1), 1)
            )
        case "history":
            return (
                isinstance(message.get("channel"), str)
                and is_position(message.get("after", {"epoch": "", "seq": 0}))
                and is_count(message.get("last", 1), 1)
                and is_count(message.get("limit", 1), 1, 1000)
            )
        case "resume":
            return are_positions(message.get("positions"))
        case "authenticate":
            return isinstance(message.get("token"), str)
        case "publish":
            return (
                isinstance(message.get("channel"), str)
                and isinstance(message.get("event_type", ""), str)
                and is_key(message.get("key", ""))
                and ("events" not in message or is_events(message["events"]))
            )
    return True


def expected_refusal(message: Any) -> tuple[ErrorCode, Id] | None:
    """What the contract says of a message, worked out from its parsed form; None: it is good."""
    if not isinstance(message, dict) or not is_id(message.get("id", 0)):
        return ErrorCode.INVALID_MESSAGE, UNSET
    echoed = message.get("id", UNSET)
    if not isinstance(message.get("type"), str):
        return ErrorCode.INVALID_MESSAGE, echoed
    if message["type"] not in MESSAGE_TYPES:
        return ErrorCode.UNKNOWN_TYPE, echoed
    return None if has_its_fields(message) else (ErrorCode.INVALID_MESSAGE, echoed)


@given(MESSAGES | VALUES)
def test_a_message_is_read_or_refused_as_its_parsed_form_says(message: Any) -> None:
    expected = expected_refusal(message)
    if expected is None:
        read = decode(spell(message))
        assert type(read) is MESSAGE_TYPES[message["type"]]
        for name in read.__struct_fields__:
            value = getattr(read, name)
            if isinstance(value, msgspec.Raw):
                assert json.loads(bytes(value)) == message.get(name, {})
            elif name == "limit" and name not in message:
                assert value == 100
            elif name in ("positions", "recover", "after") and value is not UNSET:
                assert msgspec.to_builtins(value) == only_of_positions(message[name])
            elif name == "events" and value is not UNSET:
                assert [event.event_type for event in value] == [event["event_type"] for event in message[name]]
            else:
                assert value == message.get(name, UNSET)
    else:
        error = refusal(spell(message))
        assert (error.code, error.id) == expected
        assert said(error.frame())["type"] == "error"


def only_of_positions(value: dict[str, Any]) -> dict[str, Any]:
    if is_position(value):
        return {"epoch": value["epoch"], "seq": value["seq"]}
    return {name: only_of_positions(position) for name, position in value.items()}


TEXTS = MESSAGES.map(json.dumps) | MESSAGES.map(lambda message: json.dumps(message, ensure_ascii=False))


@given(text=TEXTS, data=st.data())
def test_a_text_is_json_to_us_where_it_is_to_others(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 3))
        text = text[:at] + data.draw(st.text('{}[]",:\\u0dE9.-+ \t\ntrue', max_size=2)) + text[at + cut :]
    try:
        decode(text.encode())
        found_json = True
    except Refusal as error:
        found_json = error.code is not ErrorCode.INVALID_JSON
    assert found_json == is_json(text)


@given(
    st.binary()
    | st.builds(lambda text, garbage: text.encode()[: -len(garbage) - 1] + garbage, TEXTS, st.binary(max_size=3))
)
def test_no_bytes_make_it_raise_anything_but_a_refusal(payload: bytes) -> None:
    try:
        kind = type(decode(payload)).__name__
    except Refusal as error:
        kind = said(error.frame())["type"]
    assert kind in {"error", *(known.__name__ for known in MESSAGE_TYPES.values())}


# What the server says


def test_a_reply_has_its_type_and_id_first() -> None:
    assert list(said(reply("pong", 0, timestamp="t")).items()) == [("type", "pong"), ("id", 0), ("timestamp", "t")]
    assert list(said(reply("pong", "", timestamp="t"))) == ["type", "id", "timestamp"]
    assert list(said(reply("ping", timestamp="t"))) == ["type", "timestamp"]


@given(
    kind=st.text(),
    id=st.integers(-(2**53), 2**53) | st.text(max_size=64) | st.just(UNSET),
    fields=st.dictionaries(st.text(), VALUES),
)
def test_a_reply_says_what_it_was_given(kind: str, id: Id, fields: dict[str, Any]) -> None:  # noqa: A002
    fields = {name: value for name, value in fields.items() if name not in ("type", "kind", "id")}
    assert said(reply(kind, id, **fields)) == {"type": kind} | ({} if id is UNSET else {"id": id}) | fields


def test_an_error_says_what_is_known_of_it() -> None:
    error = Refusal(ErrorCode.RATE_LIMITED, "too many", id="a", retry_after=0.42, index=0)
    assert str(error) == "too many"
    assert list(said(error.frame()).items()) == [
        ("type", "error"),
        ("id", "a"),
        ("code", "rate_limited"),
        ("message", "too many"),
        ("retry_after", 0.42),
        ("index", 0),
    ]
    assert said(Refusal(ErrorCode.INTERNAL, "no").frame()) == {"type": "error", "code": "internal", "message": "no"}


def test_text_that_is_no_json_is_answered_without_an_id() -> None:
    assert said(refusal('{"type":"ping","id":1').frame()) == {
        "type": "error",
        "code": "invalid_json",
        "message": "Invalid JSON format",
    }


DENIED, UNKNOWN = ErrorCode.PERMISSION_DENIED, ErrorCode.UNKNOWN_CHANNEL


@pytest.mark.parametrize(
    ("denied", "message"),
    [
        ({"logs": DENIED}, "Permission denied for channels: logs"),
        ({"nope": UNKNOWN}, "Unknown channels: nope"),
        ({"nope": UNKNOWN, "logs": DENIED}, "Permission denied for channels: logs; unknown channels: nope"),
        (
            {"b": UNKNOWN, "logs": DENIED, "a": UNKNOWN, "actions": DENIED},
            "Permission denied for channels: logs, actions; unknown channels: b, a",
        ),
    ],
)
def test_refused_channels_are_told_with_reasons_in_the_order_asked_for(denied: dict[str, str], message: str) -> None:
    fields = denied_fields(denied)
    assert fields == {"denied": list(denied), "reasons": denied, "message": message}
    assert list(fields["reasons"]) == list(denied)


def test_channels_that_there_is_no_room_for_are_not_said_to_be_unknown() -> None:
    denied = {"a": UNKNOWN, "logs": DENIED, "b": UNKNOWN, "c": UNKNOWN}
    fields = denied_fields(denied, ["a", "c"], 7)
    assert fields["reasons"] == denied
    assert fields["message"] == (
        "Permission denied for channels: logs; unknown channels: b; "
        "no room for channels a, c: the limit max_channels = 7 is reached"
    )


def test_where_nothing_was_refused_nothing_is_told() -> None:
    assert denied_fields({}) == {}


# The sentences about fields


def schema_error(channel: str, data: object) -> msgspec.ValidationError:
    with pytest.raises(msgspec.ValidationError) as caught:
        CHANNELS[channel].check(spell(data))
    return caught.value


@pytest.mark.parametrize(
    ("channel", "data", "sentence"),
    [
        ("signals", {"priority": 256}, "data.priority: expected `int` <= 255"),
        ("connections", {"channels": ["a", 1]}, "data.channels[1]: expected `str`, got `int`"),
        ("connections", {"channels": 5}, "data.channels: expected `array`, got `int`"),
        ("signals", [], "data: expected `object`, got `array`"),
    ],
)
def test_a_sentence_begins_with_the_path_from_the_whole(channel: str, data: object, sentence: str) -> None:
    error = schema_error(channel, data)
    assert field_error(error, "data") == sentence
    assert field_error(error, "events[3].data") == f"events[3].{sentence}"


def test_without_a_prefix_the_path_begins_at_the_value() -> None:
    assert field_error(schema_error("signals", {"priority": -1})) == "priority: expected `int` >= 0"
