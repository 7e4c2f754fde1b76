"""The filter language: every operator, every corner that the contract leaves open, and every bound."""

from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from router import filters
from router.filters import Candidate, Filter, FilterError, Line

Json = Any


def event(data: Json = None, *, event_type: str = "signal.input.text", seq: int = 42) -> Candidate:
    encoded = Raw(msgspec.json.encode({} if data is None else data))
    return Candidate("signals", "2024-12-29T12:00:00.123Z", event_type, seq, encoded)


def matches(source: Json, data: Json = None) -> bool:
    """Whether a filter matches an event; its explanation must agree."""
    made, candidate = filters.compile(source), event(data)
    answer = made.matches(candidate)
    lines = made.explain(candidate)
    assert answer is all(line.holds for line in lines if not line.within)
    return answer


def on_a(operator: str, operand: Json, value: Json) -> bool:
    return matches({"data.a": {operator: operand}}, {"a": value})


def refusal(source: Json) -> str:
    with pytest.raises(FilterError) as caught:
        filters.compile(source)
    return str(caught.value)


NOTHING: dict[str, Json] = {}
BIG = 2**53


# Operators


@pytest.mark.parametrize(
    ("value", "operand"),
    [
        (1, 1),
        (1, 1.0),
        (0, -0.0),
        (BIG + 1, BIG + 1),
        (10**400, 10**400),
        ("a", "a"),
        ("", ""),
        (None, None),
        (True, True),
        (False, False),
        ([], []),
        ([1, ["a"]], [1.0, ["a"]]),
        ({}, {}),
        ({"x": 1, "y": [True]}, {"y": [True], "x": 1.0}),
    ],
)
def test_equal_values_satisfy_eq_and_not_ne(value: Json, operand: Json) -> None:
    assert on_a("$eq", operand, value)
    assert matches({"data.a": operand}, {"a": value})
    assert not on_a("$ne", operand, value)
    assert on_a("$in", ["no", operand], value)
    assert not on_a("$nin", ["no", operand], value)
    assert on_a("$contains", operand, ["no", value])


@pytest.mark.parametrize(
    ("value", "operand"),
    [
        (1, 2),
        (1, "1"),
        (1, True),
        (True, 1),
        (0, False),
        (False, 0),
        (True, 1.0),
        (0, None),
        (None, 0),
        (False, None),
        ("", None),
        (BIG, BIG + 1),
        (BIG + 1, float(BIG)),
        ("a", "A"),
        ([1], [True]),
        ([True], [1]),
        ([1], [1, 1]),
        ([1, 2], [2, 1]),
        ([], {}),
        ({"x": 1}, {"x": True}),
        ({"x": [0]}, {"x": [False]}),
        ({"x": 1}, {"x": 1, "y": None}),
        ({"x": 1, "y": None}, {"x": 1}),
        ([1], 1),
    ],
)
def test_other_values_satisfy_ne_and_not_eq(value: Json, operand: Json) -> None:
    assert on_a("$ne", operand, value)
    assert not on_a("$eq", operand, value)
    assert not on_a("$in", [operand], value)
    assert not on_a("$in", ["no", operand], value)
    assert on_a("$nin", [operand], value)
    assert not on_a("$contains", operand, [value])


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (1, 2),
        (1, 1.5),
        (-1.5, 0),
        (BIG, BIG + 1),
        (float(BIG), BIG + 1),
        (1.5, 10**400),
        ("a", "b"),
        ("", "a"),
        ("a", "ab"),
        ("Z", "a"),
        ("9", "a"),
        ("\uffff", "\U00010000"),  # by code point: UTF-16's order is the other way round
    ],
)
def test_orders_of_two_that_differ(less: Json, more: Json) -> None:
    for operator, holds in {"$gt": False, "$gte": False, "$lt": True, "$lte": True}.items():
        assert on_a(operator, more, less) is holds
        assert on_a(operator, less, more) is not holds


@pytest.mark.parametrize(("value", "operand"), [(1, 1.0), (0.0, 0), ("a", "a")])
def test_orders_of_equals(value: Json, operand: Json) -> None:
    assert on_a("$gte", operand, value)
    assert on_a("$lte", operand, value)
    assert not on_a("$gt", operand, value)
    assert not on_a("$lt", operand, value)


@pytest.mark.parametrize("operator", ["$gt", "$gte", "$lt", "$lte"])
@pytest.mark.parametrize(
    ("value", "operand"),
    [("1", 1), (1, "1"), (True, 1), (True, 0), (False, 1), (None, 1), (None, "a"), ([1], 1), (["a"], "a"), ({}, "a")],
)
def test_orders_of_different_kinds_are_false(operator: str, value: Json, operand: Json) -> None:
    assert not on_a(operator, operand, value)


@pytest.mark.parametrize("value", [1, 1.0, "a", None, True, [2], {"x": 2.0}])
def test_in_finds_a_value_of_any_kind(value: Json) -> None:
    choices = [1, "a", None, True, [2], {"x": 2}]
    assert on_a("$in", choices, value)
    assert not on_a("$nin", choices, value)
    assert not on_a("$in", [], value)
    assert on_a("$nin", [], value)


