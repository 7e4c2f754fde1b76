"""`POST broadcast`."""

import json
from typing import Any

import pytest
from trio.testing import MockClock

from router.config import ChannelSettings
from router.events import MAX_DEPTH
from tests.rest.calls import API, JSON, WITH_KEY, api
from tests.router.harness import seqs

BROADCAST = f"{API}/broadcast"
EVENT = {"event_type": "signal.input.text", "data": {"priority": 200}}


# To a channel


@pytest.mark.parametrize(
    ("query", "body"),
    [("", {"channel": "signals"}), ("?channel=signals", {}), ("?channel=signals", {"channel": "signals"})],
)
async def test_both_forms(query: str, body: dict[str, str], autojump_clock: MockClock) -> None:
    async with api() as rest:
        clients = [await rest.world.subscriber("signals") for _ in range(2)]
        for seq in (1, 2):
            assert (await rest.post(f"broadcast{query}", {**body, **EVENT})).ok() == {
                "status": "ok",
                "channel": "signals",
                "subscribers": 2,
                "message_sent": True,
                "seq": seq,
            }
        for client in clients:
            event = await client.expect(channel="signals", event_type="signal.input.text", seq=1)
            assert event["data"] == {"priority": 200}
            await client.expect(channel="signals", seq=2)


async def test_data_pass_as_they_came_and_may_be_left_out(autojump_clock: MockClock) -> None:
    async with api() as rest:
        client = await rest.world.subscriber("logs")
        text = '{"channel":"logs","event_type":"x","data":{"π": [1.50,\n1e400], "a":1,"a":2},"unknown":true}'
        (await rest.call(BROADCAST, "POST", body=text.encode(), **JSON)).ok()
        (await rest.post("broadcast", {"channel": "logs", "event_type": "y"})).ok()
        await rest.world.settle()
        first, second = client.take()
        assert first["data"] == json.loads('{"π": [1.5, 1e400], "a": 2}')
        assert second["data"] == {}


async def test_nobody_need_listen(autojump_clock: MockClock) -> None:
    async with api() as rest:
        done = (await rest.post("broadcast", {"channel": "signals", **EVENT})).ok()
        assert (done["subscribers"], done["message_sent"], done["seq"]) == (0, True, 1)


