import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from email.message import Message
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import Request

import jwt
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from router.auth.jwk_set import parse
from router.auth.jwks_fetch import MAX_BYTES, SameSchemeRedirects, load, read_limited
from router.auth.keys import PUBLIC_KEY_ALGORITHMS, RSA_ALGORITHMS, KeyConfigError, VerifyKey
from router.auth.tokens import Authenticator, InvalidTokenError, JwtSettings

UNKNOWN_KID = "the token names a key (kid) that is not known"


@cache
def private_key(kid: str) -> Any:
    """A key pair for each name; its first letter says which kind."""
    match kid[0]:
        case "r":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "w":
            return rsa.generate_private_key(public_exponent=65537, key_size=1024)
        case "p":
            return ec.generate_private_key(ec.SECP384R1())
        case "k":
            return ec.generate_private_key(ec.SECP256K1())
        case "d":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return ec.generate_private_key(ec.SECP256R1())


def jwk(kid: str, *, private: bool = False, **fields: Any) -> dict[str, Any]:
    key = private_key(kid)
    reader = {"r": "RS256", "w": "RS256", "d": "EdDSA"}.get(kid[0], "ES256")
    shown = jwt.get_algorithm_by_name(reader).to_jwk(key if private else key.public_key(), as_dict=True)
    shown.pop("key_ops", None)
    return {**shown, "kid": kid, **fields}


def key_set(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def token(kid: str, algorithm: str = "ES256", *, named: bool = True) -> str:
    headers = {"kid": kid} if named else None
    return jwt.encode({"sub": kid}, private_key(kid), algorithm=algorithm, headers=headers)


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Provider:
    """An identity provider: a real HTTP server that counts its requests and can be made to wait."""

    def __init__(self, *keys: object) -> None:
        self.body = key_set(*keys)
        self.status = 200
        self.headers: dict[str, str] = {}
        self.raw: bytes | None = None
        self.paths: list[str] = []
        self.arrived = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()
        self._server = _quiet_server(self._answer)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str = "/jwks.json") -> str:
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    async def has_request(self) -> None:
        await trio.to_thread.run_sync(self.arrived.acquire)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.paths.append(request.path)
        status, headers, body = self.status, self.headers, self.body  # as they were when the request came
        if request.path == "/moved":  # where a redirect leads to
            status, headers = 200, {}
        self.arrived.release()
        assert self.open.wait(30)
        if self.raw is not None:
            request.wfile.write(self.raw)
            return
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