@pytest.mark.parametrize("value", [2, "b", False, 0, [2, 2], [True], {"x": "2"}, {}, ["a"]])
def test_in_finds_nothing_else(value: Json) -> None:
    assert not on_a("$in", [1, "a", None, True, [2], {"x": 2}], value)


@pytest.mark.parametrize("value", [1, None, True, ["a"], {"a": "a"}, "b"])
def test_in_among_strings_alone_finds_no_other_value(value: Json) -> None:
    assert not on_a("$in", ["a", "c"], value)
    assert on_a("$in", ["a", "c"], "c")


@pytest.mark.parametrize(
    ("operand", "value", "holds"),
    [
        ("in", "signal.input", True),
        ("", "signal", True),
        ("", "", True),
        ("In", "signal.input", False),
        ("a", ["b", "a"], True),
        ("a", ["ab"], False),
        ("a", [["a"]], False),
        ("", [], False),
        ("a", {"a": 1}, False),
        ("a", None, False),
        ("1", 123, False),
        (1, "123", False),
        (1, [1.0], True),
        (1, [True, 1], True),
        (1, 1, False),
        (None, [None], True),
        (None, None, False),
        (False, [0], False),
        (False, [0, False], True),
        ([1], [[1.0]], True),
        ([1], [1], False),
        ({"x": 1}, [{"x": 1}], True),
        ({"x": 1}, [{"x": True}], False),
        ({"x": 1}, {"x": 1}, False),
    ],
)
def test_contains(operand: Json, value: Json, holds: bool) -> None:
    assert on_a("$contains", operand, value) is holds


@pytest.mark.parametrize(
    ("pattern", "text", "holds"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("*", "any\nthing.é", True),
        ("**", "a", True),
        ("a", "a", True),
        ("a", "ab", False),
        ("a*", "a", True),
        ("a*", "ab.c", True),
        ("a*", "ba", False),
        ("*a", "ba", True),
        ("*a", "ab", False),
        ("*a*", "bab", True),
        ("*a*", "bb", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("ab*ba", "aba", False),
        ("a*b*c", "abc", True),
        ("a*b*c", "a.b.b.c", True),
        ("a*b*c", "acb", False),
        ("a*bc*cd*e", "abcde", False),
        ("a*b*b", "ab", False),
        ("*ab*ab*", "abab", True),
        ("*ab*ab*", "aba", False),
        ("?", "a", True),
        ("?", "é", True),
        ("?", "😀", True),
        ("?", "\n", True),
        ("?", "", False),
        ("?", "ab", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("?*", "", False),
        ("*?", "abc", True),
        ("*.?", "a.b", True),
        ("*.?", "a.bc", False),
        ("a.c?", "abcd", False),
        ("a\x00?", "a\x00b", True),
        ("[ab]", "a", False),
        ("(?:a)?", "a", False),
        ("signal.input.*", "signal.input.text.de", True),
        ("signal.input.*", "signal.input", False),
    ],
)
def test_wildcard_takes_the_whole_string(pattern: str, text: str, holds: bool) -> None:
    assert on_a("$wildcard", pattern, text) is holds
    assert matches({"data.a": {"$not": {"$wildcard": pattern}}}, {"a": text}) is not holds


@pytest.mark.parametrize(
    ("pattern", "text", "holds"),
    [
        ("b", "abc", True),
        ("^b", "abc", False),
        ("c$", "abc", True),
        ("^$", "", True),
        ("", "abc", True),
        ("(?i)B", "abc", True),
        ("B", "abc", False),
        ("a.c", "a\nc", False),
        ("(?s)a.c", "a\nc", True),
        ("a$", "a\n", False),
        (r"^\pL+$", "äß", True),
        (r"\bé", "é", False),  # \b knows ASCII only
        ("^.$", "😀", True),
        ("[[:digit:]]{2}", "a12", True),
        ("(a)(b)", "ab", True),
    ],
)
def test_regex_is_re2_and_found_anywhere(pattern: str, text: str, holds: bool) -> None:
    assert on_a("$regex", pattern, text) is holds


@pytest.mark.parametrize("value", [5, None, True, ["5"], {"5": "5"}, 5.5])
@pytest.mark.parametrize("operator", ["$wildcard", "$regex"])
@pytest.mark.parametrize("pattern", ["*5*", "5*", "5", "5?", ".*"])
def test_patterns_match_strings_alone(operator: str, pattern: str, value: Json) -> None:
    if operator == "$regex":
        pattern = pattern.lstrip("*")
    assert not on_a(operator, pattern, value)


@pytest.mark.parametrize("value", [1, None, False, "", [], {}])
def test_what_is_there_exists_whatever_it_is(value: Json) -> None:
    assert on_a("$exists", True, value)
    assert not on_a("$exists", False, value)


@pytest.mark.parametrize(
    ("operator", "operand", "holds"),
    [
        ("$eq", None, False),
        ("$eq", 1, False),
        ("$eq", "", False),
        ("$eq", [], False),
        ("$eq", {}, False),
        ("$ne", None, True),
        ("$ne", 1, True),
        ("$ne", [], True),
        ("$gt", 0, False),
        ("$gte", "", False),
        ("$lt", 0, False),
        ("$lte", "a", False),
        ("$in", [None], False),
        ("$in", ["a"], False),
        ("$in", [], False),
        ("$nin", [None], True),
        ("$nin", ["a"], True),
        ("$nin", [], True),
        ("$contains", "", False),
        ("$contains", None, False),
        ("$wildcard", "*", False),
        ("$wildcard", "", False),
        ("$wildcard", "?", False),
        ("$regex", "", False),
        ("$exists", True, False),
        ("$exists", False, True),
    ],
)
@pytest.mark.parametrize(
    "path", ["data.a", "data.b.c", "data.list.2", "data.text.0", "nowhere", "event_type.0", "seq.x"]
)
def test_a_missing_path_satisfies_only_ne_nin_and_exists_false(
    path: str, operator: str, operand: Json, holds: bool
) -> None:
    data = {"b": {}, "list": [1, 2], "text": "abc"}
    assert matches({path: {operator: operand}}, data) is holds
    assert matches({path: {"$not": {operator: operand}}}, data) is not holds
    assert matches({"$not": {path: {operator: operand}}}, data) is not holds


# Paths


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("channel", "signals"),
        ("timestamp", "2024-12-29T12:00:00.123Z"),
        ("event_type", "signal.input.text"),
        ("seq", 42),
        ("data", {"a": {"b": [10, {"c": 20}], "0": "zero"}, "": 1}),
        ("data.a.b.0", 10),
        ("data.a.b.1.c", 20),
        ("data.a.0", "zero"),
    ],
)
def test_a_path_starts_at_the_event(path: str, value: Json) -> None:
    data = {"a": {"b": [10, {"c": 20}], "0": "zero"}, "": 1}
    assert matches({path: {"$eq": value}}, data)
    assert not matches({path: {"$ne": value}}, data)


