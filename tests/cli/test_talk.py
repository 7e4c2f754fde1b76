"""The client's side of the contract: connecting, signing in, what the server says, and coming back."""

import re
import socket
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from router.talk import Conversation, Lost, Return, TalkError, Target, connect, keep_talking, may_return
from router.talk import conversation as conversation_module
from router.talk import returning as returning_module
from router.talk import target as target_module
from router.talk.said import Connected, Error, Event, Gap, Other, Position, Published, Subscribed, read
from tests.certificates import certificate
from tests.cli.peer import Wire, peer
from tests.e2e.clients import reset
from tests.router.serving import serving

KEY = "k" * 32


@pytest.fixture(autouse=True)
def coming_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returning_module, "_FIRST_DELAY_S", 0.001)


async def say_nothing(wire: Wire) -> None:
    assert await wire.close_of() == 1000


async def greet(wire: Wire) -> None:
    await wire.greet()
    assert await wire.close_of() == 1000


# What the server says


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (
            b'{"channel":"a","timestamp":"t","event_type":"x","data":{"n":1},"seq":3,"later":1}',
            Event("a", "x", "t", msgspec.Raw(b'{"n":1}'), 3),
        ),
        (
            b'{"channel":"personal","timestamp":"t","event_type":"x","data":{}}',
            Event("personal", "x", "t", msgspec.Raw(b"{}"), None),
        ),
        (
            b'{"type":"subscribed","channels":["a"],"positions":{"a":{"epoch":"e","seq":4}},"denied":["b"],"reasons":{}}',
            Subscribed(["a"], {"a": Position("e", 4)}, ["b"]),
        ),
        (b'{"type":"published","id":7,"channel":"a","seq":[1,2]}', Published("a", (1, 2), 7)),
        (
            b'{"type":"gap","of":"a","epoch":"e","from":4,"to":null,"count":null,"reason":"epoch_changed"}',
            Gap("a", "epoch_changed", 4),
        ),
        (
            b'{"type":"error","id":7,"code":"rate_limited","message":"m","retry_after":1}',
            Error("rate_limited", "m", 7, None, 1.0),
        ),
        (b'{"type":"invented_later","seq":"?"}', Other()),
    ],
)
def test_messages_are_read(payload: bytes, message: object) -> None:
    assert read(payload) == message


# Close codes


@pytest.mark.parametrize(
    ("codes", "returns"),
    [
        ((1001, 1006, 1011, 1012, 1013, 4000, 4001, 4003, 4004, 4321, 4499), Return.YES),
        ((1008, 4002), Return.WITH_FRESH_TOKEN),
        ((1000, 1002, 1003, 1007, 1009, 4500, 4501, 4502, 4999), Return.NO),
    ],
)
def test_close_codes_say_whether_to_come_back(codes: tuple[int, ...], returns: Return) -> None:
    assert [may_return(code) for code in codes] == [returns] * len(codes)


# Addresses


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://h", "ws://h/ws?reconnection_token=a%26b"),
        ("ws://h:8000/", "ws://h:8000/ws?reconnection_token=a%26b"),
        ("wss://[::1]:8000/deep/ws?token=t", "wss://[::1]:8000/deep/ws?token=t&reconnection_token=a%26b"),
    ],
)
def test_the_address_has_a_path_and_the_session(url: str, address: str) -> None:
    assert Target(url).address("a&b") == address


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000", "http://h/ws", "ws:///ws", "ws://h:x/ws", "ws://h/ws#f", "ws://[h", "ws://h\udcff"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(TalkError, match=re.escape(repr(url))):
        Target(url).address()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ws://h:8000/ws", "ws://h:8000/ws"),
        ("wss://user:secret@h/deep?token=secret", "wss://h/deep"),
        ("ws://:secr@et@h?secret", "ws://h"),
        ("user:secret@h?secret#f", "h#f"),
    ],
)
def test_what_is_shown_of_an_address_is_no_secret(url: str, shown: str) -> None:
    assert Target(url).shown == shown


