"""The commands in a shell, against a server of their own: pipes, signals, exit codes, and what is read on SIGHUP."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import trio

from tests.certificates import certificate
from tests.cli.program import ended_by, run, shell, started
from tests.e2e.clients import status
from tests.e2e.program import DEADLINE_S, ROOT, environment, running

KEY = "0123456789abcdef0123456789abcdef"


async def until_subscribed(port: int, subscriptions: int = 1) -> None:
    """Wait until the server has so many subscriptions."""
    while (await status(port))["total_subscriptions"] != subscriptions:  # noqa: ASYNC110 - nobody tells
        await trio.sleep(0.01)


# sub and pub together


async def test_what_is_published_is_printed() -> None:
    lines = '{"event_type":"x.y","data":{"n":2}}\n{"event_type":"z"}\n'
    async with running() as server:
        async with started("sub", "signals", "--count", "3", port=server.port) as sub:
            await until_subscribed(server.port)
            one = await run("pub", "signals", "x.y", '{"n": 1}', port=server.port)
            rest = await run("pub", "-v", "signals", "--events", "-", given=lines, port=server.port)
        assert sub.process.returncode == 0
    assert one == (0, "", "")
    assert rest == (0, "", "neurograph-router: published 2 events on signals, seq 2-3\n")
    printed = [json.loads(line) for line in sub.out.splitlines()]
    assert [(event["seq"], event["event_type"], event["data"]) for event in printed] == [
        (1, "x.y", {"n": 1}),
        (2, "x.y", {"n": 2}),
        (3, "z", {}),
    ]
    assert sub.err.decode() == f"neurograph-router: connected to ws://127.0.0.1:{server.port}/ws as nobody (admin)\n"


async def test_what_one_prints_another_publishes() -> None:
    async with running() as server, trio.open_nursery() as nursery:

        async def publish() -> None:
            await until_subscribed(server.port, 2)
            await run("pub", "signals", "x.y", '{"n": 1}', port=server.port)

        nursery.start_soon(publish)
        async with started("sub", "-q", "actions", "--count", "1", port=server.port) as sub:
            script = "neurograph-router sub -q signals --count 1 | neurograph-router pub actions --events -"
            assert await shell(script, server.port) == (0, "", "")
        assert json.loads(sub.out)["data"] == {"n": 1}


# Ends


async def test_a_reader_that_has_enough_ends_sub_quietly_though_nothing_more_comes() -> None:
    async with running() as server, trio.open_nursery() as nursery:

        async def publish() -> None:
            await until_subscribed(server.port)
            await run("pub", "signals", "x.y", "{}", port=server.port)

        nursery.start_soon(publish)
        script = "neurograph-router sub --quiet signals | head -1; echo ${PIPESTATUS[@]}"
        done = await shell(script, server.port)
    event, codes = done.out.splitlines()
    assert json.loads(event)["event_type"] == "x.y"
    assert codes == "141 0"
    assert done.err == ""


async def test_ctrl_c_ends_sub_quietly_and_its_session() -> None:
    async with running() as server:
        async with started("sub", "--quiet", "signals", port=server.port) as sub:
            await until_subscribed(server.port)
            sub.signal(signal.SIGINT)
        assert sub.process.returncode == ended_by(signal.SIGINT)
        assert (sub.out, sub.err) == (b"", b"")
        await until_subscribed(server.port, 0)  # else the session would collect events


async def test_output_that_cannot_be_written() -> None:
    async with running(metrics_interval_s=0.05) as server:
        done = await shell("neurograph-router sub -q metrics >/dev/full", server.port)
        assert done == (1, "", "neurograph-router: standard output cannot be written: No space left on device\n")
        done = await shell("neurograph-router sub -q metrics >&-", server.port)
        assert done == (2, "", "neurograph-router sub: standard output is closed; see --help\n")
        done = await shell("neurograph-router pub metrics x - <&-", server.port)
        assert done == (2, "", "neurograph-router pub: standard input is closed; see --help\n")
        done = await shell("neurograph-router sub metrics --count 1 2>&- | wc -l", server.port)
        assert (done.code, done.out.strip(), done.err) == (0, "1", "")


async def test_nobody_listens() -> None:
    async with running() as server:
        pass
    for command in (("sub", "a"), ("pub", "a", "x", "{}")):
        done = await run(*command, port=server.port)
        assert done.code == 1
        first, *_ = done.err.splitlines()
        assert first == f"neurograph-router: cannot connect to ws://127.0.0.1:{server.port}/ws: Connection refused"


async def test_the_server_goes_down() -> None:
    async with (
        running() as server,
        started("sub", "--no-reconnect", "signals", port=server.port) as sub,
        started("pub", "signals", "x", "-", port=server.port) as pub,
    ):
        await until_subscribed(server.port)
        await pub.feed('{"n": 1}\n')
        await sub.printed(1)
        server.signal(signal.SIGTERM)
        await sub.process.wait()
        await pub.process.wait()
    lost = "neurograph-router: connection lost: the server is going down (1001)"
    assert (sub.process.returncode, pub.process.returncode) == (1, 1)
    assert sub.err.decode().splitlines()[1:] == ["neurograph-router: the server says goodbye: shutdown", lost]
    assert lost in pub.err.decode().splitlines()
    assert pub.err.decode().splitlines()[-1] == "neurograph-router: stdin:2: from this line on nothing was sent"


async def test_ctrl_c_amid_publishing_tells_what_became_of_the_lines() -> None:
    async with running() as server, started("sub", "-q", "signals", port=server.port) as sub:
        await until_subscribed(server.port)
        async with started("pub", "signals", "x", "-", port=server.port) as pub:
            await pub.feed('{"n": 1}\n{"n": 2}\n')
            await sub.printed(2)
            pub.signal(signal.SIGINT)
        assert pub.process.returncode == ended_by(signal.SIGINT)
        assert pub.err.decode().splitlines()[-1] == "neurograph-router: stdin:3: from this line on nothing was sent"
        sub.signal(signal.SIGTERM)
    assert sub.process.returncode == ended_by(signal.SIGTERM)


# Errors


async def test_bad_lines_are_told_and_the_others_published() -> None:
    given = '{"priority": 1}\nnonsense\n{"priority": 256}\n\n{"priority": 2}'
    async with running() as server:
        done = await run("pub", "-v", "signals", "x", "-", given=given, port=server.port)
        assert done == (
            1,
            "",
            "neurograph-router: stdin:2: it is not JSON: invalid character (byte 1)\n"
            "neurograph-router: stdin:3: data.priority: expected `int` <= 255 (invalid_message)\n"
            "neurograph-router: published 2 events on signals, seq 1-2; refused 2\n",
        )
        done = await run("pub", "signals", "no good type", "{}", port=server.port)
        assert done.code == 1
        assert done.err.startswith("neurograph-router: DATA: event_type")
        done = await run("pub", "nope", "x", "{}", port=server.port)
        assert done == (1, "", "neurograph-router: DATA: Unknown channel: nope (unknown_channel)\n")
        done = await run("sub", "nope", "signal", port=server.port)
        assert done.code == 1
        assert "not subscribed to nope: there is no such channel\n" in done.err
        assert done.err.endswith("subscribed to nothing, so no event can come\n")


async def test_publishing_waits_for_the_rate_and_loses_nothing() -> None:
    given = "{}\n" * 30
    async with running(rate_publish='{"burst": 10, "per_s": 1000}') as server:
        done = await run("pub", "-v", "signals", "x", "-", given=given, port=server.port)
    assert done == (0, "", "neurograph-router: published 30 events on signals, seq 1-30\n")


async def test_many_lines_keep_their_order(tmp_path: Path) -> None:
    many = 20_000
    file = tmp_path / "events"
    file.write_text("".join(f'{{"event_type":"x","data":{{"n":{number}}}}}\n' for number in range(many)))
    async with (
        running(outbox_events=2 * many, outbox_bytes=1 << 28) as server,
        started("sub", "-q", "signals", "--count", str(many), port=server.port) as sub,
    ):
        await until_subscribed(server.port)
        assert await run("pub", "signals", "--events", str(file), port=server.port) == (0, "", "")
    assert sub.err == b""
    assert [json.loads(line)["data"]["n"] for line in sub.out.splitlines()] == list(range(many))


# Tokens and TLS


async def test_a_token_opens_what_its_role_may_see() -> None:
    async with running(jwt_keys=KEY) as server:
        signed = await run("token", "--sub", "alice", "--role", "developer", jwt_keys=KEY)
        assert (signed.code, signed.err) == (0, "")
        done = await run("sub", "signals", port=server.port)
        assert (done.code, done.out) == (1, "")
        assert "not subscribed to signals: permission denied" in done.err
        async with started("sub", "signals", port=server.port, token=signed.out.strip()) as sub:
            await sub.said("as alice (developer)")
            sub.signal(signal.SIGINT)
        done = await run("sub", "signals", port=server.port, token="a.b.c")
        assert done.code == 1
        assert done.err.startswith("neurograph-router: refused: ")
        assert "(1008); give a good one by NEUROGRAPH_TOKEN" in done.err


async def test_a_private_authority(tmp_path: Path) -> None:
    certified = certificate(tmp_path)
    async with running(**certified.settings, metrics_interval_s=0.05) as server:
        url = f"wss://localhost:{server.port}/ws"
        done = await run("sub", "-q", "metrics", "--count", "1", "--ca", str(certified.file), url=url)
        assert (done.code, done.err) == (0, "")
        assert json.loads(done.out)["event_type"] == "system_metrics"
        done = await run("sub", "metrics", url=url)
        assert done.code == 1
        assert "its certificate is not trusted" in done.err


# The terminal


class Terminal:
    """A terminal that a program runs in."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self.text = ""

    async def read_until(self, wanted: str) -> None:
        while wanted not in self.text:
            await trio.lowlevel.wait_readable(self.ours)
            self.text += os.read(self.ours, 65536).decode()

    def close(self) -> None:
        os.close(self.ours)