@pytest.mark.parametrize(
    "path", ["data.b.-1", "data.b.00", "data.b.+0", "data.b.٠", "data.b.1", "data.b.9999999999", "data.b." + "9" * 5000]
)
def test_only_a_plain_number_within_it_indexes_a_list(path: str) -> None:
    assert not matches({path: {"$exists": True}}, {"b": [1]})
    assert matches({"data.b.0": {"$exists": True}}, {"b": [1]})


@pytest.mark.parametrize("key", ["-1", "00", "0", "$gt", "with space", "ключ", "v", "event", '"]) or True or ("', "\n"])
def test_any_key_without_a_dot_is_reached(key: str) -> None:
    assert matches({f"data.{key}": 1}, {key: 1})
    assert matches({f"data.x.{key}": 1}, {"x": {key: 1}})
    assert not matches({f"data.{key}": 1}, {key: 2})


def test_a_key_with_a_dot_is_not_reached() -> None:
    assert not matches({"data.a.b": 1}, {"a.b": 1})


@pytest.mark.parametrize("path", ["", ".", "data.", ".data", "data..a", "data.a."])
def test_a_path_with_an_empty_part_is_refused(path: str) -> None:
    assert refusal({path: 1}) == f'filter: the path "{path}" has an empty part'


# How conditions join


def test_several_paths_and_several_operators_must_all_hold() -> None:
    source = {"data.a": {"$gt": 1, "$lt": 5, "$ne": 3}, "event_type": {"$wildcard": "signal.*"}, "seq": 42}
    assert matches(source, {"a": 2})
    for value in (1, 3, 5):
        assert not matches(source, {"a": value})
    assert not matches(source | {"seq": 41}, {"a": 2})
    assert not matches(source | {"event_type": "x"}, {"a": 2})


def test_and_or_not() -> None:
    assert matches({"$and": [{"data.a": 1}, {"data.b": 2}]}, {"a": 1, "b": 2})
    assert not matches({"$and": [{"data.a": 1}, {"data.b": 2}]}, {"a": 1, "b": 3})
    assert matches({"$or": [{"data.a": 1}, {"data.b": 2}]}, {"b": 2})
    assert not matches({"$or": [{"data.a": 1}, {"data.b": 2}]}, {"a": 2, "b": 1})
    assert matches({"$not": {"data.a": 1, "data.b": 2}}, {"a": 1, "b": 3})
    assert not matches({"$not": {"data.a": 1, "data.b": 2}}, {"a": 1, "b": 2})
    assert matches({"data.a": {"$not": {"$gt": 1, "$lt": 5}}}, {"a": 5})
    assert not matches({"data.a": {"$not": {"$gt": 1, "$lt": 5}}}, {"a": 2})
    assert not matches({"data.a": {"$not": {"$not": {"$gt": 1}}}}, {"a": 1})
    assert matches({"$or": [{"data.a": 1}], "$and": [{"data.b": 2}], "$not": {"data.c": 3}}, {"a": 1, "b": 2, "c": 4})


