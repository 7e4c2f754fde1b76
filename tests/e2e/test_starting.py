"""Starting: what cannot be is told in one line, and how many connections there is room for."""

import json
import subprocess
import sys

import trio

from tests.e2e.clients import connected, raw, text
from tests.e2e.program import DEADLINE_S, ROOT, environment, refused, running
from tests.e2e.witness import witness


async def test_a_port_in_use() -> None:
    async with running() as program:
        code, said = await refused("--port", str(program.port))
        assert code == 2
        assert said == (
            f"neurograph-router: cannot listen on 127.0.0.1 port {program.port}: Address already in use; "
            "choose another with --port\n"
        )
        async with connected(program.port) as client:  # who has it is not disturbed
            await client.hear(type="connected")


#: Flags, settings, and what is said of them.
UNUSABLE: list[tuple[list[str], dict[str, object], str]] = [
    (["--port", "http"], {}, "port='http': must be a whole number"),
    (["--log-level", "loud"], {}, "--log-level='loud': must be debug, info, warning, error or critical"),
    (["--host", "no such host"], {"jwt_keys": "x" * 32}, "cannot listen on no such host port"),
    ([], {"jwt_public_key_file": "/nowhere/key.pem"}, "jwt_public_key_file '/nowhere/key.pem' cannot be read"),
    ([], {"jwt_public_key_file": "/"}, "jwt_public_key_file '/' cannot be read"),
    ([], {"jwt_public_key_file": __file__}, "jwt_public_key_file: not readable"),
    ([], {"jwt_keys": "short"}, "jwt_keys[0]: 5 bytes are too short"),
    ([], {"jwks": "/nowhere/keys.json"}, "/nowhere/keys.json"),
    ([], {"porr": "1"}, "NEUROGRAPH_PORR: there is no such setting; did you mean NEUROGRAPH_PORT?"),
    ([], {"drain_s": "soon"}, "NEUROGRAPH_DRAIN_S='soon'"),
]


async def test_a_setting_that_cannot_be_used_is_told_in_one_line() -> None:
    async with trio.open_nursery() as nursery:
        for flags, settings, said in UNUSABLE:
            nursery.start_soon(is_refused, flags, settings, said)


async def is_refused(flags: list[str], settings: dict[str, object], said: str) -> None:
    code, written = await refused(*flags, **settings)
    assert code == 2, written
    (line,) = written.splitlines()
    assert line.startswith("neurograph-router: ")
    assert said in line


FAILING = """
import router.feeds.metrics, router.cli, sys

async def fail(self, mailbox, *, task_status):
    task_status.started()
    raise ValueError("no metrics today")

router.feeds.metrics.MetricsFeed.run = fail
router.cli.main(["serve", "--port", "0"])
"""


async def test_a_service_that_fails_too_often_ends_it_aloud() -> None:
    with trio.fail_after(DEADLINE_S):
        done = await trio.run_process(
            [sys.executable, "-c", FAILING],
            cwd=ROOT,
            env=environment({}),
            check=False,
            capture_stderr=True,
            stdin=subprocess.DEVNULL,
        )
    assert done.returncode == 1
    records = [json.loads(line) for line in done.stderr.splitlines()]
    last = records[-1]
    assert (last["event"], last["level"]) == ("the server failed", "critical")
    assert "child 'metrics' needed more than 5 restarts" in last["reason"]
    assert "Traceback" in last["exception"]
    assert "no metrics today" in last["exception"]


async def test_descriptors_are_raised_and_what_they_allow_is_said() -> None:
    async with running(descriptors=1000) as program:
        room = await program.record("fewer connections than configured")
        assert (room["descriptors"], room["allowed"], room["wanted"]) == (1000, 872, 10_000)


async def test_out_of_room_it_serves_those_who_are_here() -> None:
    said = "cannot accept, serving those who are here"
    async with running(descriptors=100, handshake_s=60, errors=(said,)) as program, witness(program.port) as others:
        waiting = [await trio.open_tcp_stream("127.0.0.1", program.port) for _ in range(50)]  # room is for 36
        assert (await program.record(said))["reason"] == "the limit of connections is reached"
        await others.hears_more()
        for stream in waiting:
            await trio.aclose_forcefully(stream)
        async with connected(program.port) as client:
            await client.hear(type="connected")
            assert (await client.ask(type="ping"))["type"] == "pong"
        await others.hears_more()


async def test_one_websocket_too_many_is_told_to_try_later() -> None:
    async with running(max_connections=3) as program, witness(program.port) as others, connected(program.port) as third:
        await third.hear(type="connected")
        for _ in range(5):
            async with connected(program.port) as client:
                assert await client.close_of() == (1013, "the limit of 3 connections is reached")
        async with raw(program.port) as client:  # also where it says something at once
            await client.send(text('{"type":"ping"}'))
            assert await client.close_of() == (1013, "the limit of 3 connections is reached")
        await others.hears_more()
        assert (await third.ask(type="ping"))["type"] == "pong"