@pytest.mark.parametrize("url", ["ws://secret@h", "http://user:secret@h?secret", "ws://h:x/?secret"])
def test_what_is_no_address_may_hold_a_secret(url: str) -> None:
    with pytest.raises(TalkError, match="is no router's address") as error:
        Target(url).address()
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ümlaut"])
def test_a_token_with_impossible_characters_is_refused(token: str) -> None:
    with pytest.raises(TalkError, match="characters that no token has") as error:
        Target("ws://h").options(token)
    assert token not in str(error.value)


def test_only_the_machine_itself_is_reached_past_proxies() -> None:
    assert Target("ws://127.0.0.1:1").options(None)["proxy"] is None
    assert "proxy" not in Target("ws://router.example").options(None)


def test_a_ca_file_must_be_one_and_of_use(tmp_path: Path) -> None:
    no_ca = tmp_path / "ca.pem"
    with pytest.raises(TalkError, match="No such file"):
        Target("wss://h", ca=str(no_ca)).options(None)
    no_ca.write_text("nonsense")
    with pytest.raises(TalkError, match="cannot be used"):
        Target("wss://h", ca=str(no_ca)).options(None)
    with pytest.raises(TalkError, match=r"with wss:// only, not with ws://h$"):
        Target("ws://h?secret", ca=str(no_ca)).options(None)


# Connecting


async def opens(target: Target) -> Connected:
    async with connect(target, None) as conversation:
        return await conversation.hear_connected()


async def test_a_conversation_begins_with_connected_and_ends_with_1000() -> None:
    async with peer(greet) as served, connect(Target(served.url), "a.b.c", "session") as conversation:
        assert (await conversation.hear_connected()).role == "admin"
    (request,) = served.requests
    assert request.path == "/ws?reconnection_token=session"
    assert request.headers["Authorization"] == "Bearer a.b.c"
    assert "Sec-WebSocket-Extensions" not in request.headers


async def test_it_is_closed_in_order_also_where_it_fails() -> None:
    async def fail(target: Target) -> None:
        async with connect(target, None) as conversation:
            await conversation.hear_connected()
            raise OSError("ours")  # not taken for one of the connection

    async with peer(greet) as served:
        with pytest.raises(OSError, match="ours"):
            await fail(Target(served.url))


async def test_it_is_closed_in_order_also_where_it_is_cancelled() -> None:
    async with peer(greet) as served:
        with trio.CancelScope() as scope:
            async with connect(Target(served.url), None) as conversation:
                await conversation.hear_connected()
                scope.cancel()
                await trio.sleep_forever()


@pytest.mark.parametrize("first", ['{"type":"pong"}', "nonsense", '{"type":"connected"}'])
async def test_another_first_message_is_another_protocol(first: str) -> None:
    async def script(wire: Wire) -> None:
        await wire.connection.send(first)
        await wire.close_of()

    async with peer(script) as served:
        with pytest.raises(Lost, match="does not speak this protocol") as lost:
            await opens(Target(served.url))
    assert lost.value.may_return is Return.NO


async def test_a_server_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation_module, "OPEN_S", 0.01)

    async def script(wire: Wire) -> None:
        await wire.close_of()

    async with peer(script) as served:
        with pytest.raises(Lost, match="said nothing for"):
            await opens(Target(served.url))


async def test_a_refusal_says_why() -> None:
    async def script(wire: Wire) -> None:
        await wire.close(1008, "the token has expired")

    async with peer(script) as served:
        with pytest.raises(Lost, match=r"^refused: the token has expired \(1008\)$") as lost:
            await opens(Target(served.url))
    assert (lost.value.may_return, lost.value.code) == (Return.WITH_FRESH_TOKEN, 1008)


