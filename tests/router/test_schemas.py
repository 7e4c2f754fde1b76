"""JSON Schemas of channels: what they refuse and in which words, what they never do, and what is no schema."""

import json
import re
import socket
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol import field_error
from router.schemas import Schema, SchemaError

ORDER = {
    "type": "object",
    "required": ["id", "order-no"],
    "properties": {
        "id": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"},
        "order-no": {},
        "total": {"type": "number", "minimum": 0, "multipleOf": 0.5},
        "currency": {"enum": ["EUR", "USD"]},
        "when": {"format": "date-time"},
        "made_up": {"format": "no-such-format"},
        "items": {
            "minItems": 1,
            "items": {"$ref": "#/$defs/item"},
        },
        "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "never": False,
        "tags": {"uniqueItems": True},
        "closed": {"properties": {"z": {}}, "additionalProperties": False},
        "a b.c": {"type": "object", "properties": {'"q"': {"type": "null"}}},
        "k" * 80: {"type": "null"},
    },
    "$defs": {
        "item": {
            "required": ["sku"],
            "properties": {"sku": {"type": "string", "maxLength": 4}, "n": {"type": "integer"}},
        }
    },
}
GOOD = {"id": "DE-1", "order-no": 1}


def schema(source: object) -> Schema:
    return Schema(json.dumps(source))


def verdict(of: Schema, payload: bytes) -> str | None:
    """The sentence about data that do not fit; None: they do."""
    try:
        of.check(msgspec.Raw(payload))
    except msgspec.ValidationError as error:
        return field_error(error, "data")
    return None


def misfit(of: Schema, data: object) -> str:
    """The sentence about data, which do not fit."""
    said = verdict(of, data if isinstance(data, bytes) else json.dumps(data).encode())
    assert said is not None
    return said


ORDERS = schema(ORDER)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"total": 1.5, "currency": "USD"},
        {"total": 2**70},
        {"items": [{"sku": "größ", "n": 3.0}]},
        {"when": "2024-12-29T12:00:00Z", "made_up": "anything"},
        {"either": None, "not mentioned": [1]},
    ],
)
def test_what_fits(more: dict[str, Any]) -> None:
    ORDERS.check(msgspec.Raw(json.dumps(GOOD | more).encode()))
    ORDERS.check(json.dumps(GOOD | more, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"id": 5}, 'data.id: the value is not of type "string"'),
        ({"id": "de-1"}, 'data.id: the value does not match "^[A-Z]{2}-[0-9]+$"'),
        ({"total": -0.5}, "data.total: the value is less than the minimum of 0"),
        ({"total": 0.3}, "data.total: the value is not a multiple of 0.5"),
        ({"currency": "GBP"}, 'data.currency: the value is not one of "EUR" or "USD"'),
        ({"when": "today"}, 'data.when: the value is not a "date-time"'),
        ({"items": []}, "data.items: the value has less than 1 item"),
        ({"items": [{"sku": "a"}, {"n": 1}]}, "data.items[1].sku is missing"),
        ({"items": [{"sku": "a" * 5}]}, "data.items[0].sku: the value is longer than 4 characters"),
        ({"items": [{"sku": "a", "n": 1.5}]}, 'data.items[0].n: the value is not of type "integer"'),
        ({"either": 1}, "data.either: the value is not valid under any of the schemas listed in the 'anyOf' keyword"),
        ({"never": 1}, "data.never: false schema does not allow the value"),
        ({"tags": [1, 1]}, "data.tags: the value has non-unique elements"),
        (
            {"closed": {"x": 1, "z": 1}},
            "data.closed: additional properties are not allowed ('x' was unexpected)",
        ),
        ({"a b.c": {'"q"': 1}}, 'data["a b.c"]["\\"q\\""]: the value is not of type "null"'),
        ({"k" * 80: 1}, f'data["{"k" * 32}…"]: the value is not of type "null"'),
    ],
)
def test_a_misfit_is_told_with_its_field(more: dict[str, Any], sentence: str) -> None:
    assert misfit(ORDERS, GOOD | more) == sentence


def test_a_missing_field_is_told_as_that_of_a_struct() -> None:
    assert misfit(ORDERS, {"order-no": 1}) == "data.id is missing"
    assert misfit(ORDERS, {"id": "DE-1"}) == 'data: "order-no" is a required property'


@pytest.mark.parametrize(
    "source",
    [True, {}, {"$schema": "http://json-schema.org/draft-04/schema#"}, {"type": ["array", "object"]}],
)
@pytest.mark.parametrize(("data", "kind"), [([1], "array"), ("x", "str"), (5, "int"), (None, "null")])
def test_data_are_an_object_whatever_the_schema_says(source: object, data: object, kind: str) -> None:
    assert misfit(schema(source), data) == f"data: expected `object`, got `{kind}`"


def test_a_schema_that_nothing_fits() -> None:
    assert misfit(schema(False), {}) == "data: false schema does not allow the value"


