"""Who may come in and what they may do, with real keys."""

import json
import math
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.e2e.clients import connected, get, status
from tests.e2e.program import refused, running

KEY = "0123456789abcdef0123456789abcdef"


def token(key: Any = KEY, algorithm: str = "HS256", headers: dict[str, str] | None = None, **claims: object) -> str:
    return jwt.encode({"sub": "alice", **claims}, key, algorithm=algorithm, headers=headers)


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


# The four ways


async def test_a_token_comes_in_four_ways() -> None:
    good = token(role="developer")
    async with running(jwt_keys=KEY) as program:
        async with connected(program.port, additional_headers={"Authorization": f"Bearer {good}"}) as client:
            hello = await client.hear()
            assert (hello["type"], hello["user_id"], hello["role"]) == ("connected", "alice", "developer")
        async with connected(program.port, f"?token={good}") as client:
            assert (await client.hear(type="connected"))["user_id"] == "alice"
        offered = [Subprotocol("neurograph.v1"), Subprotocol(f"bearer.{good}")]  # as a browser's script can
        async with connected(program.port, subprotocols=offered) as client:
            assert client.connection.subprotocol == "neurograph.v1"
            assert (await client.hear(type="connected"))["user_id"] == "alice"
        async with connected(program.port) as client:
            hello = await client.hear(type="connected")
            assert (hello["user_id"], hello["role"]) == (None, "anonymous")
            reply = await client.ask(type="authenticate", token=good)
            assert (reply["type"], reply["user_id"], reply["role"]) == ("authenticated", "alice", "developer")
            await client.subscribe("signals")


async def test_no_token_appears_in_the_log() -> None:
    secret = token(role="developer")
    async with running("--log-level", "debug", jwt_keys=KEY) as program:
        async with connected(program.port, f"?token={secret}") as client:
            await client.hear(type="connected")
        async with connected(program.port, f"?token={secret}x") as client:
            await client.close_of()
    assert secret.split(".")[2] not in json.dumps(program.records)


BAD = {
    "the token's signature does not fit": token("x" * 32),
    "the token has expired": token(exp=1),
    "the token is not signed (alg none)": token(None, "none"),
    "not a well-formed token": "nonsense",
}


@pytest.mark.parametrize("way", ["query", "header", "subprotocol"])
async def test_a_bad_token_is_told_why_by_the_close(way: str) -> None:
    async with running(jwt_keys=KEY) as program:
        for reason, bad in BAD.items():
            ways: dict[str, dict[str, Any]] = {
                "query": {"query": f"?token={bad}"},
                "header": {"additional_headers": {"Authorization": f"Bearer {bad}"}},
                "subprotocol": {"subprotocols": [Subprotocol("neurograph.v1"), Subprotocol(f"bearer.{bad}")]},
            }
            async with connected(program.port, **ways[way]) as client:
                with pytest.raises(ConnectionClosed) as closed:  # and nothing comes before the close
                    await client.connection.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, reason)


async def test_a_bad_token_later_is_an_error() -> None:
    async with running(jwt_keys=KEY) as program, connected(program.port) as client:
        for reason, bad in BAD.items():
            reply = await client.ask(type="authenticate", token=bad)
            assert (reply["type"], reply["code"], reply["message"]) == ("error", "invalid_token", reason)
            code, problem = await get(program.port, "/api/v1/websocket/status", f"Authorization: Bearer {bad}")
            assert (code, problem["code"], problem["detail"]) == (401, "invalid_token", reason)


# Kinds of keys


async def test_a_public_key_from_a_pem_file(rsa_key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    pem = tmp_path / "key.pem"
    pem.write_bytes(rsa_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    async with running(jwt_public_key_file=pem) as program:
        async with connected(program.port, f"?token={token(rsa_key, 'RS256', role='bot')}") as client:
            assert (await client.hear(type="connected"))["role"] == "bot"
        forged = jwt.encode({"sub": "eve"}, "x" * 32, algorithm="HS256")
        async with connected(program.port, f"?token={forged}") as client:
            assert (await client.close_of())[0] == 1008


async def test_a_set_of_keys_from_a_file(rsa_key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    key = jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key.public_key(), as_dict=True) | {"kid": "one", "use": "sig"}
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [key]}))
    async with running(jwks=file) as program:
        good = token(rsa_key, "RS256", {"kid": "one"}, role="viewer")
        async with connected(program.port, f"?token={good}") as client:
            assert (await client.hear(type="connected"))["user_id"] == "alice"
        async with connected(program.port, f"?token={token(rsa_key, 'RS256', {'kid': 'two'})}") as client:
            assert (await client.close_of())[0] == 1008


# Time


async def test_a_token_ends_on_a_live_connection_unless_a_fresh_one_comes() -> None:
    async with running(jwt_keys=KEY) as program:
        now = math.floor(time.time() * 8) / 8  # which a float holds exactly, and what is added below too
        short = token(role="admin", iat=now, exp=now + 2.5)
        async with connected(program.port, f"?token={short}") as client, connected(program.port) as other:
            assert (await other.ask(type="authenticate", token=short))["role"] == "admin"
            for each in (client, other):  # it is announced at half its life, where that is short
                expiring = await each.hear(type="token_expiring")
                assert iso(now + 1.25) <= iso(time.time()) <= expiring["expires_at"] == iso(now + 2.5)
            reply = await other.ask(type="authenticate", token=token(iat=now, exp=now + 1000))
            assert (reply["type"], reply["user_id"], reply["role"]) == ("authenticated", "alice", "viewer")
            reply = await other.ask(type="authenticate", token=token(sub="bob"))
            assert (reply["code"], reply["message"]) == ("invalid_token", "the token is another user's")
            assert await client.close_of() == (4002, "the token has expired")
            assert time.time() >= now + 2.5
            assert (await other.ask(type="ping"))["type"] == "pong"


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Anonymous