@pytest.mark.parametrize("value", range(5))
def test_the_value_looked_up_last_is_used_again_only_where_it_is_certain(value: int) -> None:
    data = {"a": value, "b": 4 - value}
    assert matches({"$or": [{"data.a": 0}, {"data.b": 0}, {"data.a": 2}]}, data) is (value in (0, 2, 4))
    source: Json = {"$and": [{"$or": [{"data.a": 1}, {"data.b": 1}]}, {"data.b": {"$gt": 1}}]}
    assert matches(source, data) is (value == 1)
    source = {"$and": [{"$not": {"data.a": {"$gt": 1}, "data.b": 0}}, {"data.a": {"$gt": 2}}]}
    assert matches(source, data) is (value == 3)


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ({}, True),
        ({"$and": [{}]}, True),
        ({"$or": [{}]}, True),
        ({"$not": {}}, False),
        ({"$or": [{"data.a": 1}, {}]}, True),
        ({"$and": [{"data.a": 1}, {}]}, False),
        ({"$or": [{}] * 32}, True),
        ({"$and": [{}] * 31 + [{"seq": 42}]}, True),
    ],
)
def test_the_empty_filter_matches_all_wherever_it_stands(source: Json, holds: bool) -> None:
    assert matches(source) is holds


@pytest.mark.parametrize(
    ("operand", "value", "holds"),
    [({}, {}, True), ({}, {"x": 1}, False), ({"x": 1}, {"x": 1}, True), ({"x": {"$gt": 1}}, {"x": {"$gt": 1}}, True)],
)
def test_a_bare_object_is_a_value(operand: Json, value: Json, holds: bool) -> None:
    assert matches({"data.a": operand}, {"a": value}) is holds


def test_what_looks_like_an_operator_within_an_operand_is_data() -> None:
    assert on_a("$eq", {"$gt": 1}, {"$gt": 1})
    assert not on_a("$eq", {"$gt": 1}, 2)
    assert on_a("$in", [{"$gt": 1}], {"$gt": 1})


# What is refused

OPERATORS = "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $contains, $wildcard, $regex, $exists, $not"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ([], "filter must be an object, not []"),
        ("data.a", 'filter must be an object, not "data.a"'),
        (None, "filter must be an object, not null"),
        (True, "filter must be an object, not true"),
        ({"$nor": [{"a": 1}]}, "filter.$nor: unknown operator (among paths: $and, $or, $not)"),
        ({"$": 1}, "filter.$: unknown operator (among paths: $and, $or, $not)"),
        ({"$gt": 1}, 'filter.$gt: an operator needs a path, for example {"data.x": {"$gt": …}}'),
        ({"$not": {"$gt": 1}}, 'filter.$not.$gt: an operator needs a path, for example {"data.x": {"$gt": …}}'),
        ({"$and": []}, "filter.$and must be a non-empty list of filters, not []"),
        ({"$or": {"a": 1}}, 'filter.$or must be a non-empty list of filters, not {"a":1}'),
        ({"$or": [{}, 5]}, "filter.$or[1] must be an object, not 5"),
        ({"$not": [{"a": 1}]}, 'filter.$not must be an object, not [{"a":1}]'),
        ({"a": {"$near": 1}}, f"filter.a.$near: unknown operator (under a path: {OPERATORS})"),
        ({"a": {"$gt": 1, "lt": 5}}, f"filter.a.lt: unknown operator (under a path: {OPERATORS})"),
        ({"a": {"$not": {"lt": 5}}}, f"filter.a.$not.lt: unknown operator (under a path: {OPERATORS})"),
        ({"a": {"$and": [{"$gt": 1}]}}, "filter.a.$and: $and stands among paths, not under one"),
        ({"a": {"$or": [{"$gt": 1}]}}, "filter.a.$or: $or stands among paths, not under one"),
        ({"a": {"$not": 5}}, "filter.a.$not must be a set of operators, not 5"),
        ({"a": {"$not": {}}}, "filter.a.$not must be a set of operators, not {}"),
        ({"a": {"$gt": []}}, "filter.a.$gt must be a number or a string, not []"),
        ({"a": {"$gte": True}}, "filter.a.$gte must be a number or a string, not true"),
        ({"a": {"$lt": None}}, "filter.a.$lt must be a number or a string, not null"),
        ({"a": {"$lte": {}}}, "filter.a.$lte must be a number or a string, not {}"),
        ({"a": {"$in": 5}}, "filter.a.$in must be a list, not 5"),
        ({"a": {"$nin": "ab"}}, 'filter.a.$nin must be a list, not "ab"'),
        ({"a": {"$wildcard": 5}}, "filter.a.$wildcard must be a string, not 5"),
        ({"a": {"$regex": ["x"]}}, 'filter.a.$regex must be a string, not ["x"]'),
        ({"a": {"$exists": "x"}}, 'filter.a.$exists must be true or false, not "x"'),
        ({"a": {"$exists": 1}}, "filter.a.$exists must be true or false, not 1"),
        ({"a": {"$regex": "("}}, """filter.a.$regex: the pattern "(" cannot be used: missing ): ("""),
        (
            {"a": {"$regex": "(" * 999}},
            f"""filter.a.$regex: the pattern "{"(" * 39}… cannot be used: missing ): {"(" * 69}""",
        ),
        ({"a": {"$regex": "é("}}, """filter.a.$regex: the pattern "é(" cannot be used: missing ): é("""),
        ({"a": {"$in": "x" * 38}}, f'filter.a.$in must be a list, not "{"x" * 38}"'),
        ({"a": {"$in": "x" * 39}}, f'filter.a.$in must be a list, not "{"x" * 39}…'),
        ({"a": {"$gt": ["x" * 90]}}, f'filter.a.$gt must be a number or a string, not ["{"x" * 38}…'),
        ({"a" * 90 + "b" * 90: {"$in": 5}}, f"filter.{'a' * 53}…{'b' * 55}.$in must be a list, not 5"),
    ],
)
def test_a_filter_that_is_none_is_refused_with_its_place_and_value(source: Json, sentence: str) -> None:
    assert refusal(source) == sentence
    assert refusal(msgspec.json.encode(source)) == sentence


