"""Uploads that run while the server is told to stop, over sockets and to a process of its own."""

import json
import signal

import trio

from tests.e2e.clients import connected
from tests.e2e.program import running
from tests.rest.calls import Answer, read_answer
from tests.rest.test_events import GOOD, upload

LINE = json.dumps(GOOD).encode() + b"\n"


def told(answer: Answer) -> int:
    """How many events an upload is told were accepted when it was broken off."""
    said, _, rest = answer.problem(503, "engine_unavailable").partition("; ")
    assert said == "the server is going down"
    assert rest.endswith("were accepted")
    assert answer.headers["retry-after"] == "1"
    return int(rest.split()[0])


async def test_uploads_are_told_how_far_they_came_and_hold_nothing_up() -> None:
    """One that waits for its sender, and one that never ends; both would last for all of `drain_s`."""
    async with running(drain_s=600) as program, connected(program.port) as listener:
        await listener.subscribe("signals")
        async with await upload(program.port, [LINE * 3, LINE[:5]]) as waiting:
            await listener.hear(channel="signals", seq=3)
            async with await upload(program.port, []) as endless, trio.open_nursery() as nursery:
                nursery.start_soon(send_on, endless)
                await listener.hear(channel="signals", seq=100)
                program.signal(signal.SIGTERM)
                assert told(await read_answer(waiting)) == 3
                accepted = told(await read_answer(endless))
                nursery.cancel_scope.cancel()
        heard = 100
        while (message := await listener.hear()).get("type") != "goodbye":
            heard = message.get("seq", heard)
        assert heard == 3 + accepted
        assert await listener.close_of() == (1001, "the server is going down")
        assert await program.end() == 0
    assert "closing those who did not drain" not in [record["event"] for record in program.records]


async def send_on(stream: trio.SocketStream) -> None:
    try:
        while True:
            await stream.send_all(b"%x\r\n%b\r\n" % (len(LINE), LINE))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the server has gone