async def test_what_ends_a_conversation_is_told_to_who_sends_and_to_who_reads() -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await wire.say(type="goodbye", reason="shutdown", reconnect_after_ms=1250)
        await wire.close(1001)

    async with peer(script) as served, connect(Target(served.url), None) as conversation:
        await conversation.hear_connected()
        await conversation.receive()
        with pytest.raises(Lost, match=r"^connection lost: no reason given \(1001\)$") as lost:
            await conversation.receive()
        with pytest.raises(Lost, match="1001"):
            await conversation.send({"type": "ping"})
    assert (lost.value.may_return, lost.value.code, lost.value.after_s) == (Return.YES, 1001, 1.25)


async def test_a_broken_connection_is_1006() -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await wire.drop()

    async with peer(script) as served, connect(Target(served.url), None) as conversation:
        await conversation.hear_connected()
        with pytest.raises(Lost) as lost:
            await conversation.receive()
    assert (lost.value.may_return, lost.value.code) == (Return.YES, 1006)


async def test_what_breaks_the_rules_ends_it_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_module, "_MAX_MESSAGE_BYTES", 1000)

    async def script(wire: Wire) -> None:
        await wire.greet()
        await wire.say(type="error", code="internal", message="x" * 1000)
        assert await wire.close_of() == 1009

    async with peer(script) as served, connect(Target(served.url), None) as conversation:
        await conversation.hear_connected()
        with pytest.raises(Lost, match="1009") as lost:
            await conversation.receive()
    assert (lost.value.may_return, lost.value.code) == (Return.NO, 1009)


# Silence


async def test_a_silent_server_is_asked_whether_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation_module, "OPEN_S", 1000)  # it is the server's heartbeat that counts

    async def script(wire: Wire) -> None:
        await wire.greet(heartbeat_s=0.01)
        assert await wire.hear() == {"type": "ping"}
        await wire.say(type="pong")
        await wire.close_of()

    async with peer(script) as served, connect(Target(served.url), None) as conversation:
        await conversation.hear_connected()
        assert (await conversation.receive())[0] == Other()


async def test_a_server_that_does_not_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation_module, "ANSWER_S", 0.01)

    async def script(wire: Wire) -> None:
        await wire.greet(heartbeat_s=0.01)
        await wire.close_of()

    async with peer(script) as served, connect(Target(served.url), None) as conversation:
        await conversation.hear_connected()
        with pytest.raises(Lost, match="silent for") as lost:
            await conversation.receive()
    assert lost.value.may_return is Return.YES


# What cannot be reached


async def fails(target: Target) -> Lost:
    with trio.fail_after(30), pytest.raises(Lost) as lost:
        async with connect(target, None):
            raise AssertionError("there is a connection")
    assert str(lost.value).startswith(f"cannot connect to {target.shown}: ")
    assert "secret" not in str(lost.value)
    assert lost.value.code is None
    return lost.value


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        lost = await fails(Target(f"ws://user:secret@127.0.0.1:{taken.getsockname()[1]}/ws?token=secret"))
    assert str(lost).endswith(": Connection refused")
    assert lost.may_return is Return.YES


async def test_a_name_has_several_addresses_or_none() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert "Connection refused" in str(await fails(Target(f"ws://localhost:{port}/ws")))
    assert "not known" in str(await fails(Target("ws://no such host/ws")))


@pytest.mark.parametrize(
    ("path", "told", "returns"), [("/nowhere", "404", Return.NO), ("/api/v1/websocket/status", "404", Return.NO)]
)
async def test_another_path(path: str, told: str, returns: Return) -> None:
    async with serving() as port:
        lost = await fails(Target(f"ws://127.0.0.1:{port}{path}"))
    assert told in str(lost)
    assert lost.may_return is returns