@pytest.mark.parametrize("pattern", ["a(?=b)", "(a)\\1", "a{1001}", "[b-a]", "*a", "\\Z"])
def test_a_regex_that_re2_does_not_know_is_refused(pattern: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert refusal({"a": {"$regex": pattern}}).startswith("filter.a.$regex: the pattern ")
    assert capfd.readouterr() == ("", "")  # a client's mistake is not for the server's log


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{}x",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b"[" * 30_000,
        b"[" * 30_000 + b"]" * 30_000,
    ],
)
def test_a_text_that_is_no_json_is_refused(text: bytes) -> None:
    assert refusal(text).startswith("filter: not valid JSON (")
    assert refusal(Raw(text)).startswith("filter: not valid JSON (")


@pytest.mark.parametrize("source", [{"a": float("nan")}, {"a": float("inf")}, {"a": {1}}, {("a",): 1}, object()])
def test_an_object_that_is_no_json_is_refused(source: Json) -> None:
    assert refusal(source).startswith("filter: not a JSON value (")


def test_an_object_that_holds_itself_is_refused() -> None:
    source: dict[str, Json] = {}
    source["a"] = source
    assert refusal(source).startswith("filter: not a JSON value (")


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}',
        b'{"b":2,"a":{"$gt":1},"a":{"$lt":5}}',
        b'{"b":{"$gt":1,"a":{"x":1},"a":1}}',
        b'{"$or":[{},{"a":1,"\\u0061":1}]}',
    ],
)
def test_a_key_that_stands_twice_is_refused(text: bytes) -> None:
    assert refusal(text) == 'filter: the key "a" stands twice in one object; put the two into $and'


# Limits


def test_32_nodes_are_read_and_33_are_refused() -> None:
    of_30: Json = {f"data.a{number}": {"$gt": number} for number in range(15)}
    assert matches(of_30 | {"data.b": {"$gt": 1}}, {"b": 2} | {f"a{number}": 100 for number in range(15)})
    sentence = "filter: more than 32 nodes (a path or an operator each)"
    assert refusal(of_30 | {"data.b": {"$gt": 1, "$lt": 2}}) == sentence
    assert refusal({"$and": [of_30, {"data.b": 1}, {"data.c": 1}]}) == sentence
    filters.compile({"$and": [of_30, {"data.b": 1}]})
    filters.compile({"$or": [{"data.b": 1}] * 31})
    assert refusal({"$or": [{"data.b": 1}] * 32}) == sentence
    assert refusal({"$or": [{}] * 33}) == "filter.$or: more than 32 filters in a list"
    filters.compile({f"data.a{number}": number for number in range(32)})
    assert refusal({f"data.a{number}": number for number in range(33)}) == sentence


def nots(levels: int, innermost: Json) -> Json:
    return {"$not": nots(levels - 1, innermost)} if levels else innermost


@pytest.mark.parametrize(
    ("eight", "nine"),
    [
        (nots(6, {"data.a": {"$gt": 1}}), nots(7, {"data.a": {"$gt": 1}})),
        (nots(7, {"data.a": 1}), nots(8, {"data.a": 1})),
        (nots(8, {}), nots(9, {})),
        ({"data.a": nots(6, {"$gt": 1})}, {"data.a": nots(7, {"$gt": 1})}),
        (nots(5, {"$or": [{"$and": [{"data.a": 1}]}]}), nots(5, {"$or": [{"$and": [{"data.a": {"$gt": 1}}]}]})),
    ],
)
def test_8_levels_are_read_and_9_are_refused(eight: Json, nine: Json) -> None:
    filters.compile(eight)
    assert refusal(nine).endswith(": deeper than 8 levels (a path or an operator each)")


