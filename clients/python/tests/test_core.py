"""The state machine, under a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from neurograph_ws_client import (
    ClosedError,
    ConnectError,
    ConnectionLostError,
    MessageTooLargeError,
    NotConnectedError,
    ProtocolError,
    RequestRefusedError,
    RequestTimeoutError,
    State,
    SubscriptionDeniedError,
    receiving,
)
from neurograph_ws_client.messages import At
from neurograph_ws_client.options import Options
from ws_line import NOW, Line, event

AT = {"epoch": "e1", "seq": 41}


def at(seq: int, epoch: str = "e1") -> dict[str, Any]:
    return {"epoch": epoch, "seq": seq}


def without_id(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in message.items() if name != "id"} for message in messages]


def state(line: Line) -> State:
    return line.core.state


def over(line: Line) -> bool:
    return line.core.over


def told(line: Line, name: str) -> list[Any]:
    line.dispatch()
    return [argument for each, argument in line.told if each == name]


def subscribed_line(**settings: Any) -> Line:
    """Open, and subscribed to signals, at 41."""
    line = Line(**settings)
    line.open(epoch="e1")
    line.subscribe("signals")
    line.granted("signals", seq=41)
    return line


# Connecting


def test_handshake_names_subprotocol_and_token_and_no_extension() -> None:
    line = Line()
    line.open(token="a.b.c")
    assert line.request is not None
    headers = line.request.headers
    assert headers["Authorization"] == "Bearer a.b.c"
    assert headers["Sec-WebSocket-Protocol"] == "neurograph.v1"
    assert "Sec-WebSocket-Extensions" not in headers
    assert line.request.path == "/ws"
    assert "a.b.c" not in line.request.path


def test_connected_opens_and_is_told_without_the_reconnection_token() -> None:
    line = Line()
    assert state(line) is State.IDLE
    line.accept()
    assert state(line) is State.CONNECTING
    line = Line()
    line.open()
    assert state(line) is State.OPEN
    (info,) = told(line, "connected")
    assert info["client_id"]
    assert "reconnection_token" not in info


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"type":"pong","timestamp":""}', "first message is 'pong'"),
        ("[]", "not an object"),
        ("{", "not JSON"),
        ('{"type":"connected","client_id":1}', "malformed 'connected'"),
        ('{"channel":"signals","seq":1,"data":{}}', "before `connected`"),
    ],
)
def test_first_message_must_be_connected(text: str, says: str) -> None:
    line = Line()
    line.accept()
    with pytest.raises(ConnectError, match=says) as caught:
        line.say(text)
    assert caught.value.code == 1002


def test_refused_before_connected_has_code_and_reason() -> None:
    line = Line()
    line.accept()
    with pytest.raises(ConnectError) as caught:
        line.close(1008, "token expired")
    assert (caught.value.code, caught.value.reason) == (1008, "token expired")
    line.core.failed(caught.value, line.now)
    assert state(line) is State.CLOSED


def test_refused_token_is_tried_again_only_with_another_from_the_function() -> None:
    line = Line(fresh_tokens=True)
    line.accept(token="old")
    with pytest.raises(ConnectError) as caught:
        line.close(1008)
    line.core.failed(caught.value, line.now)
    assert state(line) is State.WAITING
    line.open(token="new")
    assert state(line) is State.OPEN

    line.close(4002, "token expired")
    assert state(line) is State.WAITING
    line.core.start()
    with pytest.raises(ClosedError, match="4002"):
        line.core.begin("new", line.now)
    assert state(line) is State.CLOSED


def refuse(line: Line, token: str) -> None:
    line.accept(token=token)
    with pytest.raises(ConnectError) as caught:
        line.close(1008, "not yours")
    line.core.failed(caught.value, line.now)


def test_a_session_of_another_user_is_given_up_before_the_token() -> None:
    line = Line(fresh_tokens=True)
    line.open(token="of a", epoch="e1")
    line.subscribe("signals")
    line.granted("signals", seq=41)
    line.cut()
    refuse(line, "of b")
    assert line.request is not None
    assert "resume=1" in line.request.path
    assert state(line) is State.WAITING
    line.open(token="of b", epoch="e1")
    assert line.request.path == "/ws"
    assert line.take()[-1]["recover"] == {"signals": AT}

    line.cut()
    refuse(line, "of c")
    refuse(line, "of c")
    line.core.start()
    with pytest.raises(ConnectError, match="not yours"):
        line.core.begin("of c", line.now)
    assert state(line) is State.CLOSED


def test_a_string_that_is_refused_is_not_tried_again() -> None:
    line = Line()
    line.open(token="a.b.c")
    line.cut()
    refuse(line, "a.b.c")
    assert state(line) is State.CLOSED
    with pytest.raises(ClosedError, match="not yours") as caught:
        line.core.request("ping", {"type": "ping"}, line.now)
    assert caught.value.code == 1008


# Coming back


@pytest.mark.parametrize("code", [1001, 1006, 1011, 1012, 1013, 3000, 4000, 4001, 4004, 4499])
def test_comes_back_after(code: int) -> None:
    line = Line()
    line.open()
    if code == 1006:
        line.cut()
    else:
        line.close(code, "so it is")
    assert state(line) is State.WAITING
    (info,) = told(line, "disconnected")
    assert (info["code"], info["reconnect"]) == (code, True)


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1007, 1008, 1009, 4002, 4500, 4501, 4502, 4999])
def test_stays_away_after(code: int) -> None:
    line = Line()
    line.open()
    line.close(code, "so it is")
    assert state(line) is State.CLOSED
    assert isinstance(line.core.final, ClosedError)
    assert (line.core.final.code, line.core.final.reason) == (code, "so it is")
    assert told(line, "disconnected") == [{"code": code, "reason": "so it is", "reconnect": False}]
    assert told(line, "error") == [line.core.final]
    with pytest.raises(ClosedError):
        line.core.request("ping", {"type": "ping"}, line.now)


def test_without_auto_reconnect_a_loss_is_final() -> None:
    line = Line(auto_reconnect=False)
    line.open()
    line.cut()
    assert state(line) is State.CLOSED


def test_reconnecting_tells_why() -> None:
    line = Line()
    line.open()
    line.cut()
    line.core.start()
    line.core.failed(ConnectError("full", code=1013), line.now)
    assert [str(argument["error"]) for argument in told(line, "reconnecting")] == [
        "connection lost: the connection was cut (1006)",
        "full (1013)",
    ]


def delays(line: Line) -> list[float]:
    return [argument["delay"] for argument in told(line, "reconnecting")]


def test_backoff_doubles_to_its_bound_while_attempts_fail() -> None:
    line = Line(jitter=1.0)
    for _ in range(8):
        line.core.start()
        line.core.begin(None, line.now)
        line.core.failed(ConnectError("nobody there"), line.now)
    assert delays(line) == [0.5, 1, 2, 4, 8, 16, 20, 20]


def test_backoff_is_full_jitter() -> None:
    line = Line(jitter=0.25)
    line.open()
    line.cut()
    assert delays(line) == [0.125]
    assert line.core.retry_at == line.now + 0.125


def test_a_short_connection_is_a_failure_and_a_long_one_is_none() -> None:
    line = Line(jitter=1.0)
    for lasts_s in (59.0, 59.0, 60.0, 60.0, 1.0):
        line.open()
        line.now += lasts_s
        line.cut()
    assert delays(line) == [0.5, 1, 0.5, 0.5, 1]


def test_goodbye_says_when_to_come_back_the_first_time() -> None:
    line = Line(jitter=1.0)
    line.open()
    line.say({"type": "goodbye", "reason": "shutdown", "reconnect_after_ms": 1250})
    line.close(1001)
    line.core.start()
    line.core.begin(None, line.now)
    line.core.failed(ConnectError("nobody there"), line.now)
    line.open()
    line.cut()
    assert delays(line) == [1.25, 1.0, 2.0]
    assert told(line, "goodbye")


def test_gives_up_after_so_many_attempts() -> None:
    line = Line(max_reconnect_attempts=2)
    line.open()
    line.cut()
    for _ in range(2):
        assert state(line) is State.WAITING
        line.core.start()
        line.core.begin(None, line.now)
        line.core.failed(ConnectError("nobody there"), line.now)
    assert state(line) is State.CLOSED
    assert "2 attempts" in str(line.core.final)


def out_of_attempts() -> Line:
    line = Line(max_reconnect_attempts=1)
    line.open()
    line.cut()
    line.core.start()
    line.core.failed(ConnectError("nobody there"), line.now)
    return line


def refused_string() -> Line:
    line = Line()
    line.open(token="a.b.c")
    line.cut()
    refuse(line, "a.b.c")
    return line


def same_token_again() -> Line:
    line = Line(fresh_tokens=True)
    line.open(token="a.b.c")
    line.close(4002, "token expired")
    line.core.start()
    with pytest.raises(ClosedError):
        line.core.begin("a.b.c", line.now)
    return line


def shut_out() -> Line:
    line = Line()
    line.open()
    line.cut()
    line.accept()
    with pytest.raises(ConnectError) as caught:
        line.close(4500, "by an administrator")
    line.core.failed(caught.value, line.now)
    return line


@pytest.mark.parametrize(
    ("give_up", "code", "says"),
    [
        (out_of_attempts, 1006, "gave up after 1 attempts; the last: nobody there"),
        (refused_string, 1008, "not yours"),
        (same_token_again, 4002, "token expired"),
        (shut_out, 4500, "by an administrator"),
    ],
)
def test_giving_up_is_told(give_up: Callable[[], Line], code: int, says: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", "neurograph_ws_client"):
        line = give_up()
    assert state(line) is State.CLOSED
    assert line.errors() == [line.core.final]
    assert told(line, "disconnected")[-1] == {"code": code, "reason": says, "reconnect": False}
    assert f"closed for good: {says} ({code})" in caplog.text


def test_an_answer_that_is_no_websocket_is_no_end_once_the_router_was_there() -> None:
    line = Line()
    line.open()
    line.cut()
    answer = ConnectError("the server answered HTTP 404", status=404, retry=False)
    for _ in range(3):
        line.core.start()
        line.core.begin(None, line.now)
        line.core.failed(answer, line.now)
        assert state(line) is State.WAITING
    assert [argument["error"] for argument in told(line, "reconnecting")][1:] == [answer] * 3
    line.open()
    assert state(line) is State.OPEN


def test_an_answer_that_is_no_websocket_ends_what_never_was_connected() -> None:
    line = Line()
    line.core.start()
    line.core.begin(None, line.now)
    line.core.failed(ConnectError("the server answered HTTP 404", status=404, retry=False), line.now)
    assert state(line) is State.CLOSED


def test_silence_is_death() -> None:
    line = Line()
    line.open(heartbeat_s=30)
    line.pass_time(44.9)
    assert not over(line)
    line.say({"type": "position", "positions": {}})
    line.pass_time(44.9)
    assert not over(line)
    line.pass_time(0.2)
    assert over(line)
    line.lose()
    assert told(line, "disconnected")[0]["reason"] == "the server was silent for 45 s"
    assert state(line) is State.WAITING


def test_a_clock_that_was_held_up_gives_the_reader_a_chance() -> None:
    line = Line()
    line.open(heartbeat_s=30)
    line.now += 300
    line.core.tick(line.now)
    assert not over(line)
    line.pass_time(1.0)
    assert over(line)


# Sessions


def test_resumes_behind_what_was_received_though_it_is_not_worked_on() -> None:
    line = subscribed_line()
    line.say(event("signals", 42), event("signals", 43))
    line.cut()
    line.open(epoch="e1", reconnected=True, channels=["signals"], positions={"signals": at(43)})
    assert line.request is not None
    assert line.request.path == "/ws?reconnection_token=r.8fQ2&resume=1"
    (resume,) = line.take()
    assert without_id([resume]) == [{"type": "resume", "positions": {"signals": at(43)}}]
    line.say(event("signals", 43), event("signals", 44), {"type": "resumed", "id": resume["id"], "channels": []})
    line.dispatch()
    assert [one["seq"] for one in line.delivered] == [42, 43, 44]


@pytest.mark.parametrize("refused", [True, False])
def test_without_its_resume_a_session_leaves_something_out_and_is_begun_anew(refused: bool) -> None:
    line = subscribed_line()
    line.cut()
    line.open(epoch="e1", reconnected=True, channels=["signals"], positions={"signals": at(45)})
    (resume,) = line.take()
    line.say(event("signals", 46))  # the server may have gone on without it
    if refused:
        error = {"type": "error", "id": resume["id"], "code": "invalid_message", "message": "not the first message"}
        line.say(event("signals", 47), error, event("signals", 48))
    else:
        line.pass_time(9.9)
        assert not over(line)
        line.pass_time(0.2)
    assert over(line)
    line.say(event("signals", 49))  # it may be under way still
    line.lose()
    assert state(line) is State.WAITING
    line.open(epoch="e1", reconnected=True, channels=["signals"], positions={"signals": at(47)})
    (resume,) = line.take()
    assert resume["positions"] == {"signals": AT}
    line.say(event("signals", 42), {"type": "resumed", "id": resume["id"], "channels": ["signals"], "replayed": 1})
    line.pass_time(15)
    assert not over(line)
    line.dispatch()
    assert [one["seq"] for one in line.delivered] == [42]


def test_what_came_before_a_resume_was_answered_does_not_count_when_the_connection_is_lost() -> None:
    line = subscribed_line()
    line.subscribe("logs")
    line.granted("logs", seq=3)
    line.cut()
    line.open(epoch="e1", reconnected=True, channels=["signals", "logs"], positions={})
    line.say(event("signals", 46), event("logs", 4), {"type": "unsubscribed", "channels": ["logs"], "reason": "x"})
    line.take()
    line.cut()
    line.open(epoch="e1", reconnected=True, channels=["signals"], positions={"signals": at(46)})
    resume, *_ = line.take()
    assert resume["positions"] == {"signals": AT}
    assert line.core.subscriptions.received() == {"signals": AT, "logs": at(3)}
    line.say({"type": "resumed", "id": 0, "channels": []})  # of nothing that we know
    line.say(event("signals", 42), {"type": "resumed", "id": resume["id"], "channels": []}, event("signals", 43))
    line.dispatch()
    assert [one["seq"] for one in line.delivered] == [42, 43]


def test_what_is_held_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "MAX_HELD_BYTES", 500)
    line = subscribed_line()
    line.cut()
    line.open(epoch="e1", reconnected=True, channels=["signals"], positions={"signals": at(46)})
    line.say(*(event("signals", seq) for seq in range(42, 52)))
    line.dispatch()
    assert [one["seq"] for one in line.delivered] == list(range(42, 52))


def test_a_resume_is_not_given_up_while_handlers_are_slow() -> None:
    line = subscribed_line(queue_events=2)
    line.say(*(event("signals", seq) for seq in range(42, 47)))
    line.cut()
    line.open(epoch="e1", reconnected=True, channels=["signals"], positions={"signals": at(46)})
    (resume,) = line.take()
    assert not line.core.may_read(line.now)
    line.pass_time(69)
    line.dispatch()
    assert line.core.may_read(line.now)
    line.pass_time(9.9)
    assert not over(line)
    line.say({"type": "resumed", "id": resume["id"], "channels": ["signals"], "replayed": 5})
    line.pass_time(5)
    assert not over(line)
    assert line.errors() == []


def test_a_lost_session_is_made_anew_in_as_few_messages_as_the_options_allow() -> None:
    line = Line()
    line.open(epoch="e1")
    add = line.core.subscriptions.add
    add("signals", None, None)
    add("logs", None, None)
    add("metrics", None, Options({"policy": "latest"}))
    add("status", None, Options({}, {"last": 5}))
    asks = line.take()
    assert [ask["channels"] for ask in asks] == [["signals", "logs"], ["metrics"], ["status"]]
    for ask in asks:
        positions = {channel: at(7) for channel in ask["channels"]}
        line.say({"type": "subscribed", "id": ask["id"], "channels": ask["channels"], "positions": positions})
    line.cut()
    line.open(epoch="e1", reconnected=False)
    assert without_id(line.take()) == [
        {
            "type": "subscribe", "channels": ["signals", "logs", "status"],
            "recover": {"signals": at(7), "logs": at(7), "status": at(7)},
        },
        {"type": "subscribe", "channels": ["metrics"], "policy": "latest", "recover": {"metrics": at(7)}},
    ]  # fmt: skip


def test_what_changed_while_away_is_told_after_the_resume() -> None:
    line = subscribed_line()
    line.core.subscriptions.add("logs", None, None)
    line.granted("logs", seq=3)
    line.cut()
    line.core.subscriptions.remove("logs")
    line.core.subscriptions.add("metrics", None, None)
    line.core.subscriptions.add("signals", None, Options({"policy": "drop_newest"}))
    line.open(epoch="e1", reconnected=True, channels=["signals", "logs"], positions={})
    assert without_id(line.take()) == [
        {"type": "resume", "positions": {"signals": AT}},
        {"type": "unsubscribe", "channels": ["logs"]},
        {"type": "subscribe", "channels": ["signals"], "policy": "drop_newest", "recover": {"signals": AT}},
        {"type": "subscribe", "channels": ["metrics"]},
    ]


def test_what_was_left_and_subscribed_to_anew_begins_anew() -> None:
    line = subscribed_line()
    line.core.subscriptions.remove("signals")
    line.core.subscriptions.add("signals", line.delivered.append, Options({}, {"last": 2}))
    unsubscribe, subscribe = line.take()
    assert unsubscribe["type"] == "unsubscribe"
    assert subscribe["last"] == 2
    line.say(event("signals", 42))  # of the old subscription
    line.say({"type": "unsubscribed", "id": unsubscribe["id"], "channels": ["signals"]})
    line.say({"type": "subscribed", "id": subscribe["id"], "channels": ["signals"], "positions": {"signals": at(40)}})
    line.say(event("signals", 41), event("signals", 42))
    line.dispatch()
    assert [one["seq"] for one in line.delivered] == [41, 42]


def test_more_positions_than_a_message_holds_make_a_new_session() -> None:
    line = Line()
    line.open(epoch="e1", max_message_bytes=2_000)
    names = [f"orders.{number:03}" for number in range(60)]
    for name in names:
        line.core.subscriptions.add(name, None, None)
    asks = line.take()
    assert sorted(name for ask in asks for name in ask["channels"]) == names
    for ask in asks:
        line.say({
            "type": "subscribed", "id": ask["id"], "channels": ask["channels"],
            "positions": {name: at(3) for name in ask["channels"]},
        })  # fmt: skip
    line.cut()
    line.open(epoch="e1", max_message_bytes=2_000)
    assert line.request is not None
    assert "reconnection_token" not in line.request.path
    asks = line.take()
    assert len(asks) > 1
    assert {name: position for ask in asks for name, position in ask["recover"].items()} == dict.fromkeys(names, at(3))


def test_recover_of_the_user_is_where_the_stream_begins() -> None:
    line = Line()
    line.open(epoch="e1")
    line.core.subscriptions.add("signals", line.delivered.append, None, At("e1", 5))
    assert without_id(line.take()) == [{"type": "subscribe", "channels": ["signals"], "recover": {"signals": at(5)}}]
    line.say({"type": "subscribed", "channels": ["signals"], "positions": {"signals": at(5)}})
    line.say(event("signals", 5), event("signals", 6))
    line.dispatch()
    assert [one["seq"] for one in line.delivered] == [6]


def test_new_epoch_after_a_restart_is_told_by_a_gap_and_goes_on() -> None:
    line = subscribed_line()
    line.cut()
    line.open(epoch="e2")
    (ask,) = line.take()
    assert ask["recover"] == {"signals": AT}
    gap = {"type": "gap", "of": "signals", "epoch": "e1", "from": 42, "to": None, "count": None,
           "reason": "epoch_changed"}  # fmt: skip
    line.say(
        {"type": "subscribed", "id": ask["id"], "channels": ["signals"], "positions": {"signals": at(0, "e2")}},
        gap,
        {"type": "position", "positions": {"signals": at(0, "e2")}},
        event("signals", 1),
        event("signals", 2),
    )
    line.dispatch()
    assert line.gaps == [gap]
    assert [one["seq"] for one in line.delivered] == [1, 2]
    assert line.core.subscriptions.received() == {"signals": at(2, "e2")}


def test_a_position_of_the_future_is_taken_back_by_the_gap_and_the_position_behind_it() -> None:
    line = Line()
    line.open(epoch="e1")
    line.core.subscriptions.add("signals", line.delivered.append, None, At("e1", 1000))
    (ask,) = line.take()
    gap = {"type": "gap", "of": "signals", "epoch": "e1", "from": 1001, "to": None, "count": None,
           "reason": "epoch_changed"}  # fmt: skip
    line.say(
        {"type": "subscribed", "id": ask["id"], "channels": ["signals"], "positions": {"signals": at(3)}},
        gap,
        {"type": "position", "positions": {"signals": at(0)}},
        event("signals", 1),
        event("signals", 4),
        {"type": "position", "positions": {"signals": at(2)}},
    )
    line.dispatch()
    assert [one["seq"] for one in line.delivered] == [1, 4]
    assert line.gaps == [gap]
    assert line.core.subscriptions.received() == {"signals": at(4)}
    assert line.core.subscriptions.wanted["signals"].done == At("e1", 4)


def test_a_loss_amid_gap_and_position_does_not_make_the_next_position_go_back() -> None:
    line = subscribed_line()
    line.say({"type": "gap", "of": "signals", "epoch": "e1", "from": 42, "to": None, "count": None,
              "reason": "epoch_changed"})  # fmt: skip
    line.cut()
    line.open(epoch="e1", reconnected=True, channels=["signals"], positions={"signals": at(41)})
    line.say(event("signals", 42), {"type": "position", "positions": {"signals": at(40)}})
    assert line.core.subscriptions.received() == {"signals": at(42)}


def test_the_epoch_follows_when_it_changes_on_an_open_connection() -> None:
    line = subscribed_line()
    line.say(
        {"type": "gap", "of": "signals", "epoch": "e1", "from": 42, "to": None, "count": None,
         "reason": "epoch_changed"},
        {"type": "position", "positions": {"signals": at(0, "e2")}},
    )  # fmt: skip
    assert line.core.connected is not None
    assert line.core.connected.epoch == "e2"


def test_what_is_said_of_a_subscription_that_was_left_does_not_open_the_next() -> None:
    line = subscribed_line()
    line.core.subscriptions.remove("signals")
    line.core.subscriptions.add("signals", line.delivered.append, Options({}, {"last": 2}))
    unsubscribe, subscribe = line.take()
    line.say(
        {"type": "gap", "of": "signals", "epoch": "e1", "from": 42, "to": 50, "count": 9, "reason": "slow_consumer"},
        {"type": "position", "positions": {"signals": at(52)}},
        event("signals", 53),
        {"type": "unsubscribed", "id": unsubscribe["id"], "channels": ["signals"]},
        {"type": "subscribed", "id": subscribe["id"], "channels": ["signals"], "positions": {"signals": at(51)}},
        event("signals", 52),
        event("signals", 53),
    )
    line.dispatch()
    assert [one["seq"] for one in line.delivered] == [52, 53]
    assert line.gaps == []


def test_options_of_a_handler_end_with_it() -> None:
    line = Line()
    line.open(epoch="e1")
    add, remove = line.core.subscriptions.add, line.core.subscriptions.remove
    options = Options({"filter": {"data.n": 1}})
    add("signals", line.delivered.append, None)
    line.granted("signals", seq=41)
    add("signals", print, options)
    (ask,) = line.take()
    assert ask["filter"] == {"data.n": 1}
    remove("signals", print)
    assert without_id(line.take()) == [{"type": "subscribe", "channels": ["signals"], "recover": {"signals": AT}}]
    add("signals", print, Options({"policy": "drop_newest"}))
    add("signals", repr, options)
    line.take()
    remove("signals", print)  # it is not the newest
    add("signals", print, options)  # the same
    assert line.take() == []
    add("signals", print, Options(options.shape, {"last": 5}))
    line.take()
    remove("signals", print)  # the past is over
    assert line.take() == []


def test_a_past_that_was_asked_for_by_a_handler_that_is_gone_is_not_sent() -> None:
    line = Line()
    line.core.subscriptions.add("signals", line.delivered.append, None)
    line.core.subscriptions.add("signals", print, Options({}, {"last": 5}))
    line.core.subscriptions.remove("signals", print)
    line.open(epoch="e1")
    assert without_id(line.take()) == [{"type": "subscribe", "channels": ["signals"]}]


def test_an_answer_to_a_subscription_that_was_left_says_nothing_of_the_next() -> None:
    line = Line()
    line.open(epoch="e1")
    line.subscribe("signals")
    (first,) = line.take()
    line.core.subscriptions.remove("signals")
    line.core.subscriptions.add("signals", line.delivered.append, Options({}, {"last": 2}))
    _, second = line.take()
    line.say({"type": "subscribed", "id": first["id"], "channels": ["signals"], "positions": {"signals": at(42)}})
    line.say(event("signals", 43))  # of the first
    line.say({"type": "subscribed", "id": second["id"], "channels": ["signals"], "positions": {"signals": at(41)}})
    line.say(event("signals", 42), event("signals", 43))
    line.dispatch()
    assert [one["seq"] for one in line.delivered] == [42, 43]


# Denied


def test_denied_channels_are_told_and_asked_for_again_after_a_sign_in_and_at_the_next_connection() -> None:
    line = subscribed_line()
    line.subscribe("logs")
    (ask,) = line.take()
    denied = {"denied": ["logs"], "reasons": {"logs": "permission_denied"}}
    line.say({"type": "subscribed", "id": ask["id"], "channels": [], "positions": {}, **denied})
    (error,) = line.errors()
    assert isinstance(error, SubscriptionDeniedError)
    assert (error.channel, error.code) == ("logs", "permission_denied")
    line.pass_time(40)
    assert line.take() == []

    line.say({"type": "authenticated", "user_id": "u", "role": "admin", "expires_at": None})
    (ask,) = line.take()
    assert ask["channels"] == ["logs"]
    line.say({"type": "subscribed", "id": ask["id"], "channels": [], "positions": {}, **denied})
    line.cut()
    line.open(epoch="e1", reconnected=True, channels=["signals"], positions={})
    assert without_id(line.take())[1:] == [{"type": "subscribe", "channels": ["logs"]}]


def test_a_refused_channel_is_asked_for_again_when_it_is_subscribed_to_again() -> None:
    line = Line()
    line.open()
    line.subscribe("nope")
    for handler in (line.delivered.append, print):  # the same once more, then another
        (ask,) = line.take()
        assert ask["channels"] == ["nope"]
        line.say({"type": "subscribed", "id": ask["id"], "channels": [], "denied": ["nope"],
                  "reasons": {"nope": "unknown_channel"}})  # fmt: skip
        assert line.take() == []
        line.subscribe("nope", handler)
    assert [str(error) for error in line.errors()] == ["subscription to 'nope' denied: unknown_channel"] * 2
    assert [ask["channels"] for ask in line.take()] == [["nope"]]


def test_unsubscribed_unasked_is_a_denial_and_nothing_more_comes() -> None:
    line = subscribed_line()
    line.say({"type": "unsubscribed", "channels": ["signals"], "reason": "permission_denied"})
    line.say(event("signals", 42))
    (error,) = line.errors()
    assert isinstance(error, SubscriptionDeniedError)
    assert error.withdrawn
    assert str(error) == "subscription to 'signals' withdrawn: permission_denied"
    assert line.delivered == []
    line.say({"type": "authenticated", "user_id": "u", "role": "admin", "expires_at": None})
    assert line.take()[-1]["recover"] == {"signals": AT}


def test_a_refused_subscribe_is_told_with_its_channel() -> None:
    line = Line()
    line.open()
    line.core.subscriptions.add("signals", None, Options({"filter": {"$no": 1}}))
    (ask,) = line.take()
    line.say({"type": "error", "id": ask["id"], "code": "invalid_filter", "message": "filter: no operator $no"})
    (error,) = line.errors()
    assert isinstance(error, RequestRefusedError)
    assert (error.code, error.channel) == ("invalid_filter", "signals")
    assert line.take() == []


def test_a_subscribe_that_comes_too_fast_waits() -> None:
    line = Line()
    line.open()
    line.subscribe("signals")
    (ask,) = line.take()
    line.say({"type": "error", "id": ask["id"], "code": "rate_limited", "message": "", "retry_after": 1.5})
    line.pass_time(1.4)
    assert line.take() == []
    line.pass_time(0.2)
    assert without_id(line.take()) == [{"type": "subscribe", "channels": ["signals"]}]
    assert line.errors() == []


def test_what_a_resume_denies_is_told_and_not_asked_again_at_once() -> None:
    line = subscribed_line()
    line.cut()
    line.open(epoch="e1", reconnected=True, channels=[], positions={}, denied=["signals"])
    assert without_id(line.take()) == [{"type": "resume", "positions": {}}]
    (error,) = line.errors()
    assert isinstance(error, SubscriptionDeniedError)
    line.say({"type": "authenticated", "user_id": "u", "role": "admin", "expires_at": None})
    assert line.take()[-1]["recover"] == {"signals": AT}


def test_a_position_does_not_go_back_in_its_epoch() -> None:
    line = subscribed_line()
    line.say(event("signals", 42), {"type": "position", "positions": {"signals": at(40)}}, event("signals", 42))
    line.dispatch()
    assert [one["seq"] for one in line.delivered] == [42]
    assert line.core.subscriptions.received() == {"signals": at(42)}


# What the server must not say


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '"x"', '{"data":{}}', '{"channel":1,"data":{}}', '{"channel":"signals","seq":"42"}',
        '{"channel":[],"seq":42}', '{"type":"gap","of":"signals"}', '{"type":"subscribed","channels":{}}',
        '{"type":"position","positions":{"signals":{"epoch":"e1","seq":"x"}}}',
    ],
)  # fmt: skip
def test_a_breach_that_may_hide_events_is_told_and_the_connection_begun_anew(text: str) -> None:
    line = subscribed_line()
    line.say(event("signals", 42), text)
    assert over(line)
    line.lose()
    assert state(line) is State.WAITING
    assert [type(error) for error in line.errors()] == [ProtocolError]
    assert told(line, "disconnected")[0]["code"] == 1002
    assert [one["seq"] for one in line.delivered] == [42]


@pytest.mark.parametrize(
    "text", ['{"type":"published","seq":"x"}', '{"type":"error"}', '{"type":"goodbye","reason":1}']
)
def test_a_breach_that_hides_nothing_is_told_and_passed_over(text: str) -> None:
    line = subscribed_line()
    line.say(text)
    assert [type(error) for error in line.errors()] == [ProtocolError]
    assert state(line) is State.OPEN


def test_a_binary_message_closes() -> None:
    line = Line()
    line.open()
    line.send_binary()
    line.lose()
    assert told(line, "disconnected")[0]["code"] == 1003
    assert state(line) is State.WAITING


def test_what_is_no_frame_closes_and_the_client_comes_back() -> None:
    line = Line()
    line.open()
    line.send_raw(b"\xff\xff\xff\xff")
    line.lose()
    (info,) = told(line, "disconnected")
    assert info["code"] == 1002
    assert "rules of WebSocket" in info["reason"]
    assert state(line) is State.WAITING


def test_a_message_in_parts_is_put_together() -> None:
    line = subscribed_line()
    line.say_in_parts(event("signals", 42))
    line.say_in_parts(event("signals", 43))
    line.dispatch()
    assert [one["seq"] for one in line.delivered] == [42, 43]
    assert line.pongs == 2


def test_a_ping_message_is_answered() -> None:
    line = Line()
    line.open()
    line.say({"type": "ping", "timestamp": NOW})
    assert line.take() == [{"type": "pong"}]


def test_events_of_nothing_subscribed_are_passed_over() -> None:
    line = subscribed_line()
    line.say(event("logs", 1), event("personal", None), event("signals", 42))
    line.dispatch()
    assert [one["channel"] for one in line.delivered] == ["signals"]


# Requests


def test_ping_measures() -> None:
    line = Line()
    line.open()
    reply = line.core.request("ping", {"type": "ping"}, line.now)
    (ping,) = line.take()
    line.now += 0.25
    line.say({"type": "pong", "id": ping["id"], "timestamp": NOW})
    assert reply.result() == 0.25
    assert told(line, "pong")


def test_a_request_goes_out_behind_what_was_called_before() -> None:
    line = Line()
    line.open()
    line.subscribe("signals")
    line.core.request("ping", {"type": "ping"}, line.now)
    assert [message["type"] for message in line.take()] == ["subscribe", "ping"]


def test_a_request_has_a_time_limit_of_its_own() -> None:
    line = Line(request_timeout_s=3)
    line.open()
    reply = line.core.request("ping", {"type": "ping"}, line.now)
    reply.awaited = True
    line.pass_time(2.9)
    assert not reply.done
    line.pass_time(0.2)
    with pytest.raises(RequestTimeoutError, match="3 s"):
        reply.result()
    assert line.errors() == []
    assert state(line) is State.OPEN


def test_a_refusal_has_the_servers_words() -> None:
    line = Line()
    line.open()
    reply = line.core.request("history", {"type": "history", "channel": "signals"}, line.now, "signals")
    reply.awaited = True
    (asked,) = line.take()
    line.say({"type": "error", "id": asked["id"], "code": "history_unavailable", "message": "no", "epoch": "e9"})
    with pytest.raises(RequestRefusedError) as caught:
        reply.result()
    assert (caught.value.code, caught.value.channel, caught.value.epoch) == ("history_unavailable", "signals", "e9")


def test_a_request_ends_with_its_connection() -> None:
    line = Line()
    line.open()
    reply = line.core.request("ping", {"type": "ping"}, line.now)
    reply.awaited = True
    line.cut()
    with pytest.raises(ConnectionLostError):
        reply.result()
    with pytest.raises(NotConnectedError, match="waiting"):
        line.core.request("ping", {"type": "ping"}, line.now)


def test_a_message_larger_than_the_server_reads_is_not_sent() -> None:
    line = Line()
    line.open(max_message_bytes=1_000)
    with pytest.raises(MessageTooLargeError, match="1000"):
        line.core.request("authenticate", {"type": "authenticate", "token": "x" * 1_000}, line.now)
    line.core.subscriptions.add("signals", None, Options({"filter": {"data.x": "x" * 1_000}}))
    assert line.take() == []
    assert [type(error) for error in line.errors()] == [MessageTooLargeError]


# Back-pressure


def test_when_much_waits_the_socket_is_not_read_and_pongs_keep_the_connection() -> None:
    line = subscribed_line(queue_events=10)
    assert line.core.may_read(line.now)
    line.say(*(event("signals", seq) for seq in range(42, 62)))
    assert not line.core.may_read(line.now)
    line.pass_time(300)
    assert not over(line)
    assert line.pongs == 300 // 15 + 1
    line.dispatch()
    assert line.core.may_read(line.now)
    line.pass_time(44)
    assert not over(line)
    line.pass_time(2)
    assert over(line)


def test_while_a_reply_is_waited_for_twice_as_much_may_wait() -> None:
    line = subscribed_line(queue_events=10)
    line.dispatch()
    line.core.request("ping", {"type": "ping"}, line.now)
    line.say(*(event("signals", seq) for seq in range(42, 61)))
    assert line.core.may_read(line.now)
    line.say(event("signals", 61))
    assert not line.core.may_read(line.now)


# The end


def test_close_says_what_waits_then_1000_and_is_final() -> None:
    line = subscribed_line()
    line.say(event("signals", 42))
    line.core.subscriptions.add("logs", None, None)
    line.core.close(line.now)
    assert state(line) is State.CLOSED
    assert [message["type"] for message in line.take()] == ["subscribe"]
    assert not over(line)
    line.pass_time(1.9)
    assert not over(line)
    line.pass_time(0.2)
    assert over(line)
    line.lose()
    line.core.close(line.now)
    assert line.core.deadline(line.now) is None
    assert told(line, "disconnected") == [{"code": 1000, "reason": "disconnected", "reconnect": False}]
    assert line.delivered == []
    assert line.core.final is None


def test_close_while_waiting_leaves_nothing_to_wait_for() -> None:
    line = Line()
    line.open()
    line.cut()
    line.core.close(line.now)
    assert state(line) is State.CLOSED
    assert line.core.deadline(line.now) is None
    assert line.core.to_send(line.now) == b""


def test_close_of_a_connection_that_has_ended_but_is_not_cleared_away() -> None:
    line = subscribed_line()
    line.core.receive_eof()
    line.core.subscriptions.add("logs", None, None)
    line.core.close(line.now)
    assert state(line) is State.CLOSED
    line.lose()
    assert line.core.deadline(line.now) is None
    assert told(line, "disconnected") == [{"code": 1000, "reason": "disconnected", "reconnect": False}]
