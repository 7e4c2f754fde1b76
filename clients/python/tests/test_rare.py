"""The state machine where a server, or a program, does what is rarely done."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from neurograph_ws_client import ConnectError, Published, RequestRefusedError, RequestTimeoutError, State
from neurograph_ws_client.notices import MAX_NOTICES
from neurograph_ws_client.options import Options
from neurograph_ws_client.publishing import KEY_KNOWN_S, Publish, PublishQueue
from neurograph_ws_client.requests import Reply
from neurograph_ws_client.wire import Address, Wire
from ws_line import CONNECTED, NOW, Line, event


def connecting() -> Line:
    """A client whose handshake is out."""
    line = Line()
    line.core.start()
    line.core.begin(None, line.now)
    assert line.core.to_send(line.now)
    return line


def opened(*channels: str, **settings: Any) -> Line:
    line = Line(**settings)
    line.open(epoch="e1")
    for channel in channels:
        line.subscribe(channel)
    return line


def types(line: Line) -> list[str]:
    return [message["type"] for message in line.take()]


# The handshake


def test_a_password_in_the_url_gives_way_to_the_token() -> None:
    wire = Wire(Address("ws://me:secret@router.test/ws").uri, "a.b.c")
    sent = wire.take()
    assert sent.count(b"Authorization: ") == 1
    assert b"Authorization: Bearer a.b.c\r\n" in sent


def test_a_server_that_hangs_up_before_it_answers() -> None:
    line = connecting()
    with pytest.raises(ConnectError, match="hung up before it answered") as caught:
        line.core.receive_eof()
    assert caught.value.retry


def test_a_handshake_that_is_not_right() -> None:
    line = connecting()
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    with pytest.raises(ConnectError, match="the server's handshake is not right: ") as caught:
        line.core.receive(head + b"Sec-WebSocket-Accept: nonsense\r\n\r\n", line.now)
    assert not caught.value.retry


def test_connected_is_said_once() -> None:
    line = opened()
    line.say({**CONNECTED["message"], "client_id": "another"})
    assert line.core.connected is not None
    assert line.core.connected.client_id != "another"
    assert line.core.state is State.OPEN


# The end


def test_the_first_reason_counts() -> None:
    line = opened()
    line.close(4000, "heartbeat missed")
    line.open()
    line._server.send_close(4001, "too slow")
    line._reach()
    line.core.receive_eof()
    line.lose()
    line.dispatch()
    assert [told["code"] for name, told in line.told if name == "disconnected"] == [4000, 4001]


def test_what_comes_while_closing_is_not_answered() -> None:
    line = opened()
    line.core.close(line.now)
    line.say({"type": "ping"})
    assert line.take() == []
    line.send_raw(Frame(Opcode.BINARY, b"\0").serialize(mask=False))
    assert line.core.over
    line.lose()
    assert line.core.final is None


def test_goodbye_need_not_say_when_to_come_back() -> None:
    line = opened()
    line.say({"type": "goodbye", "reason": "shutdown", "timestamp": NOW})
    assert line.core.returning.after_s is None
    line.close(1001)
    assert line.core.state is State.WAITING


# Subscribing


def test_what_comes_by_itself_is_never_asked_for() -> None:
    line = opened("personal")
    line.core.subscriptions.add("personal", None, Options({"filter": {"event_type": "a"}}))
    line.core.subscriptions.remove("personal")
    assert line.take() == []


@pytest.mark.parametrize("denied", [True, False])
def test_options_that_change_before_the_answer_are_asked_for_anew(denied: bool) -> None:
    line = opened("signals")
    (first,) = line.take()
    line.core.subscriptions.add("signals", None, Options({"policy": "latest"}))
    (second,) = line.take()
    assert second["policy"] == "latest"
    answer = {"channels": [], "denied": ["signals"], "reasons": {}} if denied else {"channels": ["signals"]}
    line.say({"type": "subscribed", "id": first["id"], "timestamp": NOW, "positions": {}, **answer})
    line.say({"type": "subscribed", "id": second["id"], "timestamp": NOW, "channels": ["signals"],
              "positions": {"signals": {"epoch": "e1", "seq": 4}}})  # fmt: skip
    line.say(event("signals", 5))
    line.dispatch()
    assert [one["seq"] for one in line.delivered] == [5]
    assert line.take() == []


def test_a_refusal_of_older_options_says_nothing_of_newer_ones() -> None:
    line = opened("signals")
    (first,) = line.take()
    line.core.subscriptions.add("signals", None, Options({"policy": "latest"}))
    (second,) = line.take()
    line.say({"type": "error", "code": "invalid_filter", "message": "no", "id": first["id"], "timestamp": NOW})
    line.say({"type": "subscribed", "id": second["id"], "timestamp": NOW, "channels": ["signals"],
              "positions": {"signals": {"epoch": "e1", "seq": 0}}})  # fmt: skip
    line.say(event("signals", 1))
    assert len(line.errors()) == 1
    assert len(line.delivered) == 1


def test_an_unsubscribe_that_comes_too_fast_waits() -> None:
    line = opened("signals", "logs")
    line.granted("signals", "logs")
    line.core.subscriptions.remove("signals")
    line.core.subscriptions.remove("logs")
    (asked,) = line.take()
    line.subscribe("logs")
    line.granted("logs")
    line.say({"type": "error", "code": "rate_limited", "message": "slow down", "retry_after": 5, "id": asked["id"],
              "timestamp": NOW})  # fmt: skip
    assert line.take() == []
    line.pass_time(5.1)
    (again,) = line.take()
    assert (again["type"], again["channels"]) == ("unsubscribe", ["signals"])
    assert line.errors() == []


def test_a_subscribe_without_an_answer_is_told() -> None:
    line = opened("signals")
    assert types(line) == ["subscribe"]
    line.pass_time(11)
    (error,) = line.errors()
    assert isinstance(error, RequestTimeoutError)
    assert str(error) == "subscribe: no reply in time"


# Publishing, and telling


def test_what_has_become_uncertain_is_not_sent() -> None:
    failed: list[Exception] = []
    queue = PublishQueue(10, 1_000, failed.append)
    reply: Reply[Published] = Reply()
    queue.add(Publish(1, "signals", b"{}", reply))
    assert queue.take(0.0, "e1", 1_000, 1_000) == [b"{}"]
    queue.lost()
    queue.connected("e1", 50.0)
    queue.expire(KEY_KNOWN_S + 1)
    assert reply.done
    assert len(failed) == 1
    assert queue.take(KEY_KNOWN_S + 1, "e1", 1_000, 1_000) == []


def test_what_callbacks_are_told_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    line = opened()
    line.dispatch()
    with caplog.at_level(logging.WARNING):
        for number in range(MAX_NOTICES + 1):
            line.say({"type": "pong", "timestamp": NOW, "id": number})
    assert "callbacks are too slow: one for 'pong' is left out" in caplog.text
    line.told.clear()
    line.dispatch()
    assert [argument["id"] for _, argument in line.told] == list(range(1, MAX_NOTICES + 1))


@pytest.mark.parametrize(("code", "retryable"), [("rate_limited", True), ("permission_denied", False)])
def test_a_refusal_says_whether_to_try_again(code: str, retryable: bool) -> None:
    assert RequestRefusedError(code, "no").retryable is retryable