def nested(levels: int) -> Json:
    return [nested(levels - 1)] if levels else 1


def test_an_operand_has_no_levels_but_may_not_be_of_any_depth() -> None:
    value = nested(62)
    assert on_a("$eq", value, value)
    assert not on_a("$eq", value, nested(63))
    assert on_a("$in", [nested(61), 5], nested(61))
    assert refusal({"data.a": {"$eq": nested(63)}}) == "filter: its lists and objects nest deeper than 64"
    filters.compile({"data.a": {"$eq": nested(62)}})


@pytest.mark.parametrize("depth", [80, 300, *range(900, 1000)])
def test_no_depth_of_a_filter_breaks_its_refusal(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    assert refusal(b'{"data.a":{"$gt":' + deep + b"}}").startswith("filter: ")
    assert refusal(deep).startswith("filter: ")


@pytest.mark.parametrize("operator", ["$wildcard", "$regex"])
def test_a_pattern_of_1000_characters_is_read_and_a_longer_one_refused(operator: str) -> None:
    assert on_a(operator, "a" * 1000, "a" * 1000)
    assert refusal({"data.a": {operator: "a" * 1001}}) == (
        f"""filter.data.a.{operator}: the pattern "{"a" * 39}… cannot be used: """
        "it has 1001 characters, at most 1000 are read"
    )


def test_the_patterns_of_a_filter_are_bounded_together() -> None:
    assert matches({"data.a": {"$regex": r"\pL"}, "data.b": {"$wildcard": "*?*"}}, {"a": "é", "b": "x"})
    too_large = "cannot be used: too large, all of a filter's may take 1500 RE2 instructions"
    assert refusal({"data.a": {"$regex": r"\pL"}, "data.b": {"$regex": r"\pL"}}).endswith(too_large)
    assert refusal({"data.a": {"$regex": r"\pL"}, "data.b": {"$wildcard": "?" * 100}}).endswith(too_large)
    assert refusal({"data.a": {"$regex": r"\pL\pL"}}).endswith(too_large)
    filters.compile({"data.a": {"$wildcard": "*" + "a" * 900}, "data.b": {"$wildcard": "a*b*" * 200}})
    assert refusal({"data.a": {"$regex": r"[\pL\pN\pP]" * 90}}).endswith("pattern too large - compile failed")


@pytest.mark.parametrize(
    "source",
    [
        {"$wildcard": "*a" * 400 + "*b"},
        {"$wildcard": "*a?" * 60 + "*b"},
        {"$wildcard": "?" * 100 + "*" + "a" * 100 + "b"},
        {"$regex": "(a+)+$b"},
        {"$regex": "(a*)*b"},
        {"$regex": "(a?){200}a{200}b"},
        {"$regex": "(a|aa)+b"},
    ],
)
def test_no_pattern_takes_more_time_than_its_text_is_long(source: Json) -> None:
    assert not matches({"data.a": source}, {"a": "a" * 60_000})  # with backtracking this would never end


# The key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"data.a": 1, "data.b": 2}, {"data.b": 2, "data.a": 1}),
        ({"data.a": 1}, {"data.a": 1.0}),
        ({"data.a": 1}, {"data.a": {"$eq": 1}}),
        ({"data.a": {"$gt": 1, "$lt": 5}}, {"data.a": {"$lt": 5.0, "$gt": 1.0}}),
        ({"data.a": {"$gt": 1, "$lt": 5}}, {"$and": [{"data.a": {"$lt": 5}}, {"data.a": {"$gt": 1}}]}),
        ({"$or": [{"seq": 1}, {"seq": 2}]}, {"$or": [{"seq": 2}, {"seq": 1}, {"seq": 2}]}),
        ({"$or": [{"$or": [{"seq": 1}, {"seq": 2}]}, {"seq": 3}]}, {"$or": [{"seq": 3}, {"seq": 2}, {"seq": 1}]}),
        ({"$and": [{"seq": 1}]}, {"seq": 1}),
        ({"$or": [{"seq": 1}]}, {"seq": 1}),
        ({"$and": [{}]}, {}),
        ({"data.a": {"$in": [1, "a", None]}}, {"data.a": {"$in": [None, "a", 1.0, "a"]}}),
        ({"data.a": {"$nin": [[1], {"x": 1, "y": 2}]}}, {"data.a": {"$nin": [{"y": 2.0, "x": 1}, [1.0]]}}),
        ({"data.a": {"$not": {"$gt": 1}}}, {"$not": {"data.a": {"$gt": 1}}}),
    ],
)
def test_filters_of_one_meaning_are_equal(one: Json, other: Json) -> None:
    first, second = filters.compile(one), filters.compile(msgspec.json.encode(other))
    assert first == second
    assert hash(first) == hash(second)
    assert first.key == second.key
    assert len({first, second}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"data.a": 1}, {"data.a": True}),
        ({"data.a": 0}, {"data.a": False}),
        ({"data.a": -1}, {"data.a": -2}),  # of one hash
        ({"data.a": 1}, {"data.a": "1"}),
        ({"data.a": 1}, {"data.a": {"$gte": 1}}),
        ({"data.a": 1}, {"data.b": 1}),
        ({"data.a": [1, 2]}, {"data.a": [2, 1]}),
        ({"data.a": [1]}, {"data.a": [True]}),
        ({"data.a": []}, {"data.a": {"x": 1}}),
        ({"data.a": {"x": 1}}, {"data.a": [["x", 1]]}),
        ({"data.a": ["bool", True]}, {"data.a": True}),
        ({"data.a": {"$in": [1]}}, {"data.a": {"$in": [True]}}),
        ({"data.a": {"$in": [1]}}, {"data.a": {"$nin": [1]}}),
        ({"data.a": {"$exists": True}}, {"data.a": {"$exists": False}}),
        ({"data.a": {"$wildcard": "a"}}, {"data.a": {"$regex": "a"}}),
        ({"$or": [{"seq": 1}, {"seq": 2}]}, {"$and": [{"seq": 1}, {"seq": 2}]}),
        ({"$not": {"seq": 1}}, {"seq": 1}),
        ({"$not": {}}, {}),
    ],
)
def test_filters_of_other_meanings_are_not(one: Json, other: Json) -> None:
    assert filters.compile(one) != filters.compile(other)
    assert filters.compile(one).key != filters.compile(other).key


