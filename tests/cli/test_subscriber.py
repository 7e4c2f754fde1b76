"""`sub` at work, against a server that says what a test wants: what goes to which output, and what is a gap."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from router.cli.foreground import Output, ReaderGone
from router.cli.rendering import as_json
from router.cli.subscriber import TOKEN_HINT, Subscriber
from router.cli.target import Target
from router.cli.terminal import Notes
from tests.cli.peer import Script, Wire, peer


@pytest.fixture(autouse=True)
def coming_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurograph_ws_client.backoff.FIRST_S", 0.001)


class Pipe:
    """Takes what is printed."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def lines(self) -> list[str]:
        os.close(self.writing)
        with os.fdopen(self.reading, "rb") as file:
            return file.read().decode().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    for descriptor in (pipe.reading, pipe.writing):
        try:
            os.close(descriptor)
        except OSError:
            pass


class Stage:
    """Runs `sub` against scripts."""

    def __init__(self, pipe: Pipe, capsys: pytest.CaptureFixture[str]) -> None:
        self._pipe = pipe
        self._capsys = capsys
        self.printed: list[str] = []
        self.told: list[str] = []
        self.paths: list[str] = []

    async def play(
        self, *scripts: Script, channels: tuple[str, ...] = ("a",), quiet: bool = False, **options: Any
    ) -> int:
        async with peer(*scripts) as served:
            output, notes = Output(self._pipe.writing), Notes(quiet=quiet)
            target = Target(served.url.replace("//", "//user:secret@"))
            code = await Subscriber(channels, target, output, as_json, notes, **options).run()
        self.printed = self._pipe.lines()
        err = self._capsys.readouterr().err.replace(served.url, "URL")
        assert all(line.startswith("neurograph-router: ") for line in err.splitlines())
        self.told = [line.removeprefix("neurograph-router: ") for line in err.splitlines()]
        self.paths = [request.path for request in served.requests]
        return code


@pytest.fixture
def stage(pipe: Pipe, capsys: pytest.CaptureFixture[str]) -> Stage:
    return Stage(pipe, capsys)


def at(epoch: str, seq: int) -> dict[str, Any]:
    return {"epoch": epoch, "seq": seq}


async def subscribe(wire: Wire, *, seq: int = 0, epoch: str = "e1", channels: tuple[str, ...] = ("a",)) -> None:
    asked = await wire.reply("subscribed", channels=channels, positions={name: at(epoch, seq) for name in channels})
    assert (asked["type"], asked["channels"]) == ("subscribe", list(channels))


async def event(wire: Wire, seq: int | None, channel: str = "a") -> None:
    more = {} if seq is None else {"seq": seq}
    await wire.say(channel=channel, timestamp="t", event_type="x", data={"n": 1}, **more)


def line(seq: int | None, channel: str = "a") -> str:
    end = "" if seq is None else f', "seq": {seq}'
    return f'{{"channel": "{channel}", "timestamp": "t", "event_type": "x", "data": {{"n": 1}}{end}}}'


WELCOME = "connected to URL as nobody (admin)"


