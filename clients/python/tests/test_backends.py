"""What the two event loops have in common."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest
import trio

from neurograph_ws_client import _asyncio, _trio
from neurograph_ws_client.backend import current
from ws_peer import Run, both_loops, on_trio


async def never() -> None:
    await current().event().wait()


async def raises() -> None:
    raise LookupError("mine")


@both_loops
@pytest.mark.parametrize("kind", ["race", "together"])
def test_an_error_comes_out_as_it_is_and_ends_the_others(run: Run, kind: str) -> None:
    async def scenario() -> None:
        with pytest.raises(LookupError, match="mine"):
            await getattr(current(), kind)(raises, never)

    run(scenario)


@both_loops
@pytest.mark.parametrize("kind", ["race", "together"])
def test_several_errors_come_out_together(run: Run, kind: str) -> None:
    async def another() -> None:
        try:
            await never()
        finally:
            raise ValueError("mine, too")

    async def scenario() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            await getattr(current(), kind)(another, raises)
        assert {type(error) for error in caught.value.exceptions} == {LookupError, ValueError}

    run(scenario)


@both_loops
def test_a_shielded_call_has_a_time_limit(run: Run) -> None:
    async def scenario() -> None:
        await current().shielded(0.01, never)

    run(scenario)


def test_without_trio_it_is_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "trio")
    assert current() is _asyncio.BACKEND


def test_trios_errors_of_a_socket_are_os_errors() -> None:
    async def scenario() -> None:
        ours, peers = socket.socketpair()
        stream = _trio.TrioStream(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        peers.close()
        with pytest.raises(BrokenPipeError):
            await stream.send(b"x")
        await stream.close()
        with pytest.raises(ConnectionResetError, match="the connection was cut"):
            await stream.receive(1)
        await stream.close()

    on_trio(scenario)


def test_a_socket_that_cannot_be_closed_in_order_is_closed() -> None:
    class Broken:
        async def aclose(self) -> None:
            raise trio.BrokenResourceError

    broken: Any = Broken()
    on_trio(_trio.TrioStream(broken).close)