def test_a_filter_equals_nothing_else() -> None:
    made = filters.compile({})
    assert made != made.key
    assert made != {}


# Data


@pytest.mark.parametrize(
    "source", [{}, {"event_type": "x"}, {"seq": {"$gt": 1}}, {"channel": "a", "timestamp": {"$lt": "b"}}, {"datax": 1}]
)
def test_filters_that_do_not_look_into_the_data_do_not_decode_them(source: Json) -> None:
    made, candidate = filters.compile(source), event()
    assert not made.needs_data
    made.matches(candidate)
    made.explain(candidate)
    assert candidate.decoded is None


@pytest.mark.parametrize("source", [{"data": {}}, {"data.a": 1}, {"$or": [{"seq": 0}, {"$not": {"data.a.0": 1}}]}])
def test_filters_that_do_look_share_one_decoding(source: Json) -> None:
    candidate = event({"a": 1})
    assert filters.compile(source).needs_data
    filters.compile(source).matches(candidate)
    decoded = candidate.decoded
    assert decoded == {"a": 1}
    filters.compile({"data.b": 1}).matches(candidate)
    filters.compile({"data.b": 1}).explain(candidate)
    assert candidate.decoded is decoded


def test_a_stored_event_is_asked_as_a_live_one() -> None:
    text = b'{"channel":"c","timestamp":"t","event_type":"e","data":{"a":[1]},"seq":7}'
    source = {"channel": "c", "timestamp": "t", "event_type": "e", "data.a.0": 1, "seq": 7}
    for stored in (text, memoryview(text)):
        assert filters.compile(source).matches(Candidate.from_json(stored))


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"channel":1}'])
def test_what_is_no_stored_event_is_an_error(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        Candidate.from_json(text)


def asked(source: Json, data: bytes) -> bool:
    return filters.compile(source).matches(Candidate("c", "t", "e", 1, Raw(data)))


def test_an_event_that_is_deeper_than_the_stack_has_all_but_its_data() -> None:
    met, wanted = set(), filters.compile({"channel": "c", "timestamp": "t", "event_type": "e", "seq": 7})
    missing = filters.compile({"data": {}, "data.a": {"$exists": False}})
    for depth in [*range(200, 900, 50), *range(900, 1100), 30_000]:
        for data in (b'{"a":' * depth + b"1" + b"}" * depth, b'{",\\"data\\":":' + b"[" * depth + b"]" * depth + b"}"):
            text = b'{"channel":"c","timestamp":"t","event_type":"e","data":%b,"seq":7}' % data
            for stored in (text, memoryview(text)):
                candidate = Candidate.from_json(stored)
                assert wanted.matches(candidate)
                met.add(bytes(candidate.data) == data)
                assert bytes(candidate.data) == data or missing.matches(candidate)
    assert met == {True, False}


@pytest.mark.parametrize("number", [b"1e999", b"9" * 5000, b"-" + b"9" * 5000])
def test_a_number_beyond_all_bounds_hides_no_other_field(number: bytes) -> None:
    data = b'{"a":5,"x":' + number + b',"y":' + b"9" * 400 + b"}"
    assert asked({"data.a": 5}, data)
    assert asked({"data.x": {"$gt": 10}}, data) is not number.startswith(b"-")
    assert asked({"data.x": {"$lt": 10}}, data) is number.startswith(b"-")
    assert asked({"data.y": int("9" * 400)}, data)


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"null", b'{"a":1e999}[', b'{"a":"\xff"}', b"[1e999]", b"\xff"])
def test_data_that_cannot_be_decoded_have_no_paths(data: bytes) -> None:
    assert asked({"data": {}}, data)
    assert asked({"data.a": {"$exists": False}}, data)