def _quiet_server(answer: Callable[[BaseHTTPRequestHandler], None]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # so that `server_close` waits for them

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # the client gave up, which is what some tests are about

    return Server(("127.0.0.1", 0), Handler)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever proxy the machine is set up with, these addresses are on it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(jwk("e1")) as server:
        yield server


def authenticator(jwks: str, clock: Clock | None = None, **settings: Any) -> Authenticator:
    return Authenticator(JwtSettings(jwks=jwks, **settings), now=clock or Clock())


async def refusal(auth: Authenticator, text: str) -> str:
    with pytest.raises(InvalidTokenError) as caught:
        await auth.verify(text)
    assert len(caught.value.reason.encode()) < 100
    return caught.value.reason


# Reading a set


def test_each_key_is_bound_to_its_kinds_algorithms() -> None:
    keys, ignored = parse(key_set(jwk("r1"), jwk("e1"), jwk("p1"), jwk("d1")), PUBLIC_KEY_ALGORITHMS)
    assert [(key.kid, key.algorithms) for key in keys] == [
        ("r1", RSA_ALGORITHMS),
        ("e1", ("ES256",)),
        ("p1", ("ES384",)),
        ("d1", ("EdDSA",)),
    ]
    assert ignored == ()


def test_a_keys_alg_and_the_configuration_narrow_its_algorithms() -> None:
    keys, _ = parse(key_set(jwk("r1", alg="PS256"), jwk("r2")), ("RS512", "PS256"))
    assert [key.algorithms for key in keys] == [("PS256",), ("RS512", "PS256")]


def test_keys_for_other_uses_are_left_out_silently() -> None:
    document = key_set(
        jwk("e1", use="sig", key_ops=["verify"]),
        jwk("e2", use="enc"),
        jwk("e3", key_ops=["encrypt"]),
        jwk("e4", key_ops="verify"),
    )
    keys, ignored = parse(document, PUBLIC_KEY_ALGORITHMS)
    assert [key.kid for key in keys] == ["e1"]
    assert ignored == ()


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ("text", "not an object"),
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "s"}, "a symmetric key"),
        ({"kty": "AKP", "kid": "new"}, "a key type"),
        ({"kty": ["RSA"]}, "a key type"),
        ({}, "a key type"),
        ({**jwk("e2"), "kid": 7}, "a key id"),
        (jwk("e2", private=True), "a private key"),
        (jwk("d2", private=True), "a private key"),
        ({"kty": "RSA", "n": "AQAB"}, "its parameters make no key"),
        ({"kty": "EC", "crv": "P-256", "x": 1, "y": 2}, "its parameters make no key"),
        ({"kty": "OKP", "crv": "X25519", "x": "AAAA"}, "its parameters make no key"),
        (jwk("w1"), "an RSA key of 1024 bits"),
        (jwk("k1"), "a kind that no supported algorithm uses"),
        (jwk("r1", alg="RSA-OAEP"), "its algorithm (alg)"),
        (jwk("r1", alg="HS256"), "its algorithm (alg)"),
        (jwk("e2", alg="ES384"), "its algorithm (alg)"),
        (jwk("e2", alg=["ES256"]), "its algorithm (alg)"),
    ],
)
def test_one_bad_key_does_not_spoil_the_set(bad: object, expected: str) -> None:
    keys, ignored = parse(key_set(bad, jwk("e1")), PUBLIC_KEY_ALGORITHMS)
    assert [key.kid for key in keys] == ["e1"]
    assert len(ignored) == 1
    assert ignored[0].startswith(f"keys[0]: {expected}") or expected in ignored[0]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"", "truncated"),
        (b"<html>", "malformed"),
        (b"\xff", "JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "not a JWK set"),
        (b"{}", "not a JWK set"),
        (b'{"keys":{}}', "not a JWK set"),
        (key_set(), "no key that can verify a signature"),
        (key_set(jwk("e1", use="enc"), {"kty": "oct"}), r"no key .*; keys\[1\]: a symmetric key"),
    ],
)
def test_what_is_no_usable_set(document: bytes, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parse(document, PUBLIC_KEY_ALGORITHMS)


_ODD: st.SearchStrategy[object] = st.sampled_from(
    ["", "AQAB", "é", "A", "A" * 43, "P-256", "Ed25519", "sig", "d", 7, -1.5, None, True, [], {}]
)


# No deadline: how long an example takes says more about the machine's load than about the code.
@settings(deadline=None)
@given(
    st.sampled_from(["r1", "e1", "d1"]),
    st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops"]), _ODD),
)
def test_odd_keys_are_left_out_in_an_orderly_way(kid: str, changes: dict[str, object]) -> None:
    keys, ignored = parse(key_set({**jwk(kid), **changes}, jwk("p1")), PUBLIC_KEY_ALGORITHMS)
    assert keys[-1].kid == "p1"
    assert len(keys) - 1 + len(ignored) <= 1


def test_a_key_shows_no_material() -> None:
    (key,), _ = parse(key_set(jwk("e1")), PUBLIC_KEY_ALGORITHMS)
    assert repr(key) == "VerifyKey(algorithms=('ES256',), kid='e1')"


# Fetching, in the thread's own terms


def load_error(location: str, timeout_s: float = 5) -> str:
    with pytest.raises(KeyConfigError) as caught:
        load(location, "NAME", timeout_s, PUBLIC_KEY_ALGORITHMS)
    assert str(caught.value).startswith("jwks: NAME: ")
    return str(caught.value)


def test_reading_ends_at_the_size_limit() -> None:
    assert read_limited(io.BytesIO(b"x" * MAX_BYTES), within_s=5) == b"x" * MAX_BYTES
    with pytest.raises(ValueError, match="larger than 1048576 bytes"):
        read_limited(io.BytesIO(b"x" * (MAX_BYTES + 1)), within_s=5)


def test_reading_ends_at_the_deadline_though_bytes_keep_coming() -> None:
    ticks = iter(range(10))
    with pytest.raises(TimeoutError, match="not whole after 2 s"):
        read_limited(io.BytesIO(b"x" * MAX_BYTES), within_s=2, clock=lambda: next(ticks))
    assert next(ticks) == 4  # begun at 0, and the third piece came after 2


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    assert "No such file" in load_error(str(path))
    assert "directory" in load_error(str(tmp_path))
    path.write_bytes(b"x" * (MAX_BYTES + 1))
    assert "larger than" in load_error(str(path))
    path.write_bytes(key_set(jwk("e1")))
    keys, _ = load(str(path), "NAME", 5, PUBLIC_KEY_ALGORITHMS)
    assert [key.kid for key in keys] == ["e1"]


def test_an_address(provider: Provider) -> None:
    keys, _ = load(provider.url("/jwks.json?apikey=1"), "NAME", 5, PUBLIC_KEY_ALGORITHMS)
    assert [key.kid for key in keys] == ["e1"]
    assert provider.paths == ["/jwks.json?apikey=1"]


def test_answers_that_are_no_set(provider: Provider) -> None:
    provider.status = 404
    assert "HTTP status 404 (Not Found)" in load_error(provider.url())
    provider.status = 200
    provider.body = b" " * (MAX_BYTES + 1)
    assert "larger than" in load_error(provider.url())
    provider.raw = b"SSH-2.0-OpenSSH\r\n"
    assert "BadStatusLine" in load_error(provider.url())


def test_nobody_there() -> None:
    with closing(socket.socket()) as bound:  # bound, and so nobody else's, but not listening
        bound.bind(("127.0.0.1", 0))
        assert "refused" in load_error(f"http://127.0.0.1:{bound.getsockname()[1]}/")


def test_an_answer_that_does_not_come(provider: Provider) -> None:
    provider.open.clear()
    assert "timed out" in load_error(provider.url(), timeout_s=0.05)


def test_redirects_stay_in_the_scheme(provider: Provider) -> None:
    provider.status = 302
    provider.headers = {"Location": provider.url("/moved")}
    keys, _ = load(provider.url(), "NAME", 5, PUBLIC_KEY_ALGORITHMS)
    assert [key.kid for key in keys] == ["e1"]
    for elsewhere in ("ftp://127.0.0.1/jwks.json", "file:///etc/passwd"):
        provider.headers = {"Location": elsewhere}
        assert "HTTP status 302" in load_error(provider.url())


def test_a_redirect_may_gain_tls_but_not_lose_it() -> None:
    redirects = SameSchemeRedirects()

    def follow(old: str, new: str) -> Request | None:
        return redirects.redirect_request(Request(old), io.BytesIO(), 302, "Found", Message(), new)  # type: ignore[arg-type]

    gained = follow("http://id.example/", "https://id.example/")
    assert gained is not None
    assert gained.full_url == "https://id.example/"
    with pytest.raises(HTTPError, match="another scheme") as caught:
        follow("https://id.example/", "http://id.example/")
    caught.value.close()


# Where a set may come from


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("", "empty"),
        ("file:///etc/keys.json", "only http:// and https://"),
        ("ftp://id.example/keys.json", "only http:// and https://"),
        ("https:///keys.json", "only http:// and https://"),
        ("https://[::1/keys.json", "not an address"),
        ("https://ada:hunter2@id.example/keys.json", "user name or password"),
    ],
)
def test_locations_that_are_refused(location: str, expected: str) -> None:
    with pytest.raises(KeyConfigError) as caught:
        authenticator(location)
    assert str(caught.value).startswith("jwks: ")
    assert expected in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_address_without_tls_is_warned_of() -> None:
    with capture_logs() as logs:
        authenticator("http://id.example/keys?apikey=1")
    assert [(entry["event"], entry["source"]) for entry in logs] == [
        ("jwks is fetched without TLS", "http://id.example/keys")
    ]
    with capture_logs() as logs:
        authenticator("https://id.example/keys")
        authenticator("http://localhost:8080/keys")
        authenticator("http://[::1]:8080/keys")
    assert logs == []