def test_no_value_is_echoed() -> None:
    for more in ({"id": "secret" * 9999}, {"total": -7e300}, {"currency": "secret" * 99}, {"tags": ["secret"] * 99}):
        said = misfit(ORDERS, GOOD | more)
        assert "secret" not in said
        assert "7e" not in said
        assert len(said) < 100


def test_names_of_fields_are_cut() -> None:
    said = misfit(ORDERS, GOOD | {"closed": {"x" * 60_000: 1}})
    assert said.startswith("data.closed: additional properties are not allowed ('xxx")
    assert said.endswith("x…")
    assert len(said) < 300


def test_a_path_is_cut() -> None:
    names = [f"n{number}" for number in range(99)]
    source: Any = {"type": "null"}
    data: Any = 1
    for name in reversed(names):
        source, data = {"properties": {name: source}}, {name: data}
    said = misfit(schema(source), data)
    assert said.startswith("data.n0.n1.n2.")
    assert said.endswith('…: the value is not of type "null"')
    assert len(said) < 300


# Whatever is published


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b'{"id":1e400}', r"data\[\.\.\.\]: number out of range"),
        (b'{"id":%b}' % (b"9" * 5000), r"data\[\.\.\.\]: integer value out of range"),
        (b'{"id":"\xff"}', r"data: cannot be read \('utf-8' codec can't decode .*\)"),
        (b'{"other":"\xff"}', r"data: cannot be read \('utf-8' codec can't decode .*\)"),
        (b'{"\xff":1}', r"data: cannot be read \('utf-8' codec can't decode .*\)"),
        (b'{"id":nope}', r"data: cannot be read \(JSON is malformed: .*\)"),
        (b"", r"data: cannot be read \(Input data was truncated\)"),
        (b'{"id":' + b"[" * 30_000 + b"]" * 30_000 + b"}", r"data: cannot be read \(maximum recursion depth .*\)"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "data.id is missing|data: does not fit the channel's schema"),
    ],
)
def test_what_cannot_be_read_is_a_misfit_too(payload: bytes, sentence: str) -> None:
    assert re.fullmatch(sentence, misfit(ORDERS, payload))


@given(payload=st.binary(max_size=40) | st.binary(max_size=20).map(lambda part: b'{"id":"' + part + b'"}'))
def test_no_bytes_break_it(payload: bytes) -> None:
    said = verdict(ORDERS, payload)
    assert said is None or said.startswith("data")


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
_TYPES: dict[str, Any] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
_schemas = st.recursive(
    st.booleans() | st.sampled_from(sorted(_TYPES)).map(lambda name: {"type": name}),
    lambda inner: (
        st.fixed_dictionaries({"properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3)})
        | st.fixed_dictionaries({"items": inner})
        | st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)})
        | st.fixed_dictionaries({"required": st.lists(st.sampled_from("abc"), unique=True)})
    ),
    max_leaves=6,
)


def fits(source: Any, value: Any) -> bool:
    """What a schema of the few keywords above says, told once more."""
    if isinstance(source, bool):
        return source
    ((keyword, of),) = source.items()
    match keyword:
        case "type":
            return bool(_TYPES[of](value))
        case "properties":
            return not isinstance(value, dict) or all(fits(of[name], value[name]) for name in of.keys() & value.keys())
        case "items":
            return not isinstance(value, list) or all(fits(of, part) for part in value)
        case "anyOf":
            return any(fits(part, value) for part in of)
    return not isinstance(value, dict) or set(of) <= value.keys()


@given(source=_schemas, data=st.dictionaries(st.sampled_from("abc"), _json, max_size=3))
def test_it_says_what_the_schema_says(source: Any, data: dict[str, Any]) -> None:
    made = schema(source)
    if fits(source, data):
        made.check(json.dumps(data).encode())
    else:
        assert re.match(r"data(\.[abc]|\[\d])*(: | is missing$)", misfit(made, data))


# What could keep it busy


def node(reference: str = "#", name: str = "kind", keyword: str = "$ref") -> dict[str, Any]:
    return {"properties": {"of": {keyword: reference}}, "required": [name]}


@pytest.mark.parametrize(
    "source",
    [
        {"anyOf": [node(), node()]},
        {"oneOf": [node(), node(name="other"), node(name="other")]},
        {"allOf": [node(), node()]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [node("#/$defs/a"), node("#/$defs/a")]}}},
        {"$dynamicAnchor": "m", "anyOf": [node("#m", keyword="$dynamicRef"), node("#m", keyword="$dynamicRef")]},
    ],
)
@pytest.mark.parametrize("depth", [2, 200])
def test_data_that_nest_are_soon_judged_by_a_schema_that_refers_to_itself(source: Any, depth: int) -> None:
    good, bad = '{"kind":1}', "{}"
    for _ in range(depth):
        good, bad = f'{{"kind":1,"of":{good}}}', f'{{"kind":1,"of":{bad}}}'
    made = schema(source)
    assert verdict(made, good.encode()) is None
    assert verdict(made, bad.encode()) == "data: does not fit the channel's schema"


