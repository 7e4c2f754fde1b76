"""The contract's cases, run by what the server does without a socket: reading, judging, rendering."""

import json
import re
from datetime import datetime
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from router.auth.identity import DEFAULT_ROLE
from router.channels import Channels
from router.clock import Clock
from router.config import Config
from router.engine.memory import Stream
from router.errors import ErrorCode, GapReason
from router.intake import Intake
from router.letters import Emit, Events, Item, SubscribeTo
from router.protocol import (
    Authenticate,
    ControlMessage,
    GetReconnectionToken,
    GetSubscriptions,
    History,
    Refusal,
    Resume,
    Unsubscribe,
    decode,
    denied_fields,
    encode,
    reply,
)
from router.queues import Gap
from tests.router.granting import grants
from tests.router.test_fixtures_shape import Case, each, load, wire_text
from tests.router.test_frames import parse

NOON_MS = 1_735_473_600_123
NOON = "2024-12-29T12:00:00.123Z"

CLIENT_MESSAGES = load("client_messages.json")
SERVER_MESSAGES = load("server_messages.json")
PERMISSIONS = load("permissions.json")
CHANNELS = PERMISSIONS["channels"]


def said(frame: bytes) -> Any:
    return json.loads(bytes(parse(frame).data))


def judge(payload: bytes, *, role: str = "admin", settings: dict[str, Any] | None = None) -> Item | Authenticate | None:
    """What becomes of one message on a connection of its own; None: nothing."""
    intake = Intake(Config(**(settings or {})), Channels(), Clock(lambda: NOON_MS / 1000), lambda: 0.0)
    items: list[Item] = []
    stopped_at = intake.judge_all(iter([payload]), grants(role), items)
    assert stopped_at is None or isinstance(stopped_at, Authenticate)
    return stopped_at or (items[0] if items else None)


def matches(expected: Any, actual: Any) -> bool:
    """Compare as the fixtures' README says; nothing is remembered here."""
    match expected:
        case dict():
            absent = expected.get("$absent", [])
            return (
                isinstance(actual, dict)
                and not set(absent) & set(actual)
                and all(
                    name in actual and matches(value, actual[name])
                    for name, value in expected.items()
                    if name != "$absent"
                )
            )
        case list():
            return isinstance(actual, list) and len(expected) == len(actual) and all(map(matches, expected, actual))
        case "$string":
            return isinstance(actual, str)
        case str() if isinstance(actual, datetime):
            return datetime.fromisoformat(expected) == actual
        case "$int":
            return type(actual) is int
        case bool() | None:
            return expected is actual
        case _:
            return not isinstance(actual, bool) and bool(expected == actual)


def plain(value: Any) -> Any:
    """A decoded message as its parsed text would be, fields that were not sent left out."""
    if isinstance(value, Raw):
        return json.loads(bytes(value))
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, msgspec.Struct):
        fields = {
            name: plain(getattr(value, name)) for name in value.__struct_fields__ if getattr(value, name) is not UNSET
        }
        return ({"type": value.__struct_config__.tag} if value.__struct_config__.tag else {}) | fields
    return value


# client_messages.json


@each([case for case in CLIENT_MESSAGES if case["valid"]])
def test_a_valid_message_is_read_as_it_is_meant(case: Case) -> None:
    message = plain(decode(wire_text(case).encode()))
    assert matches(case["message"], message)
    assert ("id" in message) == ("id" in case["message"])


@each([case for case in CLIENT_MESSAGES if "reply" in case])
def test_a_valid_message_is_judged_so_that_its_reply_can_follow(case: Case) -> None:
    item = judge(wire_text(case).encode(), settings=case.get("config"))
    echoed = case["message"].get("id", UNSET)
    match case["reply"]:
        case "pong":
            assert isinstance(item, bytes)
            assert said(item) == {"type": "pong", "timestamp": NOON} | ({} if echoed is UNSET else {"id": echoed})
        case "published":
            assert isinstance(item, Events)
            assert item.id == echoed
            assert item.id is not UNSET
        case None:
            assert item is None or (isinstance(item, Events) and item.id is UNSET)
        case kind:
            kinds: dict[str, type] = {
                "subscribed": SubscribeTo,
                "unsubscribed": Unsubscribe,
                "subscriptions": GetSubscriptions,
                "reconnection_token": GetReconnectionToken,
                "authenticated": Authenticate,
                "history": History,
                "resumed": Resume,
            }
            assert type(item) is kinds[kind]
            assert isinstance(item, SubscribeTo | ControlMessage)
            assert item.id == echoed