# Kept fresh


@pytest.mark.parametrize(
    ("kid", "algorithm"), [("r1", "RS256"), ("r1", "PS256"), ("e1", "ES256"), ("p1", "ES384"), ("d1", "EdDSA")]
)
async def test_a_token_is_verified_by_the_key_it_names(kid: str, algorithm: str) -> None:
    with Provider(jwk("r1"), jwk("e1"), jwk("p1"), jwk("d1")) as provider:
        auth = authenticator(provider.url())
        await auth.start()
        for _ in range(3):
            assert (await auth.verify(token(kid, algorithm))).user_id == kid
        assert len(provider.paths) == 1


async def test_a_token_that_names_no_key_is_tried_with_all(provider: Provider) -> None:
    provider.body = key_set(jwk("e1"), jwk("p1"), jwk("e2"))
    auth = authenticator(provider.url())
    await auth.start()
    assert (await auth.verify(token("e2", named=False))).user_id == "e2"
    assert await refusal(auth, token("e3", named=False)) == "the token's signature does not fit"
    assert len(provider.paths) == 1


async def test_a_stranger_can_not_ask_for_more_than_so_many_tries(provider: Provider) -> None:
    provider.body = key_set(*(jwk(f"e{number}") for number in range(1, 18)))
    auth = authenticator(provider.url())
    await auth.start()
    assert (await auth.verify(token("e16", named=False))).user_id == "e16"
    assert await refusal(auth, token("e17", named=False)) == "the token's signature does not fit"
    assert (await auth.verify(token("e17"))).user_id == "e17"


