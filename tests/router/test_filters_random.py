"""Random filters on random events, against an interpreter that reads the contract as plainly as can be."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from router import filters
from router.filters import Candidate, FilterError

Json = Any
MISSING = object()

# The interpreter


def look_up(event: Json, path: str) -> Json:
    value = event
    for part in path.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def kind(value: Json) -> str:
    if value is MISSING:
        return "missing"
    if isinstance(value, bool):
        return "flag"
    return "number" if isinstance(value, int | float) else type(value).__name__


def equal(one: Json, other: Json) -> bool:
    if kind(one) != kind(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return bool(one == other)


def wildcard(pattern: str, text: str) -> bool:
    """Whether it matches, by the table of which beginning of the one matches which of the other."""
    table = {(0, 0): True}
    for i in range(len(pattern) + 1):
        for j in range(len(text) + 1):
            if i and pattern[i - 1] == "*":
                table[i, j] = table[i - 1, j] or (j > 0 and table[i, j - 1])
            elif i:
                table[i, j] = j > 0 and pattern[i - 1] in ("?", text[j - 1]) and table[i - 1, j - 1]
            elif j:
                table[i, j] = False
    return table[len(pattern), len(text)]


def holds(operator: str, operand: Json, value: Json) -> bool:
    match operator:
        case "$eq":
            return equal(value, operand)
        case "$ne":
            return not equal(value, operand)
        case "$in":
            return any(equal(value, each) for each in operand)
        case "$nin":
            return not any(equal(value, each) for each in operand)
        case "$exists":
            return (value is not MISSING) is operand
        case "$contains":
            if kind(value) == "list":
                return any(equal(each, operand) for each in value)
            return kind(value) == kind(operand) == "str" and operand in value
        case "$wildcard":
            return kind(value) == "str" and wildcard(operand, value)
        case "$regex":
            return kind(value) == "str" and re.search(operand, value) is not None
        case "$not":
            return not all(holds(inner, each, value) for inner, each in operand.items())
    if kind(value) != kind(operand) or kind(value) not in ("number", "str"):
        return False
    return bool(
        {"$gt": value > operand, "$gte": value >= operand, "$lt": value < operand, "$lte": value <= operand}[operator]
    )


def is_match(event: Json, source: Json) -> bool:
    for key, asked in source.items():
        if key == "$and":
            good = all(is_match(event, each) for each in asked)
        elif key == "$or":
            good = any(is_match(event, each) for each in asked)
        elif key == "$not":
            good = not is_match(event, asked)
        elif isinstance(asked, dict) and any(name.startswith("$") for name in asked):
            good = all(holds(operator, operand, look_up(event, key)) for operator, operand in asked.items())
        else:
            good = equal(look_up(event, key), asked)
        if not good:
            return False
    return True


# What it is asked: few different keys and values, so that they often meet

KEYS = st.sampled_from(["a", "b", "0", "1"])
TEXTS = st.text("ab.é\n", max_size=4)
SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, 2, -1, 200, 2**53, 2**53 + 1, 10**30])
    | st.sampled_from([0.0, -0.0, 1.0, 1.5, float(2**53), 1e300])
    | TEXTS
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
EVENTS = st.fixed_dictionaries(
    {
        "channel": st.sampled_from(["a", "b"]),
        "timestamp": st.just("2024-12-29T12:00:00.123Z"),
        "event_type": TEXTS,
        "seq": st.sampled_from([0, 1, 2]),
        "data": st.dictionaries(KEYS, VALUES, max_size=4),
    }
)
PATHS = st.one_of(
    st.sampled_from(["channel", "timestamp", "event_type", "seq", "data", "nowhere", "seq.a", "channel.0"]),
    st.lists(KEYS, min_size=1, max_size=3).map(lambda keys: ".".join(["data", *keys])),
)
ORDERED = st.sampled_from([0, 1, 1.5, 200, -1, 2**53 + 1]) | TEXTS
OPERANDS: dict[str, st.SearchStrategy[Json]] = {
    **dict.fromkeys(["$eq", "$ne", "$contains"], VALUES),
    **dict.fromkeys(["$gt", "$gte", "$lt", "$lte"], ORDERED),
    **dict.fromkeys(["$in", "$nin"], st.lists(VALUES, max_size=4) | st.lists(TEXTS, max_size=4)),
    "$exists": st.booleans(),
    "$wildcard": st.text("ab.é*?\n", max_size=6),
    # Those in which Python and RE2 agree.
    "$regex": st.sampled_from(["", "a", "^a", "a|b", "[ab]+", "a*b", r"\.", "a.", "(?s)a.", "é{2}", "(?i)A"]),
}


def some_of(operands: dict[str, st.SearchStrategy[Json]]) -> st.SearchStrategy[Json]:
    """Sets of one to three operators."""
    names = st.lists(st.sampled_from(sorted(operands)), min_size=1, max_size=3, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: operands[name] for name in chosen}))


def places(value: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """All paths that lead somewhere, with what is there."""
    if path:
        yield path, value
    parts: Json = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, part in parts:
        yield from places(part, f"{path}.{key}" if path else key)


def twin(value: Json) -> Json:
    """What looks the same: `True` for 1, 1 for 1.0."""
    if isinstance(value, list):
        return [twin(each) for each in value]
    if isinstance(value, dict):
        return {key: twin(each) for key, each in value.items()}
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return float(value)
    return bool(value) if value in (0.0, 1.0) else value


def near(value: Json) -> dict[str, st.SearchStrategy[Json]]:
    """Operands that may well hold of a value."""
    alike = st.sampled_from([value, twin(value), twin(twin(value))])
    operands = dict.fromkeys(["$eq", "$ne"], alike)
    operands |= dict.fromkeys(["$in", "$nin"], st.builds(lambda *some: list(some), SCALARS, alike))
    if isinstance(value, list) and value:
        operands["$contains"] = st.sampled_from(value) | st.sampled_from(value).map(twin)
    if isinstance(value, str):
        operands["$contains"] = st.builds(lambda a, b: value[a:b], st.integers(0, 3), st.integers(0, 4))
        masks = st.lists(st.sampled_from(["", "", "", "*", "?"]), min_size=len(value), max_size=len(value))
        operands["$wildcard"] = masks.map(
            lambda mask: "".join(one or other for one, other in zip(mask, value, strict=True))
        )
    if kind(value) in ("number", "str"):
        operands |= dict.fromkeys(["$gt", "$gte", "$lt", "$lte"], alike.filter(lambda each: kind(each) != "flag"))
    return {**OPERANDS, **operands}


@st.composite
def filters_for(draw: st.DrawFn, event: Json, levels: int = 3) -> Json:
    """Filters of which many parts are about what an event holds."""
    source: Json = {}
    there = list(places(event))
    for _ in range(draw(st.integers(0, 2))):
        path, value = draw(st.sampled_from(there) | st.tuples(PATHS, SCALARS))
        operands = near(value)
        asked = some_of({**operands, "$not": some_of(operands)}) | operands["$eq"]
        source[path] = draw(asked)
    if levels:
        inner = filters_for(event, levels - 1)
        words = {"$and": st.lists(inner, min_size=1, max_size=3), "$or": st.lists(inner, min_size=1, max_size=3)}
        words["$not"] = inner
        for word in draw(st.lists(st.sampled_from(sorted(words)), max_size=1)):
            source[word] = draw(words[word])
    return source


ASKED = EVENTS.flatmap(lambda event: st.tuples(filters_for(event), st.just(event)))

#: No deadline: how long an example takes says more about the machine's load than about the code.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)


def attempt(source: Json | bytes) -> tuple[filters.Filter | None, str]:
    """The filter, or the sentence that refuses it."""
    try:
        return filters.compile(source), ""
    except FilterError as error:
        return None, str(error)


def compiled(source: Json) -> filters.Filter | None:
    """A well-formed filter; None: it is over the limits."""
    made, sentence = attempt(source)
    assert made or "more than 32 nodes" in sentence or "deeper than 8 levels" in sentence
    return made


def candidate(event: Json) -> Candidate:
    return Candidate.from_json(msgspec.json.encode(event))


@settings(patient, max_examples=400)
@given(ASKED)
def test_a_filter_does_what_the_contract_says(asked: tuple[Json, Json]) -> None:
    source, event = asked
    made = compiled(source)
    assert made is None or made.matches(candidate(event)) is is_match(event, source)


@settings(patient, max_examples=100)
@given(ASKED)
def test_an_explanation_adds_up(asked: tuple[Json, Json]) -> None:
    source, event = asked
    made = compiled(source)
    if made is None:
        return
    lines = made.explain(candidate(event))
    assert len(lines) <= 32
    assert all(line.holds for line in lines if not line.within) is is_match(event, source)
    for line in lines:
        if line.operand is UNSET:
            assert line.operator in ("$and", "$or", "$not")
        else:
            found = look_up(event, line.path)
            assert line.holds is holds(line.operator, line.operand, found)
            assert line.value is UNSET if found is MISSING else equal(line.value, found)


def respelt(source: Json) -> Json:
    """The same filter in other words: members in another order, floats for integers, `$eq` for bare values."""
    result: dict[str, Json] = {}
    for key, asked in reversed(source.items()):
        if key in ("$and", "$or"):
            result[key] = [respelt(each) for each in reversed(asked)]
        elif key == "$not":
            result[key] = respelt(asked)
        elif isinstance(asked, dict) and any(name.startswith("$") for name in asked):
            result[key] = {name: respelt_value(value) for name, value in reversed(asked.items())}
        else:
            result[key] = {"$eq": respelt_value(asked)}
    return result


def respelt_value(value: Json) -> Json:
    if isinstance(value, list):
        return [respelt_value(each) for each in value]
    if isinstance(value, dict):
        return {key: respelt_value(each) for key, each in reversed(value.items())}
    return float(value) if kind(value) == "number" and float(value) == value else value


@settings(patient, max_examples=100)
@given(ASKED)
def test_the_same_filter_in_other_words_is_equal(asked: tuple[Json, Json]) -> None:
    source, _ = asked
    made, other = compiled(source), compiled(respelt(source))
    if made and other:  # a bare value is a node less than `$eq`
        assert made == other
        assert hash(made) == hash(other)


@settings(patient, max_examples=100)
@given(VALUES.flatmap(lambda value: st.tuples(st.just(value), VALUES | st.sampled_from([value, twin(value)]))))
def test_filters_are_equal_only_where_their_operands_are(values: tuple[Json, Json]) -> None:
    one, other = values
    made = [filters.compile({"data.a": {"$eq": value}}) for value in (one, other)]
    assert (made[0] == made[1]) is equal(one, other)


# Nothing that comes in may raise anything else

WORDS = st.sampled_from([*OPERANDS, "$and", "$or", "$not", "$near", "$", "data", "data.a", "seq", "a..b", "", "lt"])
JUNK = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3))


@settings(patient, max_examples=200)
@given(JUNK, EVENTS)
def test_whatever_is_sent_as_a_filter_is_one_or_is_refused_in_a_sentence(source: Json, event: Json) -> None:
    made, sentence = attempt(msgspec.json.encode(source))
    if made:
        made.matches(candidate(event))
        msgspec.json.encode(made.explain(candidate(event)))
    else:
        assert sentence.startswith("filter")
        assert len(sentence) < 500


@settings(patient, max_examples=200)
@given(st.binary(max_size=20))
def test_no_bytes_break_the_reading_of_a_filter(text: bytes) -> None:
    made, sentence = attempt(text)
    assert made or sentence.startswith("filter")


@settings(patient, max_examples=100)
@given(ASKED, st.binary(max_size=20) | st.text('{}[]",:\\\\ud8019e', max_size=20).map(str.encode))
def test_no_bytes_in_an_event_break_a_filter(asked: tuple[Json, Json], data: bytes) -> None:
    made = compiled(asked[0])
    if made:
        event = Candidate("c", "t", "e", 1, Raw(data))
        made.matches(event)
        msgspec.json.encode(made.explain(event))


@settings(patient, max_examples=200)
@given(st.text("ab*?", max_size=8), st.text("ab\né😀", max_size=8) | st.text("ab", max_size=12))
def test_wildcards(pattern: str, text: str) -> None:
    made = filters.compile({"event_type": {"$wildcard": pattern}})
    assert made.matches(Candidate("c", "t", text, 1, Raw(b"{}"))) is wildcard(pattern, text)