@each([case for case in CLIENT_MESSAGES if "error" in case])
def test_a_message_that_is_not_valid_is_refused_as_it_says(case: Case) -> None:
    item = judge(wire_text(case).encode(), settings=case.get("config"))
    assert isinstance(item, bytes)
    error, expected = said(item), case["error"]
    assert error["type"] == "error"
    for name in ("code", "id", "index"):
        assert error.get(name, UNSET) == expected.get(name, UNSET)
        assert type(error.get(name)) is type(expected.get(name))
    assert error["message"] == expected.get("message", error["message"])
    assert error["message"].startswith(expected.get("begins", ""))
    for word in expected.get("names", []):
        assert re.search(rf"\b{word}\b", error["message"])


@each([case for case in CLIENT_MESSAGES if "error" in case and case["error"]["step"] == "json"])
def test_no_json_is_refused_by_the_decoder_already(case: Case) -> None:
    with pytest.raises(Refusal) as caught:
        decode(wire_text(case).encode())
    assert caught.value.code is ErrorCode.INVALID_JSON


# permissions.json


@pytest.mark.parametrize("role", PERMISSIONS["table"])
def test_a_role_may_what_the_table_says(role: str) -> None:
    granted = grants(role)
    may = {name: [granted.may_subscribe(name), granted.may_publish(name)] for name in CHANNELS}
    assert may == PERMISSIONS["table"][role]


@each(PERMISSIONS["claims"])
def test_a_token_may_what_its_claims_say(case: Case) -> None:
    claims = case["claims"]
    role = claims.get("role", DEFAULT_ROLE)
    assert role == case["role"]
    granted = grants(role, claims.get("subscribe"), claims.get("publish"))
    assert {name: [granted.may_subscribe(name), granted.may_publish(name)] for name in CHANNELS} == case["allows"]


@each(PERMISSIONS["cases"])
def test_a_message_is_answered_as_its_senders_role_allows(case: Case) -> None:
    item = judge(case["send"].encode(), role=case["role"])
    match item:
        case SubscribeTo():
            positions = {name: {"epoch": "e", "seq": 0} for name in item.channels}
            fields = {"channels": item.channels, "timestamp": NOON, "positions": positions} | denied_fields(item.denied)
            answer = said(reply("subscribed", item.id, **fields))
        case Unsubscribe():
            answer = said(reply("unsubscribed", item.id, channels=[], timestamp=NOON))
        case _:
            assert isinstance(item, bytes)
            answer = said(item)
    assert matches(case["expect"], answer)


# server_messages.json


def render(message: dict[str, Any]) -> bytes:
    """A server message, made by the code that makes its kind."""
    fields = dict(message)
    match fields.pop("type", None):
        case None:
            return render_event(fields)
        case "gap":
            reason = GapReason(fields["reason"])
            span = fields["from"], fields["to"], fields["count"]
            return Gap(fields["of"], fields["epoch"], *span, reason, fields.get("exact", True)).frame()
        case "error":
            code = ErrorCode(fields.pop("code"))
            return Refusal(code, fields.pop("message"), **fields).frame()
        case kind:
            return reply(kind, fields.pop("id", UNSET), **fields)


def render_event(fields: dict[str, Any]) -> bytes:
    stream = Stream(fields["channel"])
    stream.seq = stream.flushed_seq = fields["seq"] - 1
    stream.stamp(NOON_MS, Clock())
    stream.append([Emit(fields["channel"], fields["event_type"], encode(fields["data"]))])
    batch = stream.flush("Zk3v9Q")
    assert batch is not None
    assert batch.seqs is not None
    assert batch.seqs[0] == fields["seq"]
    return batch.buffer


def is_ours(case: Case) -> bool:
    """Whether this release renders such a message, and here: `personal` and `global` are the hub's."""
    return not case["name"].startswith("tolerate-") and case["message"].get("channel") not in ("personal", "global")


@each([case for case in SERVER_MESSAGES if is_ours(case)])
def test_a_server_message_is_rendered_with_the_fields_that_clients_expect(case: Case) -> None:
    text = bytes(parse(render(case["message"])).data).decode()
    assert json.loads(text) == case["message"]
    if case["type"] in ("event", "gap") and case["name"] != "event-oddly-spelled":
        assert text == case["text"]  # those go out the most: not a byte more
    else:
        assert list(json.loads(text))[:1] == list(case["message"])[:1]
