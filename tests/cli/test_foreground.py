"""Input and output that wait without stopping all else, and what signals do."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from router.cli import terminal
from router.cli.foreground import Input, Output, ReaderGone, run
from router.cli.terminal import Notes, end_by, printable, wants_colour

DEADLINE_S = 30


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for descriptor in ends:
        try:
            os.close(descriptor)
        except OSError:
            pass


def drain(descriptor: int) -> bytes:
    """All that is in a pipe."""
    os.set_blocking(descriptor, False)
    data = b""
    try:
        while piece := os.read(descriptor, 1 << 20):
            data += piece
    except BlockingIOError:
        pass
    os.set_blocking(descriptor, True)
    return data


async def test_a_full_pipe_is_waited_for(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    data = os.urandom(300_000)
    done = trio.Event()
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                await Output(writing).write(data)
                done.set()

            nursery.start_soon(write)
            await trio.testing.wait_all_tasks_blocked()
            assert not done.is_set()
            read = b""
            while len(read) < len(data):  # nothing else of the program waits meanwhile
                await trio.lowlevel.wait_readable(reading)
                read += os.read(reading, 10_000)
        assert read == data


async def test_a_pipe_that_others_made_non_blocking(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = pipe
    os.set_blocking(writing, False)
    output = Output(writing)
    filled = os.write(writing, b"x" * (1 << 20))
    waits = iter([[(writing, 4)]])
    monkeypatch.setattr(output, "_poll", type("Poll", (), {"poll": lambda _self, _wait: next(waits, [(writing, 4)])})())
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(output.write, b"end")
            await trio.testing.wait_all_tasks_blocked()
            assert drain(reading) == b"x" * filled
    assert drain(reading) == b"end"


async def test_a_reader_that_left(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    with pytest.raises(ReaderGone):
        await Output(writing).write(b"x")


async def test_a_reader_that_leaves_is_noticed_though_nothing_is_written(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    output = Output(writing)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(output.wait_for_no_reader)
            await output.write(b"x")
            await trio.testing.wait_all_tasks_blocked()
            os.close(reading)


async def test_nobody_leaves_a_file(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        output = Output(file.fileno())
        await output.write(b"x" * 100_000)
        with trio.move_on_after(0.01) as scope:
            await output.wait_for_no_reader()
        assert scope.cancelled_caught
    assert (tmp_path / "out").stat().st_size == 100_000


async def test_an_output_that_cannot_be_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        output = Output(file.fileno())
        monkeypatch.setattr(output, "_may_wait", True)  # as a device that the kernel cannot poll
        monkeypatch.setattr(output, "_poll", type("Poll", (), {"poll": lambda *_: []})())
        await output.write(b"x")
    assert (tmp_path / "out").read_bytes() == b"x"


async def test_input_comes_as_it_is_there(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    source = Input(reading)
    os.write(writing, b"one\ntwo")
    with trio.fail_after(DEADLINE_S):
        assert await source.read() == b"one\ntwo"
        with trio.move_on_after(0.01) as scope:
            await source.read()
        assert scope.cancelled_caught
        os.write(writing, b"\n")
        assert await source.read() == b"\n"
        os.close(writing)
        assert await source.read() == b""


async def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x" * 100_000)
    descriptor = os.open(tmp_path / "in", os.O_RDONLY)
    source = Input(descriptor)
    sizes = [len(await source.read()) for _ in range(3)]
    os.close(descriptor)
    assert sizes == [65536, 34464, 0]


async def test_another_reader_may_be_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(b"x")
        reads = iter([BlockingIOError()])
        real = os.read

        def read(descriptor: int, size: int) -> bytes:
            error = next(reads, None)
            if error is not None:
                raise error
            return real(descriptor, size)

        monkeypatch.setattr(os, "read", read)
        assert await Input(ours.fileno()).read() == b"x"


# Signals


def test_a_job_ends_by_itself() -> None:
    async def job() -> int:
        await trio.lowlevel.checkpoint()
        return 7

    assert run(job) == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_a_job_which_may_say_goodbye(number: signal.Signals) -> None:
    said = []

    async def job() -> int:
        try:
            os.kill(os.getpid(), number)
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(1, shield=True):
                await trio.lowlevel.checkpoint()
                said.append("goodbye")

    assert run(job) is number
    assert said == ["goodbye"]


def test_what_a_job_raises_comes_bare() -> None:
    async def job() -> int:
        await trio.lowlevel.checkpoint()
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        run(job)


def test_a_program_ends_by_its_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(signal, "signal", lambda *what: sent.append(what))
    monkeypatch.setattr(os, "kill", lambda *what: sent.append(what))
    with pytest.raises(SystemExit) as end:  # where the signal does nothing
        end_by(signal.SIGINT)
    assert end.value.code == 130
    assert sent == [(signal.SIGINT, signal.SIG_DFL), (os.getpid(), signal.SIGINT)]


# The terminal


class Terminal:
    """Says that it is one."""

    def __init__(self, *, broken: bool = False) -> None:
        self.text = ""
        self._broken = broken

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._broken:
            raise OSError(5, "Input/output error")
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, True),
        ({"NO_COLOR": ""}, True),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": "xterm"}, True),
    ],
)
def test_colours_are_for_terminals_and_for_who_wants_them(variables: dict[str, str], wanted: bool) -> None:
    assert wants_colour(Terminal(), variables) is wanted  # type: ignore[arg-type]
    assert not wants_colour(None, variables)
    with Path(os.devnull).open() as file:
        assert not wants_colour(file, variables)


def test_notes_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(terminal, "wants_colour", lambda _: True)
    notes = Notes()
    notes.progress("")
    notes.progress("1 of 2")
    notes.progress("2 of 2")
    notes.say("done")
    notes.error("not done")
    erase = "\r\x1b[K"
    progress = f"{erase}1 of 2{erase}2 of 2{erase}"
    assert screen.text == (f"{progress}neurograph-router: done\n\x1b[31m\x1b[1mneurograph-router: not done\x1b[0m\n")


def test_notes_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    notes = Notes("other", quiet=True)
    notes.progress("1 of 2")
    notes.say("done")
    notes.warn("odd: \x1b[31m")
    assert capsys.readouterr().err == "other: odd: \\u001b[31m\n"


@pytest.mark.parametrize("stream", [None, Terminal(broken=True)])
def test_notes_that_nobody_can_read(stream: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    Notes().error("nobody reads this")


def test_printable_text_stays() -> None:
    assert printable("Grüße\n\tan 🙂") == "Grüße\n\tan 🙂"
