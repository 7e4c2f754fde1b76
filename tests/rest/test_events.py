"""`POST events`: what is judged how, in both forms."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from router.config import ChannelSettings
from router.letters import Broadcast, Drain
from router.limits import Rate
from router.rest.events import BATCH_BYTES, BATCH_EVENTS
from router.rest.upload import ENVELOPE_BYTES
from tests.rest.calls import API, JSON, NDJSON, WITH_KEY, Answer, Api, Upload, api, http, read_answer
from tests.router.harness import events, seqs
from tests.router.serving import connect, hear, serving

EVENTS = f"{API}/events"
GOOD = {"channel": "signals", "event_type": "x", "data": {"priority": 1}}
#: So small that a batch of them is bounded by their number.
SMALL = {"channel": "signals", "event_type": "x"}
FORMS = ["array", "lines"]


async def send(rest: Api, form: str, items: Sequence[object], **headers: Any) -> Answer:
    """Send items in one of the forms."""
    if form == "array":
        return await rest.post("events", items, **headers)
    body = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items).encode()
    return await rest.call(EVENTS, "POST", body=body, **NDJSON, **headers)


def place(form: str, index: int) -> int:
    """What `line` says of the item at an index."""
    return index if form == "array" else index + 1


@pytest.mark.parametrize("form", FORMS)
async def test_events_are_published_in_their_order(form: str, autojump_clock: MockClock) -> None:
    async with api() as rest:
        client = await rest.world.subscriber("signals", "logs")
        items = [{"channel": ("signals", "signals", "logs")[n % 3], "event_type": f"e{n}"} for n in range(30)]
        assert (await send(rest, form, items)).ok() == {"accepted": 30, "rejected": [], "rejected_count": 0}
        await rest.world.settle()
        got = client.take()
        for channel in ("signals", "logs"):
            wanted = [item["event_type"] for item in items if item["channel"] == channel]
            assert [event["event_type"] for event in events(got, channel)] == wanted
            assert seqs(got, channel) == list(range(1, len(wanted) + 1))
        assert all(event["data"] == {} for event in got)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("item", "error"),
    [
        (5, "expected `object`, got `int`"),
        (None, "expected `object`, got `null`"),
        ({"event_type": "x"}, "channel is missing"),
        ({"channel": "signals"}, "event_type is missing"),
        ({"channel": ["signals"], "event_type": "x"}, "channel: expected `str`, got `array`"),
        ({**GOOD, "event_type": ""}, "event_type must be 1 to 128 characters of A-Z a-z 0-9 . _ - : (got '')"),
        ({**GOOD, "data": []}, "data must be an object"),
        ({**GOOD, "data": {"priority": "high"}}, "data.priority: expected `int`, got `str`"),
        ({**GOOD, "data": {"x": "y" * 200}}, "data has 209 bytes, the limit is 100"),
        ({**GOOD, "channel": "nope"}, "Unknown channel: nope"),
        ({**GOOD, "channel": "personal"}, "Unknown channel: personal"),
        ({**GOOD, "channel": "connections"}, "Permission denied to publish to channel: connections"),
    ],
)
async def test_an_event_that_cannot_be_published_is_left_out(
    item: object, error: str, form: str, autojump_clock: MockClock
) -> None:
    async with api(max_event_bytes=100) as rest:
        client = await rest.world.subscriber("signals")
        done = (await send(rest, form, [GOOD, item, GOOD])).ok()
        rejected = [{"line": place(form, 1), "error": error}]
        assert done == {"accepted": 2, "rejected": rejected, "rejected_count": 1}
        await rest.world.settle()
        assert seqs(client.take()) == [1, 2]
        alone = await send(rest, form, [item])
        assert "none of the events" in alone.problem(400, "invalid_message")
        rejected = [{"line": place(form, 0), "error": error}]
        assert {name: alone.json()[name] for name in done} == {
            "accepted": 0,
            "rejected": rejected,
            "rejected_count": 1,
        }
        await rest.world.settle()
        assert client.take() == []


@pytest.mark.parametrize("form", FORMS)
async def test_without_an_event_there_is_nothing_to_do(form: str, autojump_clock: MockClock) -> None:
    async with api() as rest:
        answer = await send(rest, form, [])
        assert "no event in the body" in answer.problem(400, "invalid_message")
        assert answer.json()["rejected_count"] == 0


@pytest.mark.parametrize("form", FORMS)
async def test_each_event_needs_permission_on_its_channel(form: str, autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        token = rest.bearer(role="viewer", publish=["logs"])
        done = (await send(rest, form, [GOOD, {**GOOD, "channel": "logs"}], Authorization=token)).ok()
        assert done["accepted"] == 1
        assert [each["line"] for each in done["rejected"]] == [place(form, 0)]
        (await send(rest, form, [GOOD], Authorization="Bearer x")).problem(401, "invalid_token")


@pytest.mark.parametrize("form", FORMS)
async def test_the_first_100_refusals_are_listed(form: str, autojump_clock: MockClock) -> None:
    async with api() as rest:
        done = (await send(rest, form, [GOOD, *[{}] * 150])).ok()
        assert (done["accepted"], done["rejected_count"]) == (1, 150)
        assert [each["line"] for each in done["rejected"]] == [place(form, index) for index in range(1, 101)]


@pytest.mark.parametrize("form", FORMS)
async def test_what_the_router_refuses_is_told_line_by_line(form: str, autojump_clock: MockClock) -> None:
    async with api(channels={"orders.*": ChannelSettings()}, max_channels=7) as rest:
        orders = [{"channel": f"orders.{name}", "event_type": "x"} for name in "abba"]
        done = (await send(rest, form, [*orders[:2], {}, *orders[2:]])).ok()
        assert (done["accepted"], done["rejected_count"]) == (2, 3)
        assert [each["line"] for each in done["rejected"]] == [place(form, index) for index in (1, 2, 3)]
        assert "max_channels" in done["rejected"][0]["error"]


@pytest.mark.parametrize("form", FORMS)
async def test_the_router_gets_batches_of_bounded_size(
    form: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[tuple[int, int]] = []
    make = Broadcast.__init__

    def noting(self: Broadcast, reply: Any, items: Any, *more: Any) -> None:
        published = [event for item in items for event in item.events]
        batches.append((len(published), sum(len(memoryview(event.data)) for event in published)))
        make(self, reply, items, *more)

    monkeypatch.setattr(Broadcast, "__init__", noting)
    async with api() as rest:
        (await send(rest, form, [SMALL] * 2500)).ok()
        assert [count for count, _ in batches] == [BATCH_EVENTS, BATCH_EVENTS, 500]
        batches.clear()
        large = {**GOOD, "data": {"x": "y" * 20_000}}
        (await send(rest, form, [large] * 9)).ok()
        assert [count for count, _ in batches] == [4, 4, 1]
        assert all(size < BATCH_BYTES + 65_536 for _, size in batches)


async def test_lines_over_a_rate_wait(autojump_clock: MockClock) -> None:
    async with api(rate_publish=Rate(burst=10, per_s=5)) as rest, trio.open_nursery() as nursery:
        client = await rest.world.subscriber("signals")
        begun = trio.current_time()

        async def send_all() -> None:
            assert (await send(rest, "lines", [GOOD] * 30)).ok()["accepted"] == 30

        nursery.start_soon(send_all)
        for seq in range(1, 31):
            await client.expect(channel="signals", seq=seq)
            due = begun + max(0, seq - 10) / 5
            assert due <= trio.current_time() < due + 0.1


async def test_of_an_array_what_is_over_the_rate_is_refused(autojump_clock: MockClock) -> None:
    async with api(rate_publish=Rate(burst=10, per_s=5)) as rest:
        begun = trio.current_time()
        done = (await send(rest, "array", [GOOD] * 9 + [{}] + [GOOD] * 3)).ok()
        assert (done["accepted"], done["rejected_count"]) == (10, 3)
        assert [each["line"] for each in done["rejected"]] == [9, 11, 12]
        assert done["rejected"][1]["error"].startswith("rate_limited: Too many publish messages, try again in 0.2")
        answer = await send(rest, "array", [{}, GOOD])
        assert "over the rate" in answer.problem(429, "rate_limited")
        assert answer.headers["retry-after"] == "1"
        assert (answer.json()["accepted"], answer.json()["rejected_count"]) == (0, 2)
        assert trio.current_time() == begun
        await trio.sleep(answer.json()["retry_after"])
        assert (await send(rest, "array", [GOOD])).ok()["accepted"] == 1


async def test_all_calls_of_a_user_or_an_address_share_a_rate(autojump_clock: MockClock) -> None:
    rate = Rate(burst=2, per_s=0.1)
    async with api(rate_publish=rate, **WITH_KEY) as rest:
        ada = rest.bearer("ada", role="admin")
        (await send(rest, "array", [GOOD], Authorization=ada)).ok()
        (await rest.post("broadcast", GOOD, Authorization=ada, address="192.0.2.8")).ok()
        for call in (rest.post("broadcast", GOOD, Authorization=ada), send(rest, "array", [GOOD], Authorization=ada)):
            (await call).problem(429, "rate_limited")
        (await rest.post("broadcast", GOOD, Authorization=rest.bearer("bob", role="admin"))).ok()
        nobody = rest.bearer(None, role="admin")
        for _ in range(2):
            (await rest.post("broadcast", GOOD, Authorization=nobody)).ok()
        (await rest.post("broadcast", GOOD, Authorization=nobody)).problem(429, "rate_limited")
        (await rest.post("broadcast", GOOD, Authorization=nobody, address="192.0.2.8")).ok()
        begun = trio.current_time()
        (await send(rest, "lines", [GOOD], Authorization=nobody)).ok()
        assert 9 < trio.current_time() - begun < 11


@pytest.mark.parametrize("form", FORMS)
async def test_others_get_their_turn(form: str, autojump_clock: MockClock) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with api() as rest, trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await send(rest, form, [0] * 20_000)
        nursery.cancel_scope.cancel()
    assert turns > 200


@pytest.mark.parametrize("form", FORMS)
async def test_a_router_that_does_not_answer_is_told_with_how_far_it_came(
    form: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api() as rest:
        asked = 0
        ask = type(rest.world.router).ask

        async def failing(self: Any, question: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked > 1:
                await trio.sleep_forever()
            return await ask(self, question)

        monkeypatch.setattr(type(rest.world.router), "ask", failing)
        answer = await send(rest, form, [SMALL] * 1500)
        detail = answer.problem(503, "engine_unavailable")
        assert f"1000 events before line {place(form, 1000)} were accepted" in detail
        assert answer.headers["retry-after"] == "1"


# The array


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        (b"{}", 422, "invalid_message", "expected `array`, got `object`"),
        (b"[", 400, "invalid_json", "not valid JSON"),
        (b'[{"channel":"logs","event_type":"x"},]', 400, "invalid_json", "not valid JSON"),
        (b'[{"channel":"logs","event_type":"x","data":{"a":"\xff"}}]', 400, "invalid_json", "UTF-8"),
    ],
)
async def test_an_array_is_read_as_a_whole(
    body: bytes, status: int, code: str, said: str, autojump_clock: MockClock
) -> None:
    async with api() as rest:
        answer = await rest.call(EVENTS, "POST", body=body, **JSON)
        assert said in answer.problem(status, code)


async def test_an_array_has_a_size(autojump_clock: MockClock) -> None:
    async with api(max_body_bytes=1000) as rest:
        detail = (await rest.post("events", [GOOD] * 100)).problem(413, "payload_too_large")
        assert "application/x-ndjson" in detail


async def test_other_types_are_refused(autojump_clock: MockClock) -> None:
    async with api() as rest:
        detail = (await rest.call(EVENTS, "POST", body=b"[]")).problem(415, "unsupported_media_type")
        assert "application/json or application/x-ndjson" in detail


# Lines


async def test_a_line_that_is_no_json_is_one_refusal(autojump_clock: MockClock) -> None:
    async with api(max_event_bytes=1000) as rest:
        client = await rest.world.subscriber("signals")
        good = json.dumps(GOOD).encode()
        lines = [
            good,
            b"",
            b"nonsense",
            b'{"channel":"signals","event_type":"x","data":{"x":"\xff"}}',
            b"[" * 900,
            b'{"channel":5,"x":}',
            good[:-1] + b" " * (1000 + ENVELOPE_BYTES) + b"}",
            good,
        ]
        done = (await rest.call(EVENTS, "POST", body=b"\r\n".join(lines), **NDJSON)).ok()
        assert (done["accepted"], done["rejected_count"]) == (2, 5)
        numbers, errors = zip(*((each["line"], each["error"]) for each in done["rejected"]), strict=True)
        assert numbers == (3, 4, 5, 6, 7)
        assert all("not valid JSON" in errors[index] for index in (0, 2, 3))
        assert errors[1] == "not valid UTF-8 at byte 51"
        assert errors[4] == f"the line has more than {1000 + ENVELOPE_BYTES} bytes"
        await rest.world.settle()
        assert seqs(client.take()) == [1, 2]


@pytest.mark.parametrize("form", FORMS)
async def test_an_event_may_be_as_large_as_the_limit_says(form: str, autojump_clock: MockClock) -> None:
    async with api() as rest:
        items = [{**GOOD, "event_type": "x" * 128, "data": {"x": "y" * size}} for size in (65_527, 65_528)]
        done = (await send(rest, form, items)).ok()
        assert done["accepted"] == 1
        assert done["rejected"][0]["error"] == "data has 65537 bytes, the limit is 65536"


@pytest.mark.parametrize("path", [f"/{EVENTS}", f"//{EVENTS}", EVENTS.replace("/events", "//events"), f"{EVENTS}/"])
async def test_another_way_to_write_the_path_is_no_way_past(path: str, autojump_clock: MockClock) -> None:
    async with api() as rest:
        answer = await rest.call(path, "POST", body=b"[%b]" % json.dumps(GOOD).encode(), **NDJSON)
        assert repr(path)[:20] in answer.problem(404, "not_found")
        (await rest.call(f"/{API}/status")).problem(404, "not_found")
        assert rest.world.state.streams["signals"].seq == 0


@pytest.mark.parametrize("second", [b"application/json", b"application/x-ndjson"])
async def test_two_types_are_no_type(second: bytes, autojump_clock: MockClock) -> None:
    async with api() as rest:
        again = [(b"content-type", second)]
        answer = await rest.call(EVENTS, "POST", body=b"[]", more_headers=again, **NDJSON)
        answer.problem(415, "unsupported_media_type")


async def test_lines_may_not_be_compressed(autojump_clock: MockClock) -> None:
    async with api() as rest:
        answer = await rest.call(EVENTS, "POST", body=b"x", **NDJSON, Content_Encoding="gzip")
        assert "Content-Encoding" in answer.problem(415, "unsupported_media_type")


async def test_lines_elsewhere_are_not_taken(autojump_clock: MockClock) -> None:
    async with api() as rest:
        (await rest.call(f"{API}/broadcast", "POST", body=b"{}", **NDJSON)).problem(415, "unsupported_media_type")
        (await rest.call(EVENTS, "PUT", body=b"{}", **NDJSON)).problem(405, "method_not_allowed")


async def test_a_line_is_published_when_it_comes(autojump_clock: MockClock) -> None:
    line = json.dumps(GOOD).encode() + b"\n"

    class Slow(Upload):
        async def receive(self) -> dict[str, Any]:
            await trio.sleep(10)
            return await super().receive()

    async with api() as rest, trio.open_nursery() as nursery:
        client = await rest.world.subscriber("signals")
        upload = Slow([line[:20], line[20:] + line[:5], line[5:]])

        async def send_slowly() -> None:
            assert (await rest.call(EVENTS, "POST", body=upload, **NDJSON)).ok()["accepted"] == 2

        nursery.start_soon(send_slowly)
        await client.expect(channel="signals", seq=1)
        assert trio.current_time() == 20
        await client.expect(channel="signals", seq=2)
        assert trio.current_time() == 30


async def test_an_upload_lasts_no_longer_than_its_token(autojump_clock: MockClock) -> None:
    line = json.dumps({**GOOD, "channel": "logs"}).encode() + b"\n"

    class Slow(Upload):
        async def receive(self) -> dict[str, Any]:
            await trio.sleep(10)
            return await super().receive()

    async with api(**WITH_KEY) as rest:
        token = rest.bearer(ttl_s=25, publish=["logs"])
        answer = await rest.call(EVENTS, "POST", body=Slow([line] * 9), Authorization=token, **NDJSON)
        assert answer.problem(401, "invalid_token") == "the token has expired; 2 events before line 3 were accepted"
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert rest.world.state.streams["logs"].seq == 2


async def test_an_upload_ends_when_its_token_is_revoked(autojump_clock: MockClock) -> None:
    line = json.dumps({**GOOD, "channel": "logs"}).encode() + b"\n"

    async with api(**WITH_KEY) as rest:

        class Revoking(Upload):
            async def receive(self) -> dict[str, Any]:
                if self.asked == 1:
                    rest.world.state.revocations.revoke_token("t1")
                return await super().receive()

        token = rest.bearer(jti="t1", publish=["logs"])
        answer = await rest.call(EVENTS, "POST", body=Revoking([line] * 9), Authorization=token, **NDJSON)
        assert "revoked; 1 events before line 2 were accepted" in answer.problem(401, "invalid_token")


@pytest.mark.parametrize("while_waiting", [True, False])
async def test_an_upload_ends_when_the_server_goes_down(while_waiting: bool, autojump_clock: MockClock) -> None:
    line = json.dumps(GOOD).encode() + b"\n"

    async with api() as rest:

        class Draining(Upload):
            async def receive(self) -> dict[str, Any]:
                if self.asked == 2 and while_waiting:
                    rest.world.state.going_down.set()
                event = await super().receive()
                if self.asked == 3:
                    rest.world.state.going_down.set()
                return event

        upload = Draining([line + b"\n" + line, line, line, line])
        answer = await rest.call(EVENTS, "POST", body=upload, **NDJSON)
        detail = answer.problem(503, "engine_unavailable")
        assert detail == "the server is going down; 3 events before line 5 were accepted"
        assert answer.headers["retry-after"] == "1"
        assert rest.world.state.streams["signals"].seq == 3


@pytest.mark.parametrize("waits_for", ["more", "rate"])
async def test_an_upload_that_waits_ends_when_the_server_goes_down(waits_for: str, autojump_clock: MockClock) -> None:
    line = json.dumps(GOOD).encode() + b"\n"

    class Endless(Upload):
        async def receive(self) -> dict[str, Any]:
            return await super().receive() if self.asked < 2 else await trio.sleep_forever()

    pieces = [line, line[:5], b""] if waits_for == "more" else [line + line]
    async with api(rate_publish=Rate(burst=1, per_s=1e-6)) as rest, trio.open_nursery() as nursery:

        async def send_all() -> None:
            answer = await rest.call(EVENTS, "POST", body=Endless(pieces), **NDJSON)
            detail = answer.problem(503, "engine_unavailable")
            assert detail == "the server is going down; 1 events before line 2 were accepted"

        nursery.start_soon(send_all)
        await rest.world.settle()
        begun = trio.current_time()
        await rest.world.router.ask(Drain)
        await rest.world.settle()
        assert trio.current_time() == begun
        assert not nursery.child_tasks


async def test_while_the_router_is_behind_no_more_is_read(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api() as rest, trio.open_nursery() as nursery:
        upload = Upload([json.dumps(GOOD).encode() + b"\n"] * 50)
        gate = await rest.world.hold(monkeypatch)

        async def send_all() -> None:
            assert (await rest.call(EVENTS, "POST", body=upload, **NDJSON)).ok()["accepted"] == 50

        nursery.start_soon(send_all)
        await rest.world.settle()
        assert upload.asked == 1
        gate.set()
        await rest.world.settle()
        assert upload.asked == 50


async def test_what_was_whole_before_a_client_broke_off_stays_published(autojump_clock: MockClock) -> None:
    async with api() as rest:
        client = await rest.world.subscriber("signals")
        line = json.dumps(GOOD).encode() + b"\n"
        upload = Upload([line + line, line + line[:-1]], breaks_off=True)
        with pytest.raises(AssertionError, match="there was no answer"):
            await rest.call(EVENTS, "POST", body=upload, **NDJSON)
        await rest.world.settle()
        assert seqs(client.take()) == [1, 2, 3]


# Over sockets


async def upload(port: int, pieces: Sequence[bytes]) -> trio.SocketStream:
    """Begin an upload in chunks, whose end is the caller's to send."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    head = f"POST {EVENTS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    await stream.send_all(head.encode() + b"Content-Type: application/x-ndjson\r\n\r\n")
    for piece in pieces:
        await stream.send_all(b"%x\r\n%b\r\n" % (len(piece), piece))
    return stream