async def test_a_key_is_only_good_for_its_own_algorithm(provider: Provider) -> None:
    provider.body = key_set(jwk("e1"), jwk("r1", alg="RS256"))
    auth = authenticator(provider.url(), jwt_keys=("s" * 64,))
    await auth.start()
    assert await refusal(auth, token("r1", "PS256")) == "the token's algorithm does not belong to its key"
    forged = jwt.encode({"sub": "x"}, "t" * 64, algorithm="HS256", headers={"kid": "r1"})
    assert await refusal(auth, forged) == "the token's signature does not fit"
    by_another = jwt.encode({}, private_key("e2"), algorithm="ES256", headers={"kid": "e1"})
    assert await refusal(auth, by_another) == "the token's signature does not fit"


async def test_a_set_never_verifies_hs(provider: Provider) -> None:
    secret = "c2VjcmV0" * 8
    provider.body = key_set(jwk("e1"), {"kty": "oct", "k": secret, "kid": "s", "alg": "HS256"})
    auth = authenticator(provider.url())
    await auth.start()
    forged = jwt.encode({}, jwt.utils.base64url_decode(secret), algorithm="HS256", headers={"kid": "s"})
    assert await refusal(auth, forged) == "the token's algorithm is not allowed"


async def test_local_keys_come_first_and_fetch_nothing(provider: Provider) -> None:
    auth = authenticator(provider.url(), jwt_keys=("s" * 32,))
    local = jwt.encode({"sub": "ada"}, "s" * 32, algorithm="HS256", headers={"kid": "unheard-of"})
    assert (await auth.verify(local)).user_id == "ada"
    assert provider.paths == []


async def test_the_first_token_loads_a_set_that_was_not_started(provider: Provider) -> None:
    auth = authenticator(provider.url())
    assert (await auth.verify(token("e1"))).user_id == "e1"
    assert len(provider.paths) == 1