def test_a_pattern_takes_linear_time() -> None:
    made = schema({"properties": {"a": {"pattern": "^(a+)+$"}}})
    assert misfit(made, {"a": "a" * 60_000 + "b"}) == 'data.a: the value does not match "^(a+)+$"'


def test_any_thread_may_ask_it() -> None:
    said: set[str] = set()
    ready = threading.Barrier(4)

    def work(number: int) -> None:
        ready.wait()
        for _ in range(300):
            ORDERS.check(json.dumps(GOOD | {"total": number}).encode())
            said.add(misfit(ORDERS, GOOD | {"total": -1 - number}))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {"data.total: the value is less than the minimum of 0"}


# Circles


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, True),
        ({"properties": {"b": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"$ref": "#/$defs/c"}, "c": {}}}, True),
        ({"$ref": "#/$defs/x~1y%20z/allOf/0", "$defs": {"x/y z": {"allOf": [{"type": "object"}]}}}, True),
        ({"properties": {"b": {"properties": {"$ref": {"type": "string"}}}}}, True),
        ({"examples": [{"$id": "a", "id": "b"}]}, True),
        ({"$id": "https://a.example/x", "properties": {"b": {"$ref": "#/$defs/b"}}, "$defs": {"b": {}}}, True),
        ({"properties": {"b": {"$ref": "#"}}}, False),
        ({"properties": {"b": {"$ref": "#/properties/b"}}}, False),
        ({"properties": {"b": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"items": {"$ref": "#/$defs/b"}}}}, False),
        (
            {
                "properties": {"b": {"$ref": "#/$defs/b"}},
                "$defs": {"b": {"items": {"$ref": "#/$defs/c"}}, "c": {"not": {"$ref": "#/$defs/b"}}},
            },
            False,
        ),
        # Where it is not plain to see:
        ({"$id": "https://a.example/x", "properties": {"b": {"$ref": "x#/$defs/b"}}, "$defs": {"b": {}}}, False),
        ({"properties": {"b": {"$ref": "#b"}}, "$defs": {"b": {"$anchor": "b"}}}, False),
        ({"properties": {"b": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}}, False),
        ({"properties": {"b": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"$id": "https://a.example/b"}}}, False),
        ({"examples": [{"$ref": "#/nowhere"}]}, False),
    ],
)
def test_the_field_is_told_where_a_schema_does_not_refer_to_itself(more: dict[str, Any], told: bool) -> None:
    properties = {"a": {"type": "null"}, **more.get("properties", {})}
    said = misfit(schema({**more, "properties": properties}), {"a": 1})
    assert said == ('data.a: the value is not of type "null"' if told else "data: does not fit the channel's schema")


# What is no schema


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        ('{"type":\n"object"', "not JSON: Expecting ',' delimiter: line 2 column 9 (char 17)"),
        ('{"minimum": NaN}', "not JSON: NaN is not a JSON number"),
        ("[]", "a schema is an object, or true or false"),
        ('"{}"', "a schema is an object, or true or false"),
        ('{"minimum": "0"}', 'at /minimum: the value is not of type "number"'),
        ('{"properties": {"a": {"maxLength": -1}}}', "at /properties/a/maxLength: the value is less than the minimum"),
        ('{"pattern": "(a"}', 'at /pattern: the value is not a "regex"'),
        ('{"$ref": "#/$defs/a"}', "Pointer '/$defs/a' does not exist"),
        ('{"$ref": "#a"}', "Anchor 'a' does not exist"),
        ('{"$schema": "https://a.example/meta"}', "Unknown meta-schema: 'https://a.example/meta'"),
    ],
)  # fmt: skip
def test_what_is_no_schema_is_told(text: str, reason: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Schema(text)
    assert str(caught.value).startswith(reason)
    assert len(str(caught.value)) < 400


def test_a_text_that_nests_too_deeply_is_no_schema() -> None:
    for text in ("[" * 100_000, '{"not":' * 300 + "true" + "}" * 300):
        with pytest.raises(SchemaError):
            Schema(text)


@pytest.mark.parametrize("pattern", ["(?=a)", "(?<!a)b", r"(a)\1"])
def test_a_pattern_that_may_take_exponential_time_is_refused(pattern: str) -> None:
    for source in ({"pattern": pattern}, {"patternProperties": {pattern: True}}):
        with pytest.raises(SchemaError, match=r"linear time, without look-around and back-references$"):
            schema(source)


def test_a_long_text_is_cut() -> None:
    with pytest.raises(SchemaError) as caught:
        schema({"$ref": "#/" + "a" * 9999})
    assert len(str(caught.value)) < 300


def test_nothing_is_fetched(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        host, port = listener.getsockname()
        for reference in (other.as_uri(), str(other), "other.json", f"http://{host}:{port}/a.json"):
            with pytest.raises(SchemaError, match="nothing is fetched: what it refers to must be"):
                schema({"$ref": reference, "$id": (tmp_path / "one.json").as_uri()})
            with pytest.raises(SchemaError, match="nothing is fetched: what it refers to must be"):
                schema({"$ref": reference})
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_it_keeps_its_text() -> None:
    assert json.loads(bytes(ORDERS.document)) == ORDER
