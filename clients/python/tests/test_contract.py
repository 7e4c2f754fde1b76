"""The contract's cases, as far as they concern clients."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from neurograph_ws_client import NeurographWSClient, State
from neurograph_ws_client.codes import ErrorCode, Reconnect, is_retryable, reconnect_after
from neurograph_ws_client.errors import ConnectionLostError, RequestRefusedError
from neurograph_ws_client.messages import decode, read
from ws_line import CONNECTED, Line, contains, fixture, plain

SERVER_MESSAGES = fixture("server_messages.json")
STREAMS = fixture("client_streams.json")
CLOSE_CODES = fixture("close_codes.json")
VALID = {case["name"]: case for case in fixture("client_messages.json") if case.get("valid")}


def named(cases: list[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


@named(SERVER_MESSAGES)
def test_server_message_is_read(case: Any) -> None:
    message = decode(case["text"].encode())
    assert contains(message, case["message"]) if "message" in case else True
    kind = message.get("type", "event")
    if case["type"] == "event":
        assert "type" not in message
    elif case["type"] == "unknown":
        assert read(message) is None
    else:
        assert kind == case["type"]
        struct = read(message)
        assert struct is not None
        fields = {name: value for name, value in case["message"].items() if name in plain(struct)}
        assert contains(plain(struct), fields)
        assert fields or kind == "ping"


@named(SERVER_MESSAGES)
def test_server_message_leaves_the_connection_open(case: Any) -> None:
    line = Line()
    line.subscribe("signals")
    if case["type"] == "connected":
        line.accept()
        line.say(case["text"])
    else:
        line.open()
        line.say(case["text"])
    assert line.core.state is State.OPEN
    assert not line.core.over


@named([case for case in SERVER_MESSAGES if case["type"] == "error"])
def test_server_error_is_told_with_its_fields(case: Any) -> None:
    line = Line()
    line.open()
    line.say(case["text"])
    (error,) = line.errors()
    assert isinstance(error, RequestRefusedError)
    names = {"code", "message", "index", "retry_after"} & case["message"].keys()
    assert names
    assert {name: getattr(error, name) for name in names} == {name: case["message"][name] for name in names}


@named([case for case in SERVER_MESSAGES if case["type"] == "event"])
def test_server_event_is_handed_out_whole(case: Any) -> None:
    line = Line()
    channel = case["message"]["channel"]
    line.open()
    line.subscribe(channel)
    if channel not in ("personal", "global"):
        line.granted(channel, epoch="Zk3v9Q")
    line.say(case["text"])
    line.dispatch()
    (event,) = line.delivered
    assert event == decode(case["text"].encode())
    assert contains(event, case["message"])


@named(STREAMS)
def test_stream(case: Any) -> None:
    line = Line()
    spoken_of: list[str] = list(case["connected"].get("channels", []))
    for message in case["receives"]:
        for names in (message.get("channels", []), [message.get("channel")], [message.get("of")]):
            spoken_of += [name for name in names if name is not None and name not in spoken_of]
    for channel in spoken_of:
        line.subscribe(channel)
    line.open(**case["connected"])
    line.say(*case["receives"])
    for resume in (message for message in line.take() if message["type"] == "resume"):  # which a server answers
        line.say({"type": "resumed", "id": resume["id"], "channels": [], "replayed": 0})
    line.dispatch()
    assert [[event["channel"], event.get("seq")] for event in line.delivered] == case["delivered"]
    assert line.gaps == case["losses"]
    assert line.core.subscriptions.received() == case["positions"]
    done = {name: one.done for name, one in line.core.subscriptions.wanted.items() if one.done is not None}
    assert plain(done) == case["positions"]
    assert line.errors() == []


@named(CLOSE_CODES["codes"])
def test_close_code(case: Any) -> None:
    assert reconnect_after(case["code"]) is Reconnect(case["reconnect"])


@pytest.mark.parametrize("case", CLOSE_CODES["examples"], ids=lambda case: str(case["code"]))
def test_close_code_by_its_range(case: Any) -> None:
    assert reconnect_after(case["code"]) is Reconnect(case["reconnect"])


@pytest.mark.parametrize("case", fixture("error_codes.json"), ids=lambda case: case["code"])
def test_error_code(case: Any) -> None:
    assert is_retryable(ErrorCode(case["code"])) is case["retryable"]


def test_error_codes_are_all_there() -> None:
    assert {case["code"] for case in fixture("error_codes.json")} == set(ErrorCode)


# What the client sends. Each call must send the message of the case, but for ids and keys, which it makes itself.


def ask(client: NeurographWSClient, case: str) -> Any:
    """The call that sends a case's message."""
    message = decode(VALID[case]["text"].encode())
    options = {name: message[name] for name in ("filter", "policy", "key", "last", "since") if name in message}
    match message["type"]:
        case "subscribe":
            return client.subscribe_multiple(message["channels"], print, recover=message.get("recover"), **options)
        case "publish" if "events" in message:
            return client.publish_batch(message["channel"], message["events"], message.get("key"))
        case "publish":
            return client.publish(message["channel"], message["event_type"], message.get("data"), message.get("key"))
        case "history":
            names = ("after", "last", "since", "limit")
            return client.history(message["channel"], **{name: message[name] for name in names if name in message})
        case "ping":
            return client.ping()
        case "get_subscriptions":
            return client.fetch_subscriptions()
        case "authenticate":
            return client.authenticate(message["token"])
    raise AssertionError(message["type"])


CALLS = [
    name
    for name, case in VALID.items()
    if case["message"]["type"] in ("subscribe", "publish", "history", "ping", "get_subscriptions", "authenticate")
    and not name.startswith(
        ("spaces", "type-last", "escapes", "duplicate-key", "unknown-", "id-", "subscribe-the-same")
    )
    and "unknown-fields" not in name
    and "text_parts" not in case
    # `personal` among them, which the client knows better than to ask for.
    and name != "subscribe-unknown-names"
]


@pytest.mark.parametrize("name", CALLS)
def test_client_sends(name: str) -> None:
    line = Line()
    client = NeurographWSClient()
    client._core = line.core

    async def call() -> None:
        driver = client._driver = client._new_driver()
        driver.serving = True
        line.open(**CONNECTED["message"])
        given = ask(client, name)
        if asyncio.iscoroutine(given):
            task = asyncio.create_task(given)
            await asyncio.sleep(0)
            line.pump()
            line.cut()
            with pytest.raises(ConnectionLostError):
                await task
        line.pump()

    asyncio.run(call())
    (sent,) = line.take()
    expected = {key: value for key, value in VALID[name]["message"].items() if key != "id"}
    for one in sent.get("events", []):
        one.setdefault("data", {})
    assert sent.pop("id") > 0
    assert contains(sent, expected)
    if "key" not in expected:
        sent.pop("key", None)
    assert sent.keys() <= decode(VALID[name]["text"].encode()).keys() | {"data"}


def test_every_kind_of_message_is_a_call_or_sent_by_itself() -> None:
    kinds = {case["message"]["type"] for case in VALID.values()}
    by_itself = {"unsubscribe", "pong", "resume"}  # tested with the core
    assert {VALID[name]["message"]["type"] for name in CALLS} | by_itself == kinds - {"get_reconnection_token"}