async def test_a_stream_of_lines_over_a_socket() -> None:
    line = json.dumps(GOOD).encode() + b"\n"
    body = line * 5000 + b"nonsense\n" + line
    async with serving() as port:
        pieces = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
        async with await upload(port, pieces) as stream:
            await stream.send_all(b"0\r\n\r\n")
            done = (await read_answer(stream)).ok()
        assert (done["accepted"], done["rejected_count"]) == (5001, 1)
        assert done["rejected"][0]["line"] == 5001
        assert (await http(port, f"{API}/channels/signals")).ok()["position"]["seq"] == 5001


async def test_an_upload_that_is_refused_is_answered_however_much_of_it_there_is() -> None:
    async with serving(**WITH_KEY) as port:
        answer = await http(port, EVENTS, "POST", body=b"x" * 5_000_000, Authorization="Bearer x", **NDJSON)
        answer.problem(401, "invalid_token")
        answer = await http(port, EVENTS, "POST", body=b"x" * 5_000_000, **JSON)
        answer.problem(413, "payload_too_large")


async def test_a_client_that_breaks_off_leaves_what_was_whole_and_nothing_else() -> None:
    async with serving() as port, connect(port) as client:
        await hear(client, type="connected")
        await client.send('{"type":"subscribe","channels":["signals"]}')
        await hear(client, type="subscribed")
        line = json.dumps(GOOD).encode()
        stream = await upload(port, [line + b"\n" + line])
        await hear(client, channel="signals", seq=1)
        await trio.aclose_forcefully(stream)
        (await http(port, f"{API}/broadcast", "POST", body=line, **JSON)).ok()
        assert (await hear(client, channel="signals"))["seq"] == 2
