"""Whom `sub` and `pub` talk to: what is refused at once, and what is told of a server that cannot be reached."""

import re
import socket
from pathlib import Path

import pytest
import trio
from neurograph_ws_client import ClosedError, ConnectError, ConnectionLostError

from router.cli.target import Target, TargetError, explain, wants_token
from tests.certificates import certificate
from tests.cli.peer import Wire, peer
from tests.router.serving import serving


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "http://user:secret@h?secret",
        "ws:///ws",
        "ws://h:x/?secret",
        "ws://secret@h",
        "ws://user:secret/secret@h",
        "user:secret@h",
        "ws://h\udcff",
    ],
)
def test_what_is_no_address_is_refused_and_may_hold_a_secret(url: str) -> None:
    with pytest.raises(TargetError, match=r"^'.*' is not a router's address \(.+\); write it as ws://") as error:
        Target(url).client()
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ümlaut"])
def test_a_token_with_impossible_characters_is_refused(token: str) -> None:
    for source in (token, lambda: token):
        with pytest.raises(TargetError, match="characters that no token has") as error:
            Target("ws://h", source).client()
        assert token not in str(error.value)


def test_a_ca_file_must_be_one_and_of_use(tmp_path: Path) -> None:
    no_ca = tmp_path / "ca.pem"
    with pytest.raises(TargetError, match=f"CA file {re.escape(repr(str(no_ca)))} cannot be used: No such file"):
        Target("wss://h", ca=str(no_ca)).client()
    no_ca.write_text("nonsense")
    with pytest.raises(TargetError, match="cannot be used"):
        Target("wss://h", ca=str(no_ca)).client()
    with pytest.raises(TargetError, match=r"with wss:// only$"):
        Target("ws://h?secret", ca=str(no_ca)).client()


async def test_the_token_is_asked_for_at_each_connection() -> None:
    async def greet(wire: Wire) -> None:
        await wire.greet()
        assert await wire.close_of() == 1000

    tokens = iter(["to.see.whether", "it.can.be.used", "and.another"])
    target = Target("", lambda: next(tokens))
    async with peer(greet) as served, Target(served.url, target.token).client():
        pass
    (request,) = served.requests
    assert request.headers["Authorization"] == "Bearer it.can.be.used"


# What ends it


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ClosedError(1012, "restart"), "connection lost: restart (1012)"),
        (ClosedError(1006, ""), "connection lost: no reason given (1006)"),
        (ConnectError("full", code=1013), "refused: full (1013)"),
        (ConnectionLostError("connection lost: restart (1012)"), "connection lost: restart (1012)"),
    ],
)
def test_why_there_is_no_connection(error: ClosedError | ConnectError | ConnectionLostError, told: str) -> None:
    assert explain(error) == told


def test_what_takes_another_token() -> None:
    assert [code for code in (1000, 1008, 1012, 4002) if wants_token(ClosedError(code, ""))] == [1008, 4002]
    assert wants_token(ConnectError("no", code=1008))
    assert not wants_token(ConnectError("no"))


async def reason(target: Target) -> str:
    with trio.fail_after(30), pytest.raises(ConnectError) as error:
        async with target.client():
            raise AssertionError("there is a connection")
    told = explain(error.value)
    assert "secret" not in told
    return told


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        told = await reason(Target(f"ws://user:secret@127.0.0.1:{port}/ws?token=secret"))
    assert told == f"cannot connect to ws://127.0.0.1:{port}/ws: Connection refused"


async def test_another_path() -> None:
    async with serving() as port:
        assert "404" in await reason(Target(f"ws://127.0.0.1:{port}/nowhere"))


async def test_a_private_authority_is_trusted_where_it_is_named(tmp_path: Path) -> None:
    certified = certificate(tmp_path)
    async with serving(**certified.settings) as port:
        url = f"wss://127.0.0.1:{port}/ws"
        async with Target(url, ca=str(certified.file)).client() as client:
            assert client.is_connected()
        told = await reason(Target(url))
    assert "its certificate is not trusted" in told
    assert told.endswith("; give its CA with --ca")


async def test_tls_to_a_server_without_it() -> None:
    async with serving() as port:
        told = await reason(Target(f"wss://127.0.0.1:{port}/ws"))
    assert "TLS failed" in told
    assert told.endswith("does it want ws://?")