async def test_an_old_copy_is_fetched_again(provider: Provider) -> None:
    clock = Clock()
    auth = authenticator(provider.url(), clock, jwks_cache_s=300)
    await auth.start()
    clock.now += 299
    await auth.verify(token("e1"))
    assert len(provider.paths) == 1
    clock.now += 1
    provider.body = key_set(jwk("e2"))
    assert await refusal(auth, token("e1")) == UNKNOWN_KID  # it was withdrawn
    assert len(provider.paths) == 2
    await auth.verify(token("e2"))
    assert len(provider.paths) == 2


async def test_a_clock_that_was_set_back_does_not_stop_fetching(provider: Provider) -> None:
    clock = Clock()
    auth = authenticator(provider.url(), clock)
    await auth.start()
    clock.now -= 3600
    await auth.verify(token("e1"))
    assert len(provider.paths) == 2


async def test_a_file_is_read_again_too(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(jwk("e1")))
    clock = Clock()
    auth = authenticator(str(path), clock)
    await auth.start()
    path.write_bytes(key_set(jwk("e2")))
    clock.now += 10
    assert (await auth.verify(token("e2"))).user_id == "e2"


async def test_rotation_takes_one_fetch(provider: Provider) -> None:
    clock = Clock()
    auth = authenticator(provider.url(), clock, jwks_min_refresh_s=10)
    await auth.start()
    provider.body = key_set(jwk("e1"), jwk("e2"))
    clock.now += 10
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(auth.verify, token("e2"))
    assert (await auth.verify(token("e1"))).user_id == "e1"
    assert len(provider.paths) == 2


async def test_a_flood_of_unknown_keys_is_no_lever(provider: Provider) -> None:
    clock = Clock()
    auth = authenticator(provider.url(), clock, jwks_min_refresh_s=10)
    await auth.start()
    for number in range(101):  # ten a second, for ten seconds
        clock.now = 1_700_000_000.0 + number / 10
        headers = {"kid": f"made-up-{number}"}
        forged = jwt.encode({}, private_key("e1"), algorithm="ES256", headers=headers)
        assert await refusal(auth, forged) == UNKNOWN_KID
    assert len(provider.paths) == 2
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(refusal, auth, token("e9"))
    assert len(provider.paths) == 2


async def test_when_a_fetch_fails_the_held_keys_go_on(provider: Provider) -> None:
    clock = Clock()
    auth = authenticator(provider.url("/jwks.json?apikey=hunter2"), clock, jwks_cache_s=300)
    await auth.start()
    provider.status = 503
    clock.now += 300
    with capture_logs() as logs:
        for _ in range(3):
            assert (await auth.verify(token("e1"))).user_id == "e1"
        assert await refusal(auth, token("e2")) == UNKNOWN_KID
    assert [(entry["log_level"], entry["event"], entry["keys_held"]) for entry in logs] == [
        ("warning", "jwks could not be fetched again", 1)
    ]
    assert "HTTP status 503" in logs[0]["error"]
    assert "hunter2" not in str(logs)
    provider.status = 200
    provider.body = key_set(jwk("e2"))
    clock.now += 10
    assert (await auth.verify(token("e2"))).user_id == "e2"
    assert len(provider.paths) == 3


async def test_an_emptied_set_counts_as_a_failure(provider: Provider) -> None:
    clock = Clock()
    auth = authenticator(provider.url(), clock)
    await auth.start()
    provider.body = key_set()
    clock.now += 300
    with capture_logs() as logs:
        assert (await auth.verify(token("e1"))).user_id == "e1"
    assert "no key that can verify" in logs[0]["error"]


