"""The contract's cases are well formed themselves, and none of the contract's words lacks one."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).parents[2] / "clients" / "fixtures"

CLIENT_TYPES = {
    "subscribe",
    "unsubscribe",
    "ping",
    "pong",
    "get_subscriptions",
    "get_reconnection_token",
    "publish",
    "history",
    "authenticate",
    "resume",
}
SERVER_TYPES = {
    "connected",
    "subscribed",
    "unsubscribed",
    "subscriptions",
    "pong",
    "ping",
    "authenticated",
    "reconnection_token",
    "published",
    "history",
    "resumed",
    "gap",
    "position",
    "token_expiring",
    "goodbye",
    "error",
}
ERROR_CODES = {
    "invalid_json",
    "invalid_message",
    "unknown_type",
    "unknown_channel",
    "permission_denied",
    "rate_limited",
    "too_many_subscriptions",
    "payload_too_large",
    "invalid_filter",
    "invalid_token",
    "history_unavailable",
    "engine_unavailable",
    "internal",
}
# Those that a single message to a fresh development server can call forth.
ERROR_CODES_OF_ONE_MESSAGE = {
    "invalid_json",
    "invalid_message",
    "unknown_type",
    "unknown_channel",
    "permission_denied",
    "payload_too_large",
    "invalid_filter",
}
CLOSE_CODES = {1000, 1001, 1002, 1003, 1006, 1007, 1008, 1009, 1011, 1012, 1013}
CLOSE_CODES |= {4000, 4001, 4002, 4003, 4004, 4500, 4501, 4502, 4503}
GAP_REASONS = {"slow_consumer", "buffer_overflow", "history_trimmed", "epoch_changed"}
CHANNELS = ["metrics", "signals", "actions", "logs", "status", "connections"]
ROLES = ["admin", "developer", "viewer", "bot", "anonymous"]
STEPS = {"json", "shape", "channel", "permission", "schema", "size"}
PLACEHOLDER = re.compile(r"\$(any|string|int|number|timestamp|uuid4)(?::(\w+)(\+\d+)?)?")
MAX_MESSAGE_BYTES = 65_536

Case = dict[str, Any]


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), f"a key stands twice in {keys}"
    return dict(pairs)


def load(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text(encoding="utf-8"), object_pairs_hook=without_repeats)


def refuse_constant(word: str) -> None:
    raise ValueError(word)


def wire_text(case: Case, key: str = "text") -> str:
    parts = [case[key]] if key in case else case[f"{key}_parts"]
    return "".join(part if isinstance(part, str) else part["repeat"] * part["times"] for part in parts)


def parse(text: str) -> Any:
    """Read JSON as strictly as the contract means it."""
    try:
        value = json.loads(text, parse_constant=refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is no character
    except RecursionError as error:
        raise ValueError(text[:40]) from error
    return value


def is_json(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= 64
    return type(value) is int and abs(value) <= 2**53


def covers(expected: Any, actual: Any) -> bool:
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            key in actual and covers(value, actual[key]) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(actual, list)
            and len(expected) == len(actual)
            and all(covers(*pair) for pair in zip(expected, actual, strict=True))
        )
    return type(expected) is type(actual) and bool(expected == actual)


def with_default_data(message: dict[str, Any]) -> dict[str, Any]:
    if message["type"] != "publish":
        return message
    if "events" in message:
        return {**message, "events": [{"data": {}, **event} for event in message["events"]]}
    return {"data": {}, **message}


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


CLIENT_MESSAGES: list[Case] = load("client_messages.json")
SERVER_MESSAGES: list[Case] = load("server_messages.json")
CLIENT_STREAMS: list[Case] = load("client_streams.json")
CONVERSATIONS: list[Case] = load("conversations.json")
PERMISSIONS: dict[str, Any] = load("permissions.json")
CLOSES: dict[str, Any] = load("close_codes.json")
ERRORS: list[Case] = load("error_codes.json")


def each(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


@pytest.mark.parametrize(
    "cases",
    [
        CLIENT_MESSAGES,
        SERVER_MESSAGES,
        CLIENT_STREAMS,
        CONVERSATIONS,
        PERMISSIONS["claims"],
        PERMISSIONS["cases"],
    ],
)
def test_cases_have_unique_names_and_a_stage(cases: list[Case]) -> None:
    names = [case["name"] for case in cases]
    assert sorted(set(names)) == sorted(names)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in names)
    assert {case["stage"] for case in cases} <= {"now", "delivery"}


def test_the_readme_speaks_of_every_file() -> None:
    readme = (FIXTURES / "README.md").read_text(encoding="utf-8")
    for path in FIXTURES.glob("*.json"):
        assert f"`{path.name}`" in readme


# client_messages.json


@each(CLIENT_MESSAGES)
def test_client_message_has_its_keys(case: Case) -> None:
    assert ("text" in case) != ("text_parts" in case)
    outcome = {"message"} if case["valid"] else {"close"} if "close" in case else {"error"}
    allowed = {"name", "stage", "valid", "text", "text_parts", "note", "config", "opening"} | outcome
    if case["valid"]:
        allowed.add("reply")
        assert case.get("reply") in SERVER_TYPES | {None}
    assert outcome <= case.keys() <= allowed
    if "close" in case:
        assert case["close"] in CLOSE_CODES
    if "error" in case:
        error = case["error"]
        assert {"code", "step"} <= error.keys()
        assert error.keys() <= {"code", "step", "id", "index", "message", "begins", "names"}
        assert error["code"] in ERROR_CODES
        assert error["step"] in STEPS
        assert (error["code"] == "invalid_json") == (error["step"] == "json")


@each([case for case in CLIENT_MESSAGES if case["valid"]])
def test_valid_message_says_what_its_text_says(case: Case) -> None:
    sent = with_default_data(parse(wire_text(case)))
    assert covers(case["message"], sent)
    assert case["message"]["type"] in CLIENT_TYPES
    assert ("id" in case["message"]) == ("id" in sent)
    if "id" in sent:
        assert is_id(sent["id"])
    if sent["type"] == "publish" and "reply" in case:
        assert case["reply"] == ("published" if "id" in sent else None)


@each([case for case in CLIENT_MESSAGES if "error" in case])
def test_refused_message_echoes_the_id_that_is_one(case: Case) -> None:
    error = case["error"]
    if error["code"] == "invalid_json":
        assert "id" not in error
        assert error["message"] == "Invalid JSON format"
        assert not is_json(wire_text(case))
        return
    sent = parse(wire_text(case))
    if isinstance(sent, dict) and "id" in sent:
        assert ("id" in error) == is_id(sent["id"])
        if "id" in error:
            assert covers(error["id"], sent["id"])
        else:
            assert error["code"] == "invalid_message"
    else:
        assert "id" not in error


@each([case for case in CLIENT_MESSAGES if "error" in case and "index" in case["error"]])
def test_index_and_text_name_the_same_event(case: Case) -> None:
    error = case["error"]
    assert re.match(r"events\[(\d+)\]", error["begins"])
    assert error["begins"].startswith(f"events[{error['index']}]")
    assert error["index"] < len(parse(wire_text(case))["events"])


@each(CLIENT_MESSAGES)
def test_only_a_message_over_the_limit_closes(case: Case) -> None:
    limit = case.get("config", {}).get("max_message_bytes", MAX_MESSAGE_BYTES)
    assert (len(wire_text(case).encode()) > limit) == (case.get("close") == 1009)


def test_every_client_message_is_there_good_and_bad() -> None:
    assert {case["message"]["type"] for case in CLIENT_MESSAGES if case["valid"]} == CLIENT_TYPES
    refused = [case for case in CLIENT_MESSAGES if "error" in case]
    assert {case["error"]["code"] for case in refused} == ERROR_CODES_OF_ONE_MESSAGE
    assert {case["error"]["step"] for case in refused} == STEPS


# server_messages.json


@each(SERVER_MESSAGES)
def test_server_message_says_what_its_text_says(case: Case) -> None:
    assert {"name", "stage", "type", "text", "message"} <= case.keys()
    assert case.keys() <= {"name", "stage", "type", "text", "message", "note"}
    sent = parse(case["text"])
    assert covers(case["message"], sent)
    if case["type"] == "event":
        assert "type" not in sent
        assert {"channel", "timestamp", "event_type", "data"} <= sent.keys()
        assert ("seq" in sent) == (sent["channel"] not in ("personal", "global"))
    elif case["type"] == "unknown":
        assert sent["type"] not in SERVER_TYPES
    else:
        assert sent["type"] == case["type"]
    if not case["name"].startswith("tolerate-"):
        assert case["message"] == sent
        if case["type"] == "error":
            assert sent["code"] in ERROR_CODES


def test_every_server_message_is_there() -> None:
    assert {case["type"] for case in SERVER_MESSAGES} == SERVER_TYPES | {"event", "unknown"}
    messages = [case["message"] for case in SERVER_MESSAGES]
    assert {message.get("code") for message in messages if message.get("type") == "error"} > ERROR_CODES
    assert {message.get("reason") for message in messages if message.get("type") == "gap"} > GAP_REASONS
    events = [case["message"] for case in SERVER_MESSAGES if case["type"] == "event"]
    assert {event["channel"] for event in events} > {*CHANNELS, "personal", "global"}


# client_streams.json


@each(CLIENT_STREAMS)
def test_stream_tells_what_comes_of_its_messages(case: Case) -> None:
    assert case.keys() - {"note"} == {
        "name",
        "stage",
        "connected",
        "receives",
        "delivered",
        "losses",
        "positions",
    }
    events = [[m["channel"], m.get("seq")] for m in case["receives"] if "type" not in m]
    assert case["delivered"] == events
    assert case["losses"] == [m for m in case["receives"] if m.get("type") == "gap"]
    for channel, seq in events:
        if seq is not None:
            assert case["positions"][channel]["seq"] >= seq
    for position in case["positions"].values():
        assert position["epoch"] == case["connected"]["epoch"]


# conversations.json


def check_expectation(expected: Any, known: set[str], *, may_bind: bool) -> None:
    for text in strings(expected):
        if not text.startswith("$"):
            continue
        placeholder = PLACEHOLDER.fullmatch(text)
        assert placeholder, f"{text} is no placeholder"
        _, name, plus = placeholder.groups()
        if name is not None and name not in known:
            assert may_bind, f"{name} would be remembered where order is free"
            assert plus is None, f"{name} is not known yet"
            known.add(name)


@each(CONVERSATIONS)
def test_conversation_is_well_formed(case: Case) -> None:
    assert {"name", "stage", "steps"} <= case.keys() <= {"name", "stage", "note", "slow", "steps"}
    known = {"run"}
    assert case["steps"][0]["expect"]["type"] == "connected"
    for step in case["steps"]:
        [kind] = step.keys() - {"times"}
        if kind in ("send", "send_parts"):
            assert set(re.findall(r"\{\{(\w+)\}\}", wire_text(step, "send"))) <= known
        elif kind == "expect":
            assert isinstance(step[kind], dict)
            check_expectation(step[kind], known, may_bind=True)
            if step[kind].get("type") == "error":
                assert step[kind].get("code", "invalid_json") in ERROR_CODES
        elif kind == "expect_unordered":
            assert len(step[kind]) > 1
            check_expectation(step[kind], known, may_bind=False)
        else:
            assert kind == "expect_close"
            assert step is case["steps"][-1]


# permissions.json


def test_permissions_are_a_whole_table() -> None:
    assert PERMISSIONS["channels"] == CHANNELS
    assert list(PERMISSIONS["table"]) == ROLES
    for row in [*PERMISSIONS["table"].values(), *(case["allows"] for case in PERMISSIONS["claims"])]:
        assert list(row) == CHANNELS
        assert all(list(map(type, pair)) == [bool, bool] for pair in row.values())
        assert row["connections"][1] is False
    assert {case["role"] for case in PERMISSIONS["claims"] + PERMISSIONS["cases"]} <= set(ROLES)


@each(PERMISSIONS["cases"])
def test_permission_case_is_well_formed(case: Case) -> None:
    assert case.keys() - {"note"} == {"name", "stage", "role", "send", "expect"}
    assert parse(case["send"])["type"] in CLIENT_TYPES
    check_expectation(case["expect"], set(), may_bind=False)
    may = PERMISSIONS["table"][case["role"]]
    for channel, reason in case["expect"].get("reasons", {}).items():
        assert reason == ("permission_denied" if channel in may else "unknown_channel")
        assert channel not in may or may[channel][0] is False


# close_codes.json and error_codes.json


def test_close_codes_are_those_of_the_contract() -> None:
    assert CLOSES.keys() == {"codes", "ranges", "otherwise", "examples"}
    codes = {entry["code"]: entry for entry in CLOSES["codes"]}
    assert len(codes) == len(CLOSES["codes"])
    assert codes.keys() == CLOSE_CODES
    for entry in CLOSES["codes"]:
        assert entry.keys() == {"code", "name", "reconnect", "meaning"}
        assert entry["reconnect"] in ("yes", "no", "fresh_token")
    assert len({entry["name"] for entry in CLOSES["codes"]}) == len(codes)


def test_close_code_examples_follow_from_codes_then_ranges() -> None:
    exact = {entry["code"]: entry["reconnect"] for entry in CLOSES["codes"]}
    for example in CLOSES["examples"]:
        code = example["code"]
        spans = [span["reconnect"] for span in CLOSES["ranges"] if span["from"] <= code <= span["to"]]
        assert example["reconnect"] == exact.get(code, (*spans, CLOSES["otherwise"])[0])


def test_error_codes_are_those_of_the_contract() -> None:
    assert [entry["code"] for entry in ERRORS] == list(dict.fromkeys(entry["code"] for entry in ERRORS))
    assert {entry["code"] for entry in ERRORS} == ERROR_CODES
    for entry in ERRORS:
        assert entry.keys() == {"code", "retryable", "meaning"}
        assert isinstance(entry["retryable"], bool)