def test_data_that_are_too_deep_have_no_paths() -> None:
    assert asked({"data.a": {"$exists": False}}, b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}")


@pytest.mark.parametrize("depth", range(900, 1000))
def test_no_depth_of_data_breaks_a_filter(depth: int) -> None:
    data = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    operators = {"$ne": [[]], "$nin": [[[]]], "$not": {"$contains": [[[]]]}}
    assert asked({"data.a": operators}, data)
    made = filters.compile({"data.a": operators})
    assert all(line.holds for line in made.explain(Candidate("c", "t", "e", 1, Raw(data))) if not line.within)


@pytest.mark.parametrize("pattern", [{"$regex": "x"}, {"$wildcard": "?*x"}, {"$wildcard": "*x"}, {"$contains": "x"}])
def test_half_a_character_breaks_no_pattern(pattern: Json) -> None:
    half = b'{"n":1e999,"a":"\\ud800x"}'  # the first field sends it past msgspec, which would not have it
    made, candidate = filters.compile({"data.a": pattern}), Candidate("c", "t", "e", 1, Raw(half))
    assert made.matches(candidate)
    (line,) = made.explain(candidate)
    assert line.value == "'\\ud800x'"
    msgspec.json.encode(line)


# Explanations


def explain(source: Json, data: Json = None) -> Json:
    return msgspec.to_builtins(filters.compile(source).explain(event(data)))


def test_an_explanation_has_a_line_for_each_operator() -> None:
    source = {
        "data.priority": {"$gte": 200, "$lt": 250},
        "$or": [{"data.a": 1}, {"$not": {"event_type": {"$wildcard": "x.*"}}}],
        "$and": [{"seq": 42, "data.b": None}],
        "data.c": {"$not": {"$in": [1, 2]}},
    }
    assert explain(source, {"priority": 100, "a": 2, "c": 2}) == [
        {"path": "data.priority", "operator": "$gte", "operand": 200, "value": 100, "holds": False},
        {"path": "data.priority", "operator": "$lt", "operand": 250, "value": 100, "holds": True},
        {"operator": "$or", "holds": True},
        {"path": "data.a", "operator": "$eq", "operand": 1, "value": 2, "holds": False, "within": "$or[0]"},
        {"operator": "$not", "holds": True, "within": "$or[1]"},
        {
            "path": "event_type",
            "operator": "$wildcard",
            "operand": "x.*",
            "value": "signal.input.text",
            "holds": False,
            "within": "$or[1].$not",
        },
        {"operator": "$and", "holds": False},
        {"path": "seq", "operator": "$eq", "operand": 42, "value": 42, "holds": True, "within": "$and[0]"},
        {"path": "data.b", "operator": "$eq", "operand": None, "holds": False, "within": "$and[0]"},
        {"path": "data.c", "operator": "$not", "holds": False},
        {"path": "data.c", "operator": "$in", "operand": [1, 2], "value": 2, "holds": True, "within": "$not"},
    ]


def test_the_empty_filter_has_nothing_to_explain() -> None:
    assert explain({}) == []


def test_null_and_a_missing_path_are_told_apart() -> None:
    (there,), (missing,) = (filters.compile({"data.a": None}).explain(event(data)) for data in ({"a": None}, {}))
    assert there.value is None
    assert there.holds
    assert missing.value is UNSET
    assert not missing.holds


def test_an_explanation_is_bounded() -> None:
    long = "é" * 50_000
    source = {f"data.{long[:40_000]}{number}": {"$ne": long} for number in range(16)}
    lines = explain(source, {f"{long[:40_000]}{number}": [long] for number in range(16)})
    assert len(lines) == 16
    assert lines[0]["operand"] == '"' + "é" * 199 + "…"
    assert lines[0]["value"] == '["' + "é" * 198 + "…"
    assert len(lines[0]["path"]) == 120
    (line,) = explain({"data.a": "é" * 198}, {"a": ["é" * 197]})
    assert line["operand"] == "é" * 198  # with its quotes just short enough
    assert line["value"] == '["' + "é" * 197 + '"…'


def test_an_explanation_can_be_asked_for_again() -> None:
    made = filters.compile({"data.a": {"$gt": 1}})
    assert [line.holds for value in (0, 2, 1) for line in made.explain(event({"a": value}))] == [False, True, False]


def test_the_names_that_others_use() -> None:
    made = filters.compile(b'{"seq":42}')
    assert isinstance(made, Filter)
    assert issubclass(FilterError, ValueError)
    assert made.explain(event()) == [Line(path="seq", operator="$eq", operand=42, value=42, holds=True)]