async def test_anonymous_may_be_refused() -> None:
    async with running(jwt_keys=KEY, allow_anonymous=False, sign_in_s=0.5) as program:
        async with connected(program.port) as client:
            await client.say(type="ping")
            assert await client.close_of() == (1008, "the first message must be authenticate")
        async with connected(program.port) as client:
            assert await client.close_of() == (1008, "sign-in took too long")
        async with connected(program.port) as client:
            await client.say(type="authenticate", token=token("x" * 32))
            assert await client.close_of() == (1008, "the token's signature does not fit")
        async with connected(program.port) as client:
            await client.say(type="authenticate", token=token(role="admin"))
            assert (await client.hear())["type"] == "connected"
            await client.subscribe("connections")
        assert (await get(program.port, "/api/v1/websocket/status"))[0] == 401
        assert "clients" in await status(program.port, f"Authorization: Bearer {token(role='admin')}")


# Permissions

CHANNELS = ["metrics", "signals", "actions", "logs", "status", "connections"]
TABLE = {
    "admin": (CHANNELS, CHANNELS[:-1]),
    "developer": (CHANNELS[:-1], []),
    "viewer": (["metrics", "status"], []),
    "bot": (["metrics", "signals", "status"], []),
    "anonymous": (["metrics", "status"], []),
    "unheard-of": ([], []),
}


async def test_the_table_of_permissions() -> None:
    async with running(jwt_keys=KEY) as program:
        for role, (may_subscribe, may_publish) in TABLE.items():
            query = "" if role == "anonymous" else f"?token={token(role=role)}"
            async with connected(program.port, query) as client:
                assert (await client.hear(type="connected"))["role"] == role
                reply = await client.ask(type="subscribe", channels=CHANNELS)
                assert reply["channels"] == may_subscribe
                denied = [name for name in CHANNELS if name not in may_subscribe]
                assert reply.get("denied", []) == denied
                assert reply.get("reasons", {}) == dict.fromkeys(denied, "permission_denied")
                for channel in CHANNELS:
                    reply = await client.ask(type="publish", channel=channel, event_type="x", data={})
                    assert (reply["type"] == "published") is (channel in may_publish), (role, channel, reply)


async def test_a_token_widens_and_narrows_its_role() -> None:
    async with running(jwt_keys=KEY) as program:
        own = token(role="viewer", subscribe=["s*"], publish=["signals"])
        async with connected(program.port, f"?token={own}") as client:
            reply = await client.ask(type="subscribe", channels=CHANNELS)
            assert reply["channels"] == ["signals", "status"]
            await client.publish({})
            # What new claims no longer allow ends.
            await client.say(type="authenticate", token=token(role="viewer"))
            await client.hear(type="authenticated")
            lost = await client.hear(type="unsubscribed")
            assert (lost["channels"], lost["reason"]) == (["signals"], "permission_denied")


# Development mode


async def test_without_a_key_nothing_but_loopback_is_bound() -> None:
    code, said = await refused("--host", "0.0.0.0")
    assert code == 2
    assert len(said.splitlines()) == 1
    for way_out in ("NEUROGRAPH_JWT_KEYS", "NEUROGRAPH_JWT_PUBLIC_KEY_FILE", "NEUROGRAPH_JWKS", "--insecure"):
        assert way_out in said


async def test_insecure_binds_any_address_and_anonymous_is_nobody() -> None:
    async with running("--insecure", "--host", "0.0.0.0") as program:
        assert not any(record["event"].startswith("DEVELOPMENT") for record in program.records)
        async with connected(program.port) as client:
            assert (await client.hear(type="connected"))["role"] == "anonymous"
        assert "clients" not in await status(program.port)


async def test_with_a_key_any_address_is_bound() -> None:
    async with running("--host", "0.0.0.0", jwt_keys=KEY) as program:
        assert (await program.record("listening"))["host"] == "0.0.0.0"


async def test_in_development_mode_pages_of_this_machine_may() -> None:
    pages = {
        "http://localhost:3000": True,
        "http://127.0.0.1": True,
        "http://[::1]:8080": True,
        "https://localhost:3000": False,
        "http://localhost.evil.example": False,
        "https://evil.example": False,
        "null": False,
    }
    async with running() as program:
        for origin, may in pages.items():
            code, _ = await get(program.port, "/api/v1/websocket/status", f"Origin: {origin}")
            assert code == (200 if may else 403), origin
            assert await may_connect(program.port, origin) is may, origin


async def test_in_production_pages_may_that_are_listed() -> None:
    async with running(jwt_keys=KEY, allowed_origins="https://app.example, null") as program:
        pages = {
            "https://app.example": True,
            "null": True,
            "http://localhost:3000": False,
            "https://evil.example": False,
        }
        pages[f"http://127.0.0.1:{program.port}"] = True  # its own
        for origin, may in pages.items():
            code, _ = await get(program.port, "/api/v1/websocket/status", f"Origin: {origin}")
            assert code == (200 if may else 403), origin
            assert await may_connect(program.port, origin) is may, origin


async def may_connect(port: int, origin: str) -> bool:
    try:
        async with connected(port, origin=origin) as client:
            await client.hear(type="connected")
    except InvalidStatus as error:
        return error.response.status_code != 403
    return True
