"""`pub` at work, against a server that says what a test wants: what is sent again, and the account of each line."""

import json
import math
import sys
from typing import Any

import pytest
import trio
import trio.testing
from neurograph_ws_client import ConnectError

from router.cli import publisher as publisher_module
from router.cli.lines import from_data
from router.cli.publisher import Publication, Publisher
from router.cli.target import Target, explain
from router.cli.terminal import Notes
from tests.cli.peer import Script, Wire, peer
from tests.cli.test_lines import Pieces


class Live:
    """Input that comes when the test wants it to."""

    def __init__(self) -> None:
        self.say, self._hear = trio.open_memory_channel[bytes](math.inf)

    async def read(self) -> bytes:
        return await self._hear.receive()


class Broken:
    """Input that cannot be read."""

    async def read(self) -> bytes:
        await trio.lowlevel.checkpoint()
        raise IsADirectoryError(21, "Is a directory")


class Stage:
    """Runs `pub` against scripts."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.publisher: Publisher | None = None
        self.told: list[str] = []
        self.lost = ""

    async def play(self, given: Any, *scripts: Script, **options: Any) -> int:
        source = given if hasattr(given, "read") else Pieces([given] if isinstance(given, bytes) else given)
        what = Publication("a", source, "stdin", from_data("x"), **options)
        try:
            async with peer(*scripts) as served:
                self.publisher = Publisher(what, Target(served.url), Notes())
                try:
                    return await self.publisher.run()
                except ConnectError as error:
                    self.lost = explain(error)
                    return -1
        finally:
            self.hear()

    def hear(self) -> None:
        lines = self._capsys.readouterr().err.splitlines()
        self.told += [line.removeprefix("neurograph-router: ") for line in lines]

    @property
    def summary(self) -> str:
        assert self.publisher is not None
        return self.publisher.account.summary()


@pytest.fixture
def stage(capsys: pytest.CaptureFixture[str]) -> Stage:
    return Stage(capsys)


def lines(*numbers: int) -> bytes:
    return b"".join(b'{"n":%d}\n' % number for number in numbers)


def numbers(message: dict[str, Any]) -> list[int]:
    assert (message["type"], message["channel"]) == ("publish", "a")
    return [event["data"]["n"] for event in message["events"]]


async def accept(wire: Wire, *wanted: int, seq: int = 1) -> None:
    """Hear events of these numbers, and accept them."""
    message = await wire.hear()
    assert numbers(message) == list(wanted)
    await wire.say(type="published", id=message["id"], channel="a", seq=[seq, seq + len(wanted) - 1])


async def refuse(wire: Wire, *wanted: int, **error: object) -> None:
    message = await wire.hear()
    assert numbers(message) == list(wanted)
    await wire.say(type="error", id=message["id"], **error)


BAD_DATA = {"code": "invalid_message"}


async def test_everything_is_accepted(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await accept(wire, 1, 2)
        await accept(wire, 3, seq=3)
        assert await wire.close_of() == 1000

    assert await stage.play([lines(1, 2), lines(3)], script) == 0
    assert stage.told == []
    assert stage.summary == "published 3 events on a, seq 1-3"


async def test_there_is_nothing_to_publish(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        assert await wire.close_of() == 1000

    assert await stage.play(b"\n\n", script) == 0
    assert stage.summary == "published 0 events on a"


async def test_so_many_batches_are_on_their_way_and_no_more(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        messages = [await wire.hear() for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.01) as scope:
            await wire.hear()
        assert scope.cancelled_caught
        for message in messages:
            await wire.say(type="published", id=message["id"], channel="a", seq=[1, 1])
        await accept(wire, 4)
        await accept(wire, 5)
        await wire.close_of()

    assert await stage.play([lines(n) for n in range(1, 6)], script, in_flight=3) == 0


async def test_messages_are_no_larger_than_the_server_takes(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet(max_message_bytes=500)
        left = 40
        while left:
            text = await wire.connection.recv()
            assert len(text) <= 500
            message = json.loads(text)
            left -= len(message["events"])
            await wire.say(type="published", id=message["id"], channel="a", seq=[1, len(message["events"])])
        await wire.close_of()

    assert await stage.play([lines(*range(40))], script) == 0


# Bad lines


async def test_what_is_no_event_is_told_and_the_rest_goes(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await accept(wire, 1, 3)
        await wire.close_of()

    assert await stage.play(lines(1) + b"bad\n" + lines(3), script) == 1
    assert stage.told == ["stdin:2: it is not JSON: invalid character (byte 0)"]
    assert stage.summary == "published 2 events on a, seq 1-2; refused 1"


async def test_what_the_server_refuses_is_told_by_its_line_and_the_rest_goes_again(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await refuse(wire, 1, 2, 4, 5, index=2, message="events[2].data.n: too large", **BAD_DATA)
        await refuse(wire, 1, 2, 5, index=0, message="events[0].event_type is odd", **BAD_DATA)
        await accept(wire, 2, 5)
        await wire.close_of()

    assert await stage.play(lines(1, 2) + b"\n" + lines(4, 5), script) == 1
    assert stage.told == [
        "stdin:4: data.n: too large (invalid_message)",
        "stdin:1: event_type is odd (invalid_message)",
    ]


async def test_the_last_event_of_a_batch_may_be_the_bad_one(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await refuse(wire, 1, index=0, message="events[0].data.n: too large", **BAD_DATA)
        assert await wire.close_of() == 1000

    assert await stage.play(lines(1), script) == 1
    assert stage.told == ["stdin:1: data.n: too large (invalid_message)"]


@pytest.mark.parametrize("index", [{}, {"index": 7}])
async def test_a_batch_that_is_refused_as_a_whole(index: dict[str, int], stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await refuse(wire, 1, 2, code="internal", message="the router was restarted", **index)
        await accept(wire, 3)
        await wire.close_of()

    assert await stage.play([lines(1, 2), lines(3)], script, in_flight=1) == 1
    assert stage.told == ["stdin:1-2: the router was restarted (internal)"]


@pytest.mark.parametrize("code", ["permission_denied", "unknown_channel"])
async def test_where_nothing_can_be_published_it_stops_and_waits_for_no_input(code: str, stage: Stage) -> None:
    live = Live()

    async def script(wire: Wire) -> None:
        await wire.greet()
        live.say.send_nowait(lines(1, 2))
        await refuse(wire, 1, 2, code=code, message="no")
        assert await wire.close_of() == 1000

    assert await stage.play(live, script) == 1
    assert stage.told == [f"stdin:1-2: no ({code})", "stdin:3: from this line on nothing was sent"]


async def test_what_is_on_its_way_when_it_stops_is_waited_for(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        first, second = await wire.hear(), await wire.hear()
        await wire.say(type="error", id=first["id"], code="permission_denied", message="no")
        await wire.say(type="published", id=second["id"], channel="a", seq=[1, 1])
        assert await wire.close_of() == 1000

    assert await stage.play([lines(1), lines(2), lines(3)], script, in_flight=2) == 1
    assert stage.told == ["stdin:1: no (permission_denied)", "stdin:3: from this line on nothing was sent"]


# Stopping at the first


async def test_stopping_at_a_line_that_is_no_event(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await accept(wire, 1)
        await accept(wire, 2)
        assert await wire.close_of() == 1000

    assert await stage.play([lines(1), lines(2) + b"bad\n" + lines(4)], script, stop_on_error=True) == 1
    assert stage.told == [
        "stdin:3: it is not JSON: invalid character (byte 0)",
        "stdin:4: from this line on nothing was sent",
    ]


async def test_stopping_at_an_event_that_the_server_refuses(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await refuse(wire, 1, 2, 3, index=1, message="events[1].data.n: too large", **BAD_DATA)
        await accept(wire, 1)
        assert await wire.close_of() == 1000

    assert await stage.play([lines(1, 2, 3), lines(4)], script, stop_on_error=True) == 1
    assert stage.told == [
        "stdin:2: data.n: too large (invalid_message)",
        "stdin:3: from this line on nothing was sent",
    ]
    assert stage.summary == "published 1 event on a, seq 1; refused 1"


async def test_stopping_at_the_last_event_of_a_batch(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await refuse(wire, 1, 2, index=1, message="events[1].data.n: too large", **BAD_DATA)
        await accept(wire, 1)
        assert await wire.close_of() == 1000

    assert await stage.play([lines(1, 2), lines(3)], script, stop_on_error=True) == 1
    assert stage.told[1] == "stdin:3: from this line on nothing was sent"


# Too early


async def test_what_comes_too_early_goes_again_and_is_not_overtaken(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        first, second = await wire.hear(), await wire.hear()
        for message in (first, second):
            await wire.say(type="error", id=message["id"], code="rate_limited", message="wait", retry_after=0.001)
        await accept(wire, 1)
        await accept(wire, 2)
        await accept(wire, 3)
        await wire.close_of()

    assert await stage.play([lines(1), lines(2), lines(3)], script, in_flight=2) == 0
    assert stage.told == []


async def test_nothing_overtakes_what_came_too_early(stage: Stage) -> None:
    live = Live()

    async def script(wire: Wire) -> None:
        await wire.greet()
        live.say.send_nowait(lines(1))
        await refuse(wire, 1, code="rate_limited", message="wait", retry_after=0.05)
        live.say.send_nowait(lines(2))
        await accept(wire, 1)
        await accept(wire, 2)
        live.say.send_nowait(b"")
        await wire.close_of()

    assert await stage.play(live, script) == 0


# What ends it before its time


async def test_a_lost_connection_is_told_with_the_lines(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await accept(wire, 1)
        for _ in range(2):
            await wire.hear()
        await wire.say(type="goodbye", reason="shutdown")
        await wire.close(1001, "going away")

    assert await stage.play([lines(1), lines(2, 3), lines(4), lines(5)], script, in_flight=2) == 1
    assert stage.told == [
        "the server says goodbye: shutdown",
        "connection lost: going away (1001)",
        "stdin:2-4: sent and not acknowledged: perhaps published, perhaps not",
        "stdin:5: from this line on nothing was sent",
    ]


async def test_a_connection_lost_while_input_is_waited_for(stage: Stage) -> None:
    live = Live()

    async def script(wire: Wire) -> None:
        await wire.greet()
        live.say.send_nowait(lines(1))
        await accept(wire, 1)
        await wire.say(type="goodbye")
        await wire.drop()

    assert await stage.play(live, script) == 1
    assert stage.told == [
        "the server says goodbye: no reason given",
        "connection lost: the connection was cut (1006)",
        "stdin:2: from this line on nothing was sent",
    ]


async def test_a_connection_lost_while_sending(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await wire.drop()

    many = [b'{"n":"%b"}\n' % (b"x" * 60_000)] * 64
    assert await stage.play(many, script, in_flight=64) == 1
    lost, *told = stage.told
    assert lost.startswith("connection lost")
    assert told[0].startswith("stdin:1")  # each line is accounted for
    assert stage.summary == "published 0 events on a"


async def test_an_error_that_is_no_answer_ends_it(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        message = await wire.hear()
        await wire.say(type="published", id=1000, channel="a", seq=[1, 1])  # to nothing that was asked
        await wire.say(type="invented_later")
        await wire.say(type="error", code="invalid_json", message="Invalid JSON format")
        assert await wire.close_of() == 1000
        assert numbers(message) == [1]

    assert await stage.play(lines(1), script) == 1
    assert stage.told == [
        "the server did not take a message: Invalid JSON format (invalid_json)",
        "stdin:1: sent and not acknowledged: perhaps published, perhaps not",
    ]


async def test_an_answer_that_does_not_come_ends_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurograph_ws_client.publishing.KEY_KNOWN_S", 0.01)

    async def script(wire: Wire) -> None:
        await wire.greet()
        await wire.hear()
        await wire.say(type="goodbye", reason="shutdown")  # the client looks at its clock
        assert await wire.close_of() == 1000

    assert await stage.play(lines(1), script) == 1
    assert stage.told == [
        "the server says goodbye: shutdown",
        "publish to 'a': it may or may not have been published; no answer came, and the server knows its key no longer",
        "stdin:1: sent and not acknowledged: perhaps published, perhaps not",
    ]


async def test_input_that_cannot_be_read(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        assert await wire.close_of() == 1000

    assert await stage.play(Broken(), script) == 1
    assert stage.told == ["stdin cannot be read: Is a directory", "stdin:1: from this line on nothing was sent"]


async def test_without_a_connection_nothing_was_sent(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.close(1013, "full")

    assert await stage.play(lines(1), script) == -1
    assert stage.lost == "refused: full (1013)"
    assert stage.publisher is not None
    stage.publisher.tell_open()
    stage.hear()
    assert stage.told == ["stdin:1: from this line on nothing was sent"]


async def test_interrupted_it_knows_what_became_of_the_lines(stage: Stage) -> None:
    interrupted = trio.CancelScope()

    async def script(wire: Wire) -> None:
        await wire.greet()
        await accept(wire, 1)
        await wire.hear()
        interrupted.cancel()
        assert await wire.close_of() == 1000

    what = Publication("a", Pieces([lines(1), lines(2, 3), lines(4)]), "stdin", from_data("x"), in_flight=1)
    async with peer(script) as served:
        publisher = Publisher(what, Target(served.url), Notes())
        with interrupted:
            await publisher.run()
    publisher.tell_open()
    stage.hear()
    assert stage.told == [
        "stdin:2-3: sent and not acknowledged: perhaps published, perhaps not",
        "stdin:4: from this line on nothing was sent",
    ]


# Progress


async def test_progress_is_shown_on_a_terminal(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "_PROGRESS_S", 0.001)
    shown = trio.Event()

    def progress(_: Notes, text: str) -> None:
        if text == "1 events published":
            shown.set()

    monkeypatch.setattr(Notes, "progress", progress)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    live = Live()

    async def script(wire: Wire) -> None:
        await wire.greet()
        live.say.send_nowait(lines(1))
        await accept(wire, 1)
        await shown.wait()
        live.say.send_nowait(b"")
        await wire.close_of()

    assert await stage.play(live, script) == 0