@pytest.mark.parametrize(
    ("claims", "allowed"),
    [
        ({"role": "admin"}, True),
        ({"role": "developer"}, False),
        ({"role": "viewer", "publish": ["sig*"]}, True),
        ({"role": "admin", "publish": []}, False),
    ],
)
async def test_it_needs_publish_permission(claims: dict[str, Any], allowed: bool, autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        answer = await rest.post("broadcast", {"channel": "signals", **EVENT}, Authorization=rest.bearer(**claims))
        if allowed:
            answer.ok()
        else:
            assert "signals" in answer.problem(403, "permission_denied")


async def test_the_number_of_channels_is_bounded(autojump_clock: MockClock) -> None:
    async with api(channels={"orders.*": ChannelSettings()}, max_channels=7) as rest:
        (await rest.post("broadcast", {"channel": "orders.a", "event_type": "x"})).ok()
        answer = await rest.post("broadcast", {"channel": "orders.b", "event_type": "x"})
        assert "max_channels" in answer.problem(404, "unknown_channel")


# What is refused


@pytest.mark.parametrize(
    ("query", "body", "status", "code", "said"),
    [
        ("", "{", 400, "invalid_json", "not valid JSON"),
        ("", "", 400, "invalid_json", "not valid JSON"),
        ("", '{"channel":5,"event_type":"x"', 400, "invalid_json", "not valid JSON"),
        ("", "[" * 100_000, 400, "invalid_json", "not valid JSON"),
        ("", b'{"channel":"logs","event_type":"x","data":{"a":"\xff"}}', 400, "invalid_json", "UTF-8 at byte 48"),
        ("", b'{"channel":"\xff"}', 400, "invalid_json", "UTF-8"),
        ("", "[]", 422, "invalid_message", "expected `object`, got `array`"),
        ("", '{"channel":"logs"}', 422, "invalid_message", "event_type is missing"),
        ("", '{"channel":5,"event_type":"x"}', 422, "invalid_message", "channel: expected `str`"),
        ("", '{"channel":"logs","event_type":"a b"}', 422, "invalid_message", "event_type must be"),
        ("", '{"channel":"logs","event_type":"x","data":[]}', 422, "invalid_message", "data must be an object"),
        (
            "",
            '{"channel":"signals","event_type":"x","data":{"priority":256}}',
            422,
            "invalid_message",
            "data.priority",
        ),
        ("", '{"event_type":"x"}', 422, "invalid_message", "channel is missing"),
        ("?channel=logs", '{"channel":"metrics","event_type":"x"}', 422, "invalid_message", "query says 'logs'"),
        ("", '{"channel":"nope","event_type":"x"}', 404, "unknown_channel", "nope"),
        ("?channel=", '{"event_type":"x"}', 404, "unknown_channel", "Unknown channel"),
        ("", '{"channel":"connections","event_type":"x"}', 403, "permission_denied", "connections"),
        (
            "",
            '{"client_id":"a","user_id":"b","event_type":"x"}',
            422,
            "invalid_message",
            "client_id: give it or",
        ),
        ("", '{"client_id":"a","channel":"logs","event_type":"x"}', 422, "invalid_message", "channel: an event"),
        (
            "",
            '{"client_id":"a","channel":"global","event_type":"x"}',
            422,
            "invalid_message",
            "channel: an event",
        ),
        ("", '{"channel":"personal","event_type":"x"}', 422, "invalid_message", "client_id is missing"),
        ("", '{"channel":"global","event_type":"a b"}', 422, "invalid_message", "event_type must be"),
        ("", '{"channel":"global","event_type":"x","data":3}', 422, "invalid_message", "data: expected `object`"),
        ("", '{"client_id":"nobody","event_type":"x"}', 404, "not_found", "'nobody'"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_what_is_refused(
    query: str, body: str | bytes, status: int, code: str, said: str, autojump_clock: MockClock
) -> None:
    async with api() as rest:
        client = await rest.world.subscriber("signals", "logs")
        payload = body if isinstance(body, bytes) else body.encode()
        answer = await rest.call(BROADCAST + query, "POST", body=payload, **JSON)
        assert said in answer.problem(status, code)
        await rest.world.settle()
        assert client.take() == []


@pytest.mark.parametrize("target", [{"channel": "logs"}, {"channel": "global"}])
async def test_an_event_has_a_size(target: dict[str, str], autojump_clock: MockClock) -> None:
    async with api(max_event_bytes=100) as rest:
        fits, too_large = {"a": "x" * 91}, {"a": "x" * 93}
        assert len(json.dumps(fits)) == 100
        (await rest.post("broadcast", {**target, "event_type": "x", "data": fits})).ok()
        answer = await rest.post("broadcast", {**target, "event_type": "x", "data": too_large})
        assert "102 bytes, the limit is 100" in answer.problem(413, "payload_too_large")


@pytest.mark.parametrize("target", ['"channel":"logs"', '"channel":"global"'])
async def test_data_have_a_depth(target: str, autojump_clock: MockClock) -> None:
    async with api() as rest:
        client = await rest.world.subscriber("logs")
        for depth in (MAX_DEPTH, MAX_DEPTH + 1):
            body = f'{{{target},"event_type":"x","data":' + '{"a":' * depth + "1" + "}" * (depth + 1)
            answer = await rest.call(BROADCAST, "POST", body=body.encode(), **JSON)
            if depth == MAX_DEPTH:
                answer.ok()
            else:
                assert answer.problem(422, "invalid_message").startswith("data nests deeper than 512")
        await rest.world.settle()
        assert len(client.take()) == 1


async def test_a_body_has_a_size(autojump_clock: MockClock) -> None:
    async with api(max_body_bytes=1000) as rest:
        answer = await rest.post("broadcast", {"channel": "logs", "event_type": "x", "data": {"a": "x" * 1000}})
        assert "more than 1000 bytes" in answer.problem(413, "payload_too_large")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Content_Type": "application/x-ndjson"},
        {"Content_Type": "application/jsonp"},
        {**JSON, "Content_Encoding": "gzip"},
    ],
)
async def test_other_types_are_refused(headers: dict[str, Any], autojump_clock: MockClock) -> None:
    async with api() as rest:
        body = json.dumps({"channel": "signals", **EVENT}).encode()
        answer = await rest.call(BROADCAST, "POST", body=body, **headers)
        answer.problem(415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
async def test_a_type_may_have_parameters(content_type: str, autojump_clock: MockClock) -> None:
    async with api() as rest:
        body = json.dumps({"channel": "signals", **EVENT}).encode()
        headers: dict[str, Any] = {"Content_Type": content_type, "Content_Encoding": "Identity"}
        (await rest.call(BROADCAST, "POST", body=body, **headers)).ok()


async def test_the_caller_is_judged_before_the_body(autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        answer = await rest.call(BROADCAST, "POST", body=b"{", Authorization="Bearer x", **JSON)
        answer.problem(401, "invalid_token")


# To clients, users and everybody


async def test_to_one_client(autojump_clock: MockClock) -> None:
    async with api() as rest:
        client, other = await rest.world.connect(), await rest.world.connect()
        done = (await rest.post("broadcast", {"client_id": client.client_id, **EVENT})).ok()
        assert done == {"status": "ok", "channel": "personal", "subscribers": 1, "message_sent": True}
        event = await client.expect(channel="personal", event_type="signal.input.text")
        assert event["data"] == {"priority": 200}
        assert "seq" not in event
        assert other.take() == []
        (await rest.post("broadcast", {"channel": "personal", "client_id": client.client_id, **EVENT})).ok()
        (await rest.post("broadcast?channel=personal", {"client_id": client.client_id, **EVENT})).ok()


async def test_to_one_user_with_all_sessions_of_it(autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        mine = [await rest.world.connect(token=rest.world.jwt("ada")) for _ in range(2)]
        other = await rest.world.connect(token=rest.world.jwt("bob"))
        admin = rest.bearer(role="admin")
        done = (await rest.post("broadcast", {"user_id": "ada", **EVENT}, Authorization=admin)).ok()
        assert (done["channel"], done["subscribers"], done["message_sent"]) == ("personal", 2, True)
        for client in mine:
            await client.expect(channel="personal")
        assert other.take() == []
        done = (await rest.post("broadcast", {"user_id": "eve", **EVENT}, Authorization=admin)).ok()
        assert (done["subscribers"], done["message_sent"]) == (0, False)


@pytest.mark.parametrize(("query", "body"), [("", {"channel": "global"}), ("?channel=global", {})])
async def test_to_everybody(query: str, body: dict[str, str], autojump_clock: MockClock) -> None:
    async with api() as rest:
        done = (await rest.post(f"broadcast{query}", {**body, **EVENT})).ok()
        assert done == {"status": "ok", "channel": "global", "subscribers": 0, "message_sent": True}
        clients = [await rest.world.connect() for _ in range(3)]
        done = (await rest.post(f"broadcast{query}", {**body, **EVENT})).ok()
        assert done["subscribers"] == 3
        for client in clients:
            assert "seq" not in await client.expect(channel="global")


@pytest.mark.parametrize("target", [{"channel": "global"}, {"client_id": "x"}, {"user_id": "x"}])
async def test_these_are_for_administrators(target: dict[str, Any], autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        token = rest.bearer(role="viewer", publish=["*"])
        answer = await rest.post("broadcast", {**target, **EVENT}, Authorization=token)
        assert "for the role admin" in answer.problem(403, "permission_denied")


async def test_events_over_http_and_over_the_socket_are_one_stream(autojump_clock: MockClock) -> None:
    async with api() as rest:
        client = await rest.world.subscriber("signals")
        client.publish(event_type="a", data={})
        await rest.world.settle()
        assert (await rest.post("broadcast", {"channel": "signals", "event_type": "b"})).ok()["seq"] == 2
        client.publish(event_type="c", data={})
        await rest.world.settle()
        assert seqs(client.take()) == [1, 2, 3]