async def answering(answer: bytes) -> Lost:
    """Connect to a server that answers everybody alike."""

    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        lost = await fails(Target(f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"))
        nursery.cancel_scope.cancel()
    return lost


@pytest.mark.parametrize(
    ("answer", "told", "returns"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "answers 503", Return.YES),
        (b"HTTP/1.1 429 Slowly\r\nContent-Length: 0\r\n\r\n", "answers 429", Return.YES),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "answers 403", Return.NO),
        (b"HTTP/1.1 101 Yes\r\nUpgrade: h2c\r\n\r\n", "missing Connection header", Return.NO),
        (b"HTTP/1.1 302 There\r\nLocation: http://secret@h/\r\n\r\n", "scheme isn't ws or wss", Return.NO),
        (b"220 mail.example ESMTP\r\n", "does not answer as a WebSocket server", Return.YES),
        (b"", "does not answer as a WebSocket server", Return.YES),
    ],
)
async def test_another_kind_of_server(answer: bytes, told: str, returns: Return) -> None:
    lost = await answering(answer)
    assert told in str(lost)
    assert lost.may_return is returns


async def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_module, "OPEN_S", 0.05)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        lost = await fails(Target(f"ws://127.0.0.1:{listening.getsockname()[1]}"))
    assert "timed out" in str(lost)
    assert lost.may_return is Return.YES


# TLS


async def test_a_private_authority_is_trusted_where_it_is_named(tmp_path: Path) -> None:
    certified = certificate(tmp_path)
    async with serving(**certified.settings) as port:
        url = f"wss://127.0.0.1:{port}/ws"
        async with connect(Target(url, ca=str(certified.file)), None) as conversation:
            assert (await conversation.hear_connected()).role == "admin"
        lost = await fails(Target(url))
        assert "its certificate is not trusted" in str(lost)
        assert "--ca" in str(lost)
        assert lost.may_return is Return.NO
        lost = await fails(Target(f"ws://127.0.0.1:{port}/ws"))
        assert "400" in str(lost) or "wss://" in str(lost)


async def test_tls_to_a_server_without_it() -> None:
    async with serving() as port:
        lost = await fails(Target(f"wss://127.0.0.1:{port}/ws"))
    assert "TLS failed" in str(lost)
    assert "ws://" in str(lost)
    assert lost.may_return is Return.NO