async def test_events_are_pretty_on_a_terminal() -> None:
    async with running(metrics_interval_s=0.05) as server:
        terminal = Terminal()
        variables = environment({"url": f"ws://127.0.0.1:{server.port}/ws"}) | {"TERM": "xterm", "NO_COLOR": ""}
        command = [sys.executable, "-m", "router", "sub", "metrics", "--count", "1"]
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(terminal.read_until, "}\r\n")
                await trio.run_process(command, cwd=ROOT, env=variables, stdout=terminal.theirs, stderr=terminal.theirs)
        os.close(terminal.theirs)
        terminal.close()
    assert '  \x1b[34m"cpu_percent"\x1b[0m: ' in terminal.text


async def test_a_terminal_that_is_closed_ends_serve() -> None:
    terminal = Terminal()
    with trio.fail_after(DEADLINE_S):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "router", "serve", "--port", "0"],
            cwd=ROOT,
            env=environment({}) | {"TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stderr=terminal.theirs,
        )
        try:
            os.close(terminal.theirs)
            await terminal.read_until("listening")
            terminal.close()
            process.send_signal(signal.SIGHUP)
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


# SIGHUP


async def test_hanging_up_reads_the_configuration_again(tmp_path: Path) -> None:
    file = tmp_path / "router.toml"
    file.write_text("drain_s = 5\n")
    unusable = "the configuration cannot be used, so nothing has changed"
    async with running("--config", str(file), errors=(unusable,)) as server:
        assert "no such channel" in (await run("sub", "orders.eu", port=server.port)).err

        file.write_text('drain_s = 5\n[channels."orders.*"]\n')
        server.hang_up()
        assert (await server.record("changed settings are in force"))["settings"] == ["channels"]
        assert await run("pub", "orders.eu", "x", "{}", port=server.port) == (0, "", "")

        file.write_text("drain = 5\n")
        server.hang_up()
        reason = (await server.record(unusable))["reason"]
        assert reason == f"{file}:1: drain: there is no such setting; did you mean drain_s?"
        assert await run("pub", "orders.eu", "x", "{}", port=server.port) == (0, "", "")

        file.write_text('drain_s = 4\n[channels."orders.*"]\n')
        server.hang_up()
        assert (await server.record("changed settings wait for a restart"))["settings"] == ["drain_s"]


async def test_keys_are_exchanged_by_hanging_up(tmp_path: Path) -> None:
    file, other = tmp_path / "router.toml", "f" * 32
    file.touch(0o600)
    file.write_text(f"jwt_keys = [{KEY!r}]\n")
    old = await run("token", "--sub", "alice", config=file)
    file.write_text(f"jwt_keys = [{other!r}]\n")
    new = await run("token", "--sub", "alice", config=file)
    file.write_text(f"jwt_keys = [{KEY!r}]\n")
    async with running("--config", str(file), metrics_interval_s=0.05) as server:

        async def lets_in(token: str) -> bool:
            done = await run("sub", "-q", "metrics", "--count", "1", port=server.port, token=token.strip())
            return done.code == 0

        assert (await lets_in(old.out), await lets_in(new.out)) == (True, False)
        file.write_text(f"jwt_keys = [{other!r}]\n")
        server.hang_up()
        await server.record("changed settings are in force")
        assert (await lets_in(old.out), await lets_in(new.out)) == (False, True)
