"""TLS as people use it: a browser, a client library, and a certificate that cannot be used."""

import json
import signal
import ssl
from pathlib import Path

import pytest
import trio
import websockets.trio.client

from tests.certificates import Certificate, certificate
from tests.e2e.chromium import run_page
from tests.e2e.clients import Client
from tests.e2e.program import DEADLINE_S, refused, running

SCRIPT = """
const seen = []
const socket = new WebSocket('wss://localhost:PORT/ws?heartbeat=message', ['neurograph.v1'])
const say = (message) => socket.send(JSON.stringify(message))
socket.onclose = (event) => done({error: `closed ${event.code} ${event.reason}`})
socket.onmessage = async ({data}) => {
  const message = JSON.parse(data)
  seen.push(message.type ?? `${message.channel} ${message.event_type} ${message.data.text}`)
  if (message.type === 'connected') say({type: 'subscribe', channels: ['signals']})
  if (message.type === 'subscribed') say({type: 'publish', channel: 'signals', event_type: 'x', data: {text: 'ü'}})
  if (message.channel !== 'signals') return
  const answer = await fetch('https://localhost:PORT/api/v1/websocket/status')
  const status = (await answer.json()).websocket
  socket.onclose = (event) => done({
    seen, connections: status.total_connections, protocol: socket.protocol, code: event.code, clean: event.wasClean
  })
  socket.close(1000)
}
"""


async def test_a_browser_opens_a_websocket_and_asks_for_the_status(tmp_path: Path) -> None:
    cert = certificate(tmp_path)
    async with running(**cert.settings, log_level="debug") as program:
        script = SCRIPT.replace("PORT", str(program.port))
        said = await run_page(script, tmp_path / "profile", "--ignore-certificate-errors")
        spoken = [record for record in program.records if record["event"] == "a TLS handshake is done"]
    assert said == {
        "seen": ["connected", "subscribed", "signals x ü"],
        "connections": 1,
        "protocol": "neurograph.v1",
        "code": 1000,
        "clean": True,
    }
    assert {(record["version"], record["application"]) for record in spoken} == {("TLSv1.3", "http/1.1")}


async def test_a_client_library_goes_on_until_the_server_goes_down(tmp_path: Path) -> None:
    cert = certificate(tmp_path)
    async with running(**cert.settings) as program:
        listening = await program.record("listening")
        assert listening["websocket"] == f"wss://127.0.0.1:{program.port}/ws"
        url = f"wss://localhost:{program.port}/ws"
        async with websockets.trio.client.connect(url, ssl=cert.trusted(), proxy=None) as connection:
            client = Client(connection, connection.stream)  # type: ignore[arg-type] # nobody resets it
            await client.subscribe("signals")
            for number in range(100):
                await client.publish({"n": number})
                assert (await client.hear(channel="signals"))["data"] == {"n": number}
            program.signal(signal.SIGTERM)
            await client.hear(type="goodbye")
            assert await client.close_of() == (1001, "the server is going down")


async def test_a_renewed_certificate_is_taken_when_the_server_is_told(tmp_path: Path) -> None:
    old = certificate(tmp_path)
    trusts_old = old.trusted()
    async with running(**old.settings) as program:
        url = f"wss://localhost:{program.port}/ws"
        async with websockets.trio.client.connect(url, ssl=trusts_old, proxy=None) as connection:
            client = Client(connection, connection.stream)  # type: ignore[arg-type] # nobody resets it
            new = certificate(tmp_path)  # over the old one
            program.hang_up()
            await program.record("configuration read anew")
            with pytest.raises((ssl.SSLCertVerificationError, trio.BrokenResourceError)):
                async with websockets.trio.client.connect(url, ssl=trusts_old, proxy=None):
                    pass
            async with websockets.trio.client.connect(url, ssl=new.trusted(), proxy=None) as another:
                assert json.loads(await another.recv())["type"] == "connected"
            assert (await client.ask(type="ping"))["type"] == "pong"


async def test_stalled_handshakes_are_let_go(tmp_path: Path) -> None:
    """Others are served meanwhile."""
    cert = certificate(tmp_path)
    async with running(**cert.settings, handshake_s=2) as program:
        hello = client_hello(cert)
        streams = [await trio.open_tcp_stream("127.0.0.1", program.port) for _ in range(500)]
        for number, stream in enumerate(streams):
            await stream.send_all(hello[: number % len(hello)])
        url = f"wss://localhost:{program.port}/ws"
        async with websockets.trio.client.connect(url, ssl=cert.trusted(), proxy=None) as connection:
            client = Client(connection, connection.stream)  # type: ignore[arg-type] # nobody resets it
            await client.subscribe("status")
        for stream in streams:
            while await stream.receive_some():
                pass
            await stream.aclose()


def client_hello(cert: Certificate) -> bytes:
    """How TLS begins."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        cert.trusted().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


async def test_a_certificate_that_cannot_be_used_is_told_in_one_line(tmp_path: Path) -> None:
    one, other = certificate(tmp_path, "one"), certificate(tmp_path, "other")
    with trio.fail_after(DEADLINE_S):
        code, said = await refused(tls_certificate_file=one.file, tls_key_file=other.key_file)
    assert code == 2
    (line,) = said.splitlines()
    assert line == (
        f"neurograph-router: NEUROGRAPH_TLS_CERTIFICATE_FILE: tls_certificate_file '{one.file}' "
        f"and tls_key_file '{other.key_file}' cannot be used together: KEY_VALUES_MISMATCH"
    )