async def test_a_server_that_hangs_up_amid_the_tls_handshake() -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await reset(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        lost = await fails(Target(f"wss://127.0.0.1:{listener.socket.getsockname()[1]}/ws"))
        nursery.cancel_scope.cancel()
    assert str(lost).endswith(": it hung up")
    assert lost.may_return is Return.YES


# Coming back


class Guest:
    """Converses once for each connection, and takes note of the losses."""

    def __init__(self, *, leaves_after: int) -> None:
        self.greetings: list[Connected] = []
        self.losses: list[tuple[str, float]] = []
        self._leaves_after = leaves_after

    async def converse(self, conversation: Conversation, connected: Connected) -> None:
        self.greetings.append(connected)
        if len(self.greetings) < self._leaves_after:
            while True:
                await conversation.receive()

    def lose(self, lost: Lost, delay_s: float) -> None:
        self.losses.append((str(lost), delay_s))


async def test_it_comes_back_to_its_session() -> None:
    async def shut_down(wire: Wire) -> None:
        await wire.greet(reconnection_token="first")
        await wire.say(type="goodbye", reason="shutdown", reconnect_after_ms=1)
        await wire.close(1012, "restart")

    async def refuse(wire: Wire) -> None:
        await wire.close(1013, "full")

    async def resume(wire: Wire) -> None:
        await wire.greet(reconnection_token="second", reconnected=True)
        await wire.drop()

    guest = Guest(leaves_after=3)
    async with peer(shut_down, refuse, resume, greet) as served:
        await keep_talking(Target(served.url), guest.converse, guest.lose)
    paths = [request.path for request in served.requests]
    assert paths == ["/ws", *[f"/ws?reconnection_token={session}" for session in ("first", "first", "second")]]
    assert [text for text, _ in guest.losses] == [
        "connection lost: restart (1012)",
        "refused: full (1013)",
        "connection lost: no reason given (1006)",
    ]
    assert guest.losses[0][1] == 0.001  # as the server said
    assert [each.reconnected for each in guest.greetings] == [False, True, False]


async def test_what_cannot_be_reached_at_first_is_not_tried_again() -> None:
    async def refuse(wire: Wire) -> None:
        await wire.close(1013, "full")

    guest = Guest(leaves_after=1)
    async with peer(refuse) as served:
        with pytest.raises(Lost, match="full"):
            await keep_talking(Target(served.url), guest.converse, guest.lose)
    assert guest.losses == []


@pytest.mark.parametrize("code", [1000, 1002, 4500, 4501])
async def test_after_some_codes_it_stays_away(code: int) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await wire.close(code, "go away")

    guest = Guest(leaves_after=2)
    async with peer(script) as served:
        with pytest.raises(Lost, match="go away"):
            await keep_talking(Target(served.url), guest.converse, guest.lose)


async def test_after_a_token_that_ended_it_comes_back_with_a_fresh_one_only() -> None:
    async def expire(wire: Wire) -> None:
        await wire.greet()
        await wire.close(4002, "the token has expired")

    tokens = iter(["old", "fresh", "fresh", "fresh", None])
    guest = Guest(leaves_after=4)
    async with peer(expire, expire) as served:
        with pytest.raises(Lost, match="expired"):
            await keep_talking(Target(served.url, lambda: next(tokens)), guest.converse, guest.lose)
    assert [request.headers["Authorization"] for request in served.requests] == ["Bearer old", "Bearer fresh"]


async def test_without_a_token_it_does_not_come_back_for_a_fresh_one() -> None:
    async def expire(wire: Wire) -> None:
        await wire.greet()
        await wire.close(4002, "the token has expired")

    tokens = iter(["old", None])  # the file is gone, or empty
    guest = Guest(leaves_after=2)
    async with peer(expire) as served:
        with pytest.raises(Lost, match="expired"):
            await keep_talking(Target(served.url, lambda: next(tokens)), guest.converse, guest.lose)


async def test_it_waits_longer_each_time_but_not_after_a_good_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returning_module, "_FIRST_DELAY_S", 2**-14)
    monkeypatch.setattr(returning_module, "_LONGEST_DELAY_S", 2**-11)

    async def drop(wire: Wire) -> None:
        await wire.greet()
        await wire.drop()

    guest = Guest(leaves_after=7)
    async with peer(*[drop] * 6, greet) as served:
        await keep_talking(Target(served.url), guest.converse, guest.lose)
    for number, (_, delay_s) in enumerate(guest.losses, 1):
        longest = min(2.0 ** (number - 14), 2**-11)
        assert longest / 2 <= delay_s <= longest

    monkeypatch.setattr(returning_module, "_STABLE_S", 0)
    guest = Guest(leaves_after=4)
    async with peer(*[drop] * 3, greet) as served:
        await keep_talking(Target(served.url), guest.converse, guest.lose)
    assert all(delay_s <= 2**-14 for _, delay_s in guest.losses)


async def test_who_is_told_of_a_loss_may_end_it() -> None:
    async def drop(wire: Wire) -> None:
        await wire.greet()
        await wire.drop()

    def give_up(lost: Lost, _: float) -> None:
        raise lost

    guest = Guest(leaves_after=2)
    async with peer(drop) as served:
        with pytest.raises(Lost, match="1006"):
            await keep_talking(Target(served.url), guest.converse, give_up)


async def test_the_server_drops_the_session_of_who_left_in_order() -> None:
    async with serving() as port:
        target = Target(f"ws://127.0.0.1:{port}/ws")
        async with connect(target, None) as conversation:
            session = (await conversation.hear_connected()).reconnection_token
        async with connect(target, None, session) as conversation:
            assert not (await conversation.hear_connected()).reconnected


async def test_opening_can_be_given_up() -> None:
    with socket.socket() as listening, trio.fail_after(30):
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        with trio.move_on_after(0.01) as scope:
            await opens(Target(f"ws://127.0.0.1:{listening.getsockname()[1]}"))
    assert scope.cancelled_caught
