"""The publish queue: what is sent when, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from websockets.frames import Frame, Opcode

from neurograph_ws_client import (
    ClosedError,
    MessageTooLargeError,
    NeurographError,
    Published,
    PublishUncertainError,
    QueueFullError,
    RequestRefusedError,
)
from neurograph_ws_client.messages import PublishedMessage, decode, encode
from neurograph_ws_client.publishing import KEY_KNOWN_S, Publish, PublishQueue, message
from neurograph_ws_client.requests import Reply
from ws_line import NOW, Line


def publish(line: Line, name: str) -> Reply[Published]:
    reply: Reply[Published] = Reply()
    number = line.core.number()
    text = message(number, "signals", name, "signal.a", {}, None)
    line.core.publishes.add(Publish(number, "signals", text, reply))
    return reply


def test_null_is_published() -> None:
    assert b'"a":[null,"null",1.5]' in message(1, "signals", "k", "a", {"a": [None, "null", 1.5]}, None)


def test_an_event_that_is_json_already_goes_out_as_it_is() -> None:
    events: list[Raw | dict[str, Any]] = [Raw(b'{"event_type":"a", "data":{"n":1.50}}'), {"event_type": "b"}]
    text = message(1, "signals", "k", None, None, events)
    assert text.endswith(b'"events":[{"event_type":"a", "data":{"n":1.50}},{"event_type":"b"}]}')


def keys(line: Line) -> list[str]:
    return [one["key"] for one in line.take() if one["type"] == "publish"]


def answer(line: Line, number: int) -> None:
    line.say({"type": "published", "id": number, "channel": "signals", "seq": [1, 1], "subscribers": 0,
              "timestamp": NOW})  # fmt: skip


def error_of(reply: Reply[Published]) -> NeurographError:
    with pytest.raises(NeurographError) as caught:
        reply.result()
    return caught.value


def test_waits_for_the_connection_and_leaves_with_the_answer() -> None:
    line = Line()
    replies = [publish(line, name) for name in "abc"]
    line.open(epoch="e1")
    sent = line.take()
    assert [one["key"] for one in sent] == ["a", "b", "c"]
    assert len(line.core.publishes) == 3
    line.say({"type": "published", "id": sent[0]["id"], "channel": "signals", "seq": [7, 7], "subscribers": 2,
              "timestamp": NOW})  # fmt: skip
    assert replies[0].result() == Published("signals", 7, 7, 2, NOW)
    assert not replies[1].done
    assert len(line.core.publishes) == 2


def test_what_is_not_answered_is_sent_again_with_its_key_before_what_is_new() -> None:
    line = Line()
    line.open(epoch="e1")
    first, second = publish(line, "a"), publish(line, "b")
    sent = line.take()
    answer(line, sent[0]["id"])
    line.cut()
    third = publish(line, "c")
    line.open(epoch="e1")
    assert keys(line) == ["b", "c"]
    assert first.done
    assert not second.done
    assert not third.done


def test_after_a_restart_of_the_server_what_was_sent_is_uncertain() -> None:
    line = Line()
    line.open(epoch="e1")
    sent = publish(line, "a")
    line.pump()
    line.cut()
    unsent = publish(line, "b")
    line.open(epoch="e2")
    assert isinstance(error_of(sent), PublishUncertainError)
    assert "may or may not" in str(error_of(sent))
    assert not unsent.done
    assert keys(line)[-1:] == ["b"]


def test_what_was_sent_too_long_ago_is_uncertain_also_while_away() -> None:
    line = Line()
    line.open(epoch="e1")
    sent = publish(line, "a")
    line.pump()
    line.cut()
    unsent = publish(line, "b")
    line.pass_time(KEY_KNOWN_S - 1)
    assert not sent.done
    line.pass_time(2)
    assert isinstance(error_of(sent), PublishUncertainError)
    assert not unsent.done


def test_a_repetition_does_not_make_the_key_younger() -> None:
    line = Line()
    line.open(epoch="e1")
    sent = publish(line, "a")
    line.pump()
    line.cut()
    line.now += KEY_KNOWN_S - 1
    line.open(epoch="e1")
    assert keys(line)[-1:] == ["a"]
    line.cut()
    line.now += 2
    line.open(epoch="e1")
    assert keys(line) == []
    assert isinstance(error_of(sent), PublishUncertainError)


@pytest.mark.parametrize("forgotten", ["epoch", "time"])
def test_rate_limited_says_nothing_of_an_earlier_connection(forgotten: str) -> None:
    line = Line()
    line.open(epoch="e1")
    sent = publish(line, "a")
    line.pump()
    line.cut()  # it may have been taken
    line.open(epoch="e1")
    (again,) = line.take()[-1:]
    line.say({"type": "error", "id": again["id"], "code": "rate_limited", "message": "", "retry_after": 2})
    line.cut()
    if forgotten == "epoch":
        line.open(epoch="e2")
    else:
        line.now += KEY_KNOWN_S + 1
        line.open(epoch="e1")
    assert keys(line) == []
    assert isinstance(error_of(sent), PublishUncertainError)


def test_what_was_only_refused_was_never_sent() -> None:
    line = Line()
    line.open(epoch="e1")
    refused = publish(line, "a")
    (one,) = line.take()
    line.say({"type": "error", "id": one["id"], "code": "rate_limited", "message": "", "retry_after": 2})
    line.cut()
    line.open(epoch="e2")
    assert keys(line) == ["a"]
    assert not refused.done


def test_a_refusal_is_the_awaiters_or_else_told() -> None:
    line = Line()
    line.open()
    awaited, left = publish(line, "a"), publish(line, "b")
    awaited.awaited = True
    for one in line.take():
        line.say({"type": "error", "id": one["id"], "code": "permission_denied", "message": "no"})
    error = error_of(awaited)
    assert isinstance(error, RequestRefusedError)
    assert (error.code, error.channel) == ("permission_denied", "signals")
    assert line.errors() == [error_of(left)]
    assert len(line.core.publishes) == 0


def test_rate_limited_is_sent_again_in_its_place_when_the_server_says() -> None:
    line = Line()
    line.open()
    replies = [publish(line, name) for name in "abc"]
    sent = line.take()
    for one in sent:
        line.say({"type": "error", "id": one["id"], "code": "rate_limited", "message": "", "retry_after": 2})
    replies.append(publish(line, "d"))
    line.pass_time(1.9)
    assert keys(line) == []
    line.pass_time(0.2)
    order = []
    for _ in range(4):  # one at a time
        (again,) = line.take()
        order.append(again["key"])
        answer(line, again["id"])
    assert order == ["a", "b", "c", "d"]
    assert all(reply.done for reply in replies)
    assert line.errors() == []


def test_the_queue_is_bounded_in_number_and_bytes() -> None:
    line = Line(publish_queue=2, publish_queue_bytes=400)
    publish(line, "a")
    publish(line, "b")
    with pytest.raises(QueueFullError, match=r"2 publishes.*publish_queue"):
        publish(line, "c")
    line = Line(publish_queue_bytes=100)
    with pytest.raises(QueueFullError, match=r"100 bytes.*publish_queue_bytes"):
        publish(line, "x" * 64)
    assert len(line.core.publishes) == 0


def test_an_answer_makes_room() -> None:
    line = Line(publish_queue=1, publish_queue_bytes=150)
    line.open()
    for _ in range(3):
        publish(line, "a")
        answer(line, line.take()[0]["id"])
    with pytest.raises(QueueFullError, match="bytes"):
        publish(line, "x" * 64)


def test_what_is_larger_than_the_server_reads_is_not_sent() -> None:
    line = Line()
    reply = publish(line, "x" * 64)
    line.open(max_message_bytes=100)
    assert keys(line) == []
    assert isinstance(error_of(reply), MessageTooLargeError)


def test_disconnecting_sends_the_rest_and_hears_the_answers() -> None:
    line = Line()
    line.open()
    answered, unanswered = publish(line, "a"), publish(line, "b")
    line.core.close(line.now)
    sent = line.take()
    assert [one["key"] for one in sent] == ["a", "b"]
    published = {"type": "published", "id": sent[0]["id"], "channel": "signals", "seq": [1, 1]}
    line.core.receive(Frame(Opcode.TEXT, encode(published)).serialize(mask=False), line.now)
    line.pass_time(5)
    line.lose()
    assert answered.result().first == 1
    assert isinstance(error_of(unanswered), PublishUncertainError)


def test_a_close_that_is_final_fails_what_was_never_sent() -> None:
    line = Line()
    reply = publish(line, "a")
    line.core.close(line.now)
    assert isinstance(error_of(reply), ClosedError)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"key": "x" * 65}, ValueError, "key: 65"),
        ({"events": []}, ValueError, "events: 0"),
        ({"events": [{"event_type": "a"}] * 1001}, ValueError, "events: 1001"),
        ({"data": {"a": object()}}, TypeError, "data"),
        ({"events": [{"event_type": object()}]}, TypeError, "events"),
        ({"data": {"a": [1.5, (None, float("nan"))]}}, TypeError, "data: not JSON .*JSON has no number nan"),
        ({"events": [{"event_type": "a", "data": {"a": float("-inf")}}]}, TypeError, "events: .*number -inf"),
    ],
)
def test_what_cannot_be_published(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    usual: dict[str, Any] = {"key": "k", "event_type": "a", "data": {}, "events": None}
    with pytest.raises(error, match=says):
        message(1, "signals", **{**usual, **arguments})


# Whatever is lost on the way, nothing is published twice or out of order, and nothing is lost that was not said to be.


class Server:
    """Takes publishes as the contract says: by their keys, which it forgets at its end, or after 120 s."""

    def __init__(self) -> None:
        self.epoch = 0
        self.log: list[str] = []
        self._keys: dict[str, float] = {}
        self.now = 0.0

    def take(self, text: bytes) -> PublishedMessage:
        fields = decode(text)
        if self._keys.get(fields["key"], -120.0) <= self.now - 120.0:
            self._keys[fields["key"]] = self.now
            self.log.append(fields["key"])
        return PublishedMessage("signals", (1, 1), id=fields["id"])

    def restart(self) -> None:
        self.epoch += 1
        self._keys.clear()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 3)),
        st.tuples(st.just("send"), st.integers(1, 400)),
        st.tuples(st.just("arrive"), st.integers(1, 4)),
        st.tuples(st.just("answer"), st.integers(1, 4)),
        st.tuples(st.just("lose"), st.integers(0, 4)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 70)),
        st.tuples(st.just("limit"), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_published_once_and_in_order_over_any_losses(steps: list[tuple[str, int]]) -> None:
    told: list[NeurographError] = []
    queue = PublishQueue(1_000, 1 << 20, told.append)
    server = Server()
    replies: dict[str, Reply[Published]] = {}
    under_way: list[bytes] = []
    answers: list[PublishedMessage] = []
    queue.connected("0", server.now)

    def reconnect(arriving: int) -> None:
        for text in under_way[:arriving]:
            server.take(text)
        under_way.clear()
        answers.clear()
        queue.lost()
        queue.connected(str(server.epoch), server.now)

    def step(name: str, count: int) -> None:
        match name:
            case "publish":
                for _ in range(count):
                    key = str(len(replies))
                    replies[key] = Reply()
                    text = message(len(replies), "signals", key, "a", {}, None)
                    queue.add(Publish(len(replies), "signals", text, replies[key]))
            case "send":
                under_way.extend(queue.take(server.now, str(server.epoch), 65_536, count))
            case "arrive":
                answers.extend(server.take(text) for text in under_way[:count])
                del under_way[:count]
            case "answer":
                for one in answers[:count]:
                    queue.published(one)
                del answers[:count]
            case "lose":
                reconnect(count)
            case "restart":
                server.restart()
                reconnect(0)
            case "wait":
                server.now += count
                queue.expire(server.now)
            case "limit" if len(under_way) == 1:  # with more under way, the server may take a later one first
                refused = decode(under_way.pop())["id"]
                queue.refused(refused, RequestRefusedError("rate_limited", "", retry_after=1.0), server.now)

    for name, count in steps:
        step(name, count)
    server.now += 1
    for _ in range(2 * len(replies) + 1):
        for name in ("send", "arrive", "answer"):
            step(name, 1_000)

    certain = {key for key, reply in replies.items() if reply.done and not _failed(reply)}
    assert all(reply.done for reply in replies.values())
    assert len(queue) == 0
    assert all(server.log.count(key) == 1 for key in certain)
    assert all(server.log.count(key) <= 1 for key in replies)
    assert server.log == sorted(server.log, key=int)
    assert len(told) == len(replies) - len(certain)
    assert all(isinstance(error, PublishUncertainError) for error in told)


def _failed(reply: Reply[Published]) -> bool:
    try:
        reply.result()
    except NeurographError:
        return True
    return False