async def test_events_are_printed_and_all_else_is_told(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet(user_id="alice", role="viewer")
        await subscribe(wire, channels=("a", "b"))
        await event(wire, 1)
        await event(wire, None, "personal")
        await wire.say(type="invented_later")
        await wire.say(type="gap", of="a", epoch="e1", **{"from": 2, "to": 16}, count=15, reason="slow_consumer")
        await wire.say(type="gap", of="a", epoch="e1", **{"from": 17, "to": 17}, count=1, reason="slow_consumer")
        personal = {"of": "personal", "epoch": "e1", "from": None, "to": None}
        await wire.say(type="gap", **personal, count=1200, reason="buffer_overflow")
        await wire.say(type="gap", of="b", epoch="e0", **{"from": 5, "to": None}, count=None, reason="epoch_changed")
        await wire.say(type="error", code="internal", message="the router was restarted")
        await wire.say(type="token_expiring", expires_at="2030")
        await wire.say(type="goodbye")
        await event(wire, 18)
        assert await wire.close_of() == 1000

    assert await stage.play(script, channels=("a", "b", "a"), count=3) == 0
    assert stage.printed == [line(1), line(None, "personal"), line(18)]
    gaps = [text for text in stage.told if "GAP" in text]
    assert gaps == [
        "GAP on a: 15 events lost, seq 2-16 (slow_consumer)",
        "GAP on a: 1 event lost, seq 17 (slow_consumer)",
        "GAP on personal: 1,200 events lost (buffer_overflow)",
        "GAP on b: events lost (epoch_changed)",
    ]
    assert [text for text in stage.told if text not in gaps] == [
        "connected to URL as alice (viewer)",
        "the router was restarted (internal)",
        f"the token expires at 2030; {TOKEN_HINT}",
        "the server says goodbye: no reason given",
    ]


async def test_quiet_keeps_to_warnings(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await subscribe(wire)
        await wire.say(type="gap", of="a", epoch="e1", **{"from": 1, "to": 2}, count=2, reason="slow_consumer")
        await event(wire, 3)
        await wire.close_of()

    assert await stage.play(script, quiet=True, count=1) == 0
    assert stage.told == ["GAP on a: 2 events lost, seq 1-2 (slow_consumer)"]


# Denied


async def test_some_channels_are_denied(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        reasons = {"logs": "permission_denied", "nope": "unknown_channel", "odd": "new_reason"}
        await wire.reply(
            "subscribed",
            channels=["a"],
            positions={"a": at("e1", 0)},
            denied=["logs", "nope", "odd"],
            reasons=reasons,
        )
        await event(wire, 1)
        await wire.close_of()

    assert await stage.play(script, channels=("logs", "a", "nope", "odd"), count=1) == 0
    assert stage.told == [
        WELCOME,
        "not subscribed to logs: permission denied",
        "not subscribed to nope: there is no such channel",
        "not subscribed to odd: new_reason",
    ]


async def test_all_channels_are_denied(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await wire.reply("subscribed", channels=[], denied=["a"], reasons={"a": "permission_denied"})
        assert await wire.close_of() == 1000

    assert await stage.play(script) == 1
    assert stage.told == [
        WELCOME,
        "not subscribed to a: permission denied",
        "subscribed to nothing, so no event can come",
    ]


async def test_an_error_in_place_of_the_subscription(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await wire.reply("error", code="too_many_subscriptions", message="1000 at most")
        await wire.close_of()

    assert await stage.play(script) == 1
    assert stage.told == [WELCOME, "cannot subscribe: 1000 at most (too_many_subscriptions)"]


async def test_rights_that_end_later(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await subscribe(wire, channels=("a", "b"))
        await wire.say(type="unsubscribed", channels=["a"], reason="permission_denied")
        await event(wire, 1, "b")
        await wire.say(type="unsubscribed", channels=["c"])  # nothing that we would have to know
        await wire.say(type="unsubscribed", channels=["b"], reason="permission_denied")
        await wire.close_of()

    assert await stage.play(script, channels=("a", "b")) == 1
    assert stage.printed == [line(1, "b")]
    assert stage.told == [
        WELCOME,
        "no more events of a: permission denied",
        "no more events of b: permission denied",
        "subscribed to nothing, so no event can come",
    ]


# Coming back


async def leave(wire: Wire) -> None:
    await wire.close(1012, "restart")


async def test_a_resumed_session_goes_on_where_it_was(stage: Stage) -> None:
    async def first(wire: Wire) -> None:
        await wire.greet()
        await subscribe(wire, seq=4)
        await event(wire, 5)
        await leave(wire)

    async def second(wire: Wire) -> None:
        await wire.greet(reconnected=True, channels=["a"], positions={"a": at("e1", 7)})
        resume = await wire.hear()
        assert (resume["type"], resume["positions"]) == ("resume", {"a": at("e1", 5)})
        await event(wire, 6)
        await wire.say(type="resumed", id=resume["id"], channels=["a"], replayed=1)
        assert await wire.close_of() == 1000

    assert await stage.play(first, second, count=2) == 0
    assert stage.printed == [line(5), line(6)]
    assert stage.paths == ["/ws", "/ws?reconnection_token=first&resume=1"]
    welcome, lost, again = stage.told
    assert lost.startswith("connection lost: restart (1012); coming back in ")
    assert (welcome, again) == (WELCOME, "connected again as nobody (admin)")


async def test_where_the_session_is_gone_it_recovers(stage: Stage) -> None:
    async def first(wire: Wire) -> None:
        await wire.greet()
        await subscribe(wire, seq=4)
        await event(wire, 5)
        await leave(wire)

    async def refuse(wire: Wire) -> None:
        await wire.close(1013, "full")

    async def second(wire: Wire) -> None:
        await wire.greet()
        asked = await wire.reply("subscribed", channels=["a"], positions={"a": at("e1", 5)})
        assert asked["recover"] == {"a": at("e1", 5)}
        await event(wire, 6)
        await wire.close_of()

    assert await stage.play(first, refuse, second, count=2) == 0
    assert stage.printed == [line(5), line(6)]
    welcome, lost, refused, again = stage.told
    assert lost.startswith("connection lost: restart (1012); coming back in ")
    assert refused.startswith("refused: full (1013); coming back in ")
    assert (welcome, again) == (WELCOME, WELCOME)


async def test_what_was_denied_is_asked_for_again_by_a_new_session(stage: Stage) -> None:
    async def first(wire: Wire) -> None:
        await wire.greet()
        await wire.reply("subscribed", channels=["a"], denied=["b"], positions={"a": at("e1", 0)})
        await leave(wire)

    async def second(wire: Wire) -> None:
        await wire.greet()
        asked = await wire.reply("subscribed", channels=["b"], denied=["a"], positions={"b": at("e1", 0)})
        assert sorted(asked["channels"]) == ["a", "b"]
        await event(wire, 1, "b")
        await wire.close_of()

    assert await stage.play(first, second, channels=("a", "b"), count=1) == 0
    assert stage.printed == [line(1, "b")]


async def test_a_resumed_session_may_have_lost_all_rights(stage: Stage) -> None:
    async def first(wire: Wire) -> None:
        await wire.greet()
        await subscribe(wire)
        await leave(wire)

    async def second(wire: Wire) -> None:
        await wire.greet(reconnected=True, channels=[], denied=["a"], reasons={"a": "permission_denied"})
        assert await wire.close_of() == 1000

    assert await stage.play(first, second) == 1
    assert stage.told[-2:] == ["not subscribed to a: permission denied", "subscribed to nothing, so no event can come"]


async def test_without_coming_back_a_loss_is_a_failure(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await subscribe(wire)
        await leave(wire)

    assert await stage.play(script, reconnect=False) == 1
    assert stage.told[-1] == "connection lost: restart (1012)"
    assert [told for told in stage.told if "1012" in told] == stage.told[-1:]  # once


async def test_a_refused_token_says_where_to_get_another(stage: Stage) -> None:
    async def script(wire: Wire) -> None:
        await wire.close(1008, "the token has expired")

    assert await stage.play(script) == 1
    (told,) = stage.told
    assert told.startswith("refused: the token has expired (1008); give a good one by NEUROGRAPH_TOKEN")


# Whoever reads


async def test_it_ends_when_the_reader_has_gone_though_no_event_comes(pipe: Pipe) -> None:
    ready = trio.Event()

    async def script(wire: Wire) -> None:
        await wire.greet()
        await subscribe(wire)
        ready.set()
        assert await wire.close_of() == 1000

    async with peer(script) as served, trio.open_nursery() as nursery:

        async def leave_reading() -> None:
            await ready.wait()
            os.close(pipe.reading)

        nursery.start_soon(leave_reading)
        with pytest.raises(ReaderGone):
            await Subscriber(["a"], Target(served.url), Output(pipe.writing), as_json, Notes(quiet=True)).run()


async def test_it_ends_quietly_when_the_reader_has_gone_though_there_is_no_connection_yet(
    pipe: Pipe, capsys: pytest.CaptureFixture[str]
) -> None:
    async def script(wire: Wire) -> None:
        os.close(pipe.reading)
        await wire.close_of()

    async with peer(script) as served:
        with pytest.raises(ReaderGone):
            await Subscriber(["a"], Target(served.url), Output(pipe.writing), as_json, Notes()).run()
    assert capsys.readouterr().err == ""


async def test_a_full_disk_ends_it() -> None:
    async def script(wire: Wire) -> None:
        await wire.greet()
        await subscribe(wire)
        await event(wire, 1)
        await wire.close_of()

    full = os.open("/dev/full", os.O_WRONLY)
    try:
        async with peer(script) as served:
            with pytest.raises(OSError, match="No space left"):
                await Subscriber(["a"], Target(served.url), Output(full), as_json, Notes(quiet=True)).run()
    finally:
        os.close(full)