async def test_left_out_keys_are_logged_once(provider: Provider) -> None:
    clock = Clock()
    auth = authenticator(provider.url(), clock)
    provider.body = key_set({"kty": "oct", "k": "c2VjcmV0"}, jwk("e1"))
    with capture_logs() as logs:
        await auth.start()
        clock.now += 300
        await auth.verify(token("e1"))
    assert len(provider.paths) == 2
    assert [entry["event"] for entry in logs] == ["jwks has keys that are ignored"]
    assert "symmetric" in logs[0]["keys"][0]
    assert "c2VjcmV0" not in str(logs)


async def test_the_start_fails_loudly(provider: Provider) -> None:
    provider.status = 500
    auth = authenticator(provider.url("/jwks.json?apikey=1"))
    with pytest.raises(KeyConfigError) as caught:
        await auth.start()
    assert f"jwks: {provider.url()}: HTTP status 500" in str(caught.value)


async def test_a_hanging_provider_does_not_hold_the_start(provider: Provider, autojump_clock: MockClock) -> None:
    provider.open.clear()
    auth = authenticator(provider.url(), jwks_timeout_s=5)
    with pytest.raises(KeyConfigError, match="no answer within 10 s"):
        await auth.start()
    assert trio.current_time() == 10


# Several at once


async def test_a_held_key_does_not_wait_for_a_fetch(provider: Provider) -> None:
    clock = Clock()
    auth = authenticator(provider.url(), clock)
    await auth.start()
    await provider.has_request()
    provider.open.clear()
    clock.now += 300
    served: list[str] = []

    async def client(name: str) -> None:
        await auth.verify(token("e1"))
        served.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client, "fetching")
        await provider.has_request()
        nursery.start_soon(client, "not waiting")
        await wait_all_tasks_blocked()
        assert served == ["not waiting"]
        provider.open.set()
    assert len(provider.paths) == 2


async def test_waiters_share_one_fetch_and_its_failure(provider: Provider) -> None:
    clock = Clock()
    auth = authenticator(provider.url(), clock)
    await auth.start()
    await provider.has_request()
    provider.open.clear()
    provider.status = 503
    clock.now += 10
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(refusal, auth, token("e2"))
            await provider.has_request()
            await wait_all_tasks_blocked()
            provider.open.set()
    assert len(provider.paths) == 2
    assert len(logs) == 1


@pytest.mark.parametrize("gives_up", ["fetching", "waiting"])
async def test_one_of_two_waiters_is_cancelled(provider: Provider, gives_up: str) -> None:
    clock = Clock()
    auth = authenticator(provider.url(), clock)
    await auth.start()
    await provider.has_request()
    provider.open.clear()
    provider.body = key_set(jwk("e1"), jwk("e2"))
    clock.now += 10
    scopes = {"fetching": trio.CancelScope(), "waiting": trio.CancelScope()}
    served: list[str] = []

    async def client(name: str) -> None:
        with scopes[name]:
            await auth.verify(token("e2"))
            served.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client, "fetching")
        await provider.has_request()
        nursery.start_soon(client, "waiting")
        await wait_all_tasks_blocked()
        scopes[gives_up].cancel()
        await wait_all_tasks_blocked()
        provider.open.set()
    assert served == [name for name in scopes if name != gives_up]
    # What a cancelled call had asked for is lost with it, so the one that waited asks again.
    assert len(provider.paths) == (3 if gives_up == "fetching" else 2)


async def test_no_thread_begins_before_the_one_given_up_on_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, begun, steps = threading.Event(), threading.Semaphore(0), list[str]()

    def slow_load(*args: object) -> tuple[tuple[VerifyKey, ...], tuple[str, ...]]:
        steps.append("begins")
        begun.release()
        assert gate.wait(30)
        steps.append("ends")
        return (), ()

    monkeypatch.setattr("router.auth.key_set.load", slow_load)
    auth = authenticator("keys.json")
    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def give_up() -> None:
            with first:
                await auth.start()

        nursery.start_soon(give_up)
        await trio.to_thread.run_sync(begun.acquire)
        first.cancel()
        nursery.start_soon(auth.start)
        await wait_all_tasks_blocked()
        gate.set()
    assert steps == ["begins", "ends", "begins", "ends"]
