"""Public keys that change while the server runs: a JWK set, fetched, cached and rotated.

An identity provider publishes its public keys as one JSON document (RFC 7517) and changes them when it likes.
`KeySet` holds the last good copy. It asks for a new one when the copy is old or when a token names a key that is
not in it; it never asks more often than a fixed interval, whatever tokens arrive, and it keeps what it holds when
the answer is bad. Fetching blocks, so it happens in a thread; everything else happens in the event loop.

What a key may verify is decided here too, once, from the key itself: `VerifyKey.algorithms`. A token's header
chooses among those and cannot add to them, so a public key is never taken for an HMAC secret (RFC 8725 §3.1).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, Final, Protocol
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import jwt
import msgspec
import structlog
import trio
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

MAX_BYTES: Final = 1024 * 1024  # of one JWK set; a large provider's is about 10 KiB
MIN_RSA_BITS: Final = 2048  # RFC 7518 §3.3

RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
EC_ALGORITHMS: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}  # RFC 7518 §3.4
PUBLIC_KEY_ALGORITHMS: Final = (*RSA_ALGORITHMS, *EC_ALGORITHMS.values(), "EdDSA")

# Any algorithm of the family will do to have the key's parameters read: the curve is read from the key.
_READERS: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_log = structlog.get_logger("router.auth")


class KeyConfigError(Exception):
    """A key, a key file or a JWK set that cannot be used.

    The message is for whoever starts the server: it names the setting, the file or address, and the way out.
    It never holds key material.
    """


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """One key and the only algorithms it may verify."""

    material: Any = field(repr=False)  # bytes for HS*, else a public key object; kept out of logs and tracebacks
    algorithms: tuple[str, ...]
    kid: str | None = None  # its name in a JWK set (RFC 7517 §4.5)


def algorithms_of(key: object) -> tuple[str, ...]:
    """Return the algorithms that a public key object of `cryptography` can verify.

    Raises:
        ValueError: There is none, or the key is too weak; the message describes the key.
    """
    match key:
        case rsa.RSAPublicKey(key_size=bits) if bits >= MIN_RSA_BITS:
            return RSA_ALGORITHMS
        case rsa.RSAPublicKey(key_size=bits):
            raise ValueError(f"an RSA key of {bits} bits, at least {MIN_RSA_BITS} are needed (RFC 7518 §3.3)")
        case ec.EllipticCurvePublicKey(curve=curve) if curve.name in EC_ALGORITHMS:
            return (EC_ALGORITHMS[curve.name],)
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return ("EdDSA",)
        case _:
            raise ValueError("a key of a kind that no supported algorithm uses")


def parse(document: bytes, allowed: tuple[str, ...]) -> tuple[tuple[VerifyKey, ...], tuple[str, ...]]:
    """Read a JWK set (RFC 7517 §5).

    One bad key does not spoil the set: it is left out. Keys for encryption are left out silently, they are no
    mistake.

    Args:
        document: The JSON text.
        allowed: The algorithms that the configuration allows, none of them symmetric.

    Returns:
        The usable keys, and one sentence for each key that was left out though it was meant for signatures.

    Raises:
        ValueError: It is not a JWK set, or holds no usable key.
    """
    try:
        content = msgspec.json.decode(document)
    except RecursionError:
        raise ValueError("not a JWK set: nested too deeply") from None
    if not isinstance(content, dict) or not isinstance(content.get("keys"), list):
        raise ValueError("not a JWK set: an object with a list `keys` is expected (RFC 7517 §5)")
    keys: list[VerifyKey] = []
    ignored: list[str] = []
    for index, jwk in enumerate(content["keys"]):
        try:
            if _is_for_signatures(jwk):
                keys.append(_usable(jwk, allowed))
        except ValueError as exc:
            ignored.append(f"keys[{index}]: {exc}")
    if not keys:
        raise ValueError("; ".join(("no key that can verify a signature", *ignored)))
    return tuple(keys), tuple(ignored)


def _is_for_signatures(jwk: object) -> bool:
    """Tell whether a JWK's `use` and `key_ops` leave verifying open (RFC 7517 §4.2 and §4.3)."""
    if not isinstance(jwk, dict):
        raise ValueError("not an object")
    operations = jwk.get("key_ops", ["verify"])
    return jwk.get("use") in (None, "sig") and isinstance(operations, list) and "verify" in operations


def _usable(jwk: dict[str, Any], allowed: tuple[str, ...]) -> VerifyKey:
    """Make a key of a JWK; ValueError says why it cannot be."""
    kty, kid, declared = jwk.get("kty"), jwk.get("kid"), jwk.get("alg")
    if kty == "oct":
        # Whoever can read the set could sign with it; and a set is made to be read.
        raise ValueError("a symmetric key has no place in a set of public keys; use jwt_keys")
    if not isinstance(kty, str) or kty not in _READERS:
        raise ValueError("a key type (kty) other than RSA, EC and OKP")
    if not isinstance(kid, str | None):
        raise ValueError("a key id (kid) that is not a string")
    if "d" in jwk:
        raise ValueError("a private key: who reads the set can sign with it; replace it, publish its public part")
    try:
        material = jwt.PyJWK(jwk, _READERS[kty]).key
    except (jwt.PyJWTError, UnsupportedAlgorithm):  # the latter where OpenSSL was built without a curve
        raise ValueError("its parameters make no key") from None
    algorithms = tuple(name for name in algorithms_of(material) if name in allowed and declared in (None, name))
    if not algorithms:
        raise ValueError("its algorithm (alg) does not fit the key or is not allowed")
    return VerifyKey(material, algorithms, kid)


class _Readable(Protocol):
    def read1(self, size: int, /) -> bytes: ...


def read_limited(stream: _Readable, *, within_s: float, clock: Callable[[], float] = time.monotonic) -> bytes:
    """Read a stream to its end, but no more than `MAX_BYTES` and no longer than `within_s` seconds.

    The time is looked at after each piece: a socket's own timeout counts from the last byte, and a byte now and
    then would hold the thread for ever.

    Raises:
        ValueError: It is larger.
        TimeoutError: It takes longer.
    """
    deadline = clock() + within_s
    content = bytearray()
    while piece := stream.read1(64 * 1024):
        content += piece
        if len(content) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        if clock() > deadline:
            raise TimeoutError(f"not whole after {within_s:g} s")
    return bytes(content)


class SameSchemeRedirects(HTTPRedirectHandler):
    """Follows a redirect within its scheme or up to https, and no other.

    urllib would follow one to `ftp:`, and one from https down to http, where anyone on the way can put in keys.
    """

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """See `urllib.request.HTTPRedirectHandler`; raises HTTPError where the new address is refused."""
        if urlsplit(newurl).scheme not in ("https", req.type):
            raise HTTPError(req.full_url, code, "a redirect to another scheme is refused", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def load(
    location: str, name: str, timeout_s: float, allowed: tuple[str, ...]
) -> tuple[tuple[VerifyKey, ...], tuple[str, ...]]:
    """Fetch and read a JWK set from a file or an address; blocks, call it in a thread.

    Args:
        location: A file path or an http(s) URL.
        name: What messages call it.
        timeout_s: For the connection, for each wait for bytes, and for the whole answer.
        allowed: See `parse`.

    Raises:
        KeyConfigError: It cannot be had or used.
    """
    try:
        if "://" in location:
            # Only http and https get here, and a redirect leads to nothing else.
            request = Request(location, headers={"Accept": "application/jwk-set+json, application/json"})  # noqa: S310
            with build_opener(SameSchemeRedirects).open(request, timeout=timeout_s) as response:
                document = read_limited(response, within_s=timeout_s)
        else:
            with Path(location).open("rb") as file:
                document = read_limited(file, within_s=timeout_s)
        return parse(document, allowed)
    except (OSError, HTTPException, ValueError) as exc:
        raise KeyConfigError(f"jwks: {name}: {_why(exc)}; check the setting and that this host can read it") from None


def _why(exc: Exception) -> str:
    """Say what went wrong without the address, which may hold an API key in its query."""
    if isinstance(exc, HTTPError):
        with exc:  # it holds the connection
            return f"HTTP status {exc.code} ({exc.reason})"
    if isinstance(exc, HTTPException):
        return type(exc).__name__
    return str(getattr(exc, "reason", None) or getattr(exc, "strerror", None) or exc)


def _checked_name(location: str) -> str:
    """Check where a set is to come from; return its name for messages: the address without its query.

    Raises:
        KeyConfigError: It is neither a path nor an http(s) address without a password.
    """
    if not location:
        raise KeyConfigError("jwks: empty; give a file path or an http(s) address, or leave it out")
    if "://" not in location:
        return location
    try:
        parts = urlsplit(location)
    except ValueError:
        raise KeyConfigError("jwks: not an address; give a file path or an http(s) address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise KeyConfigError("jwks: only http:// and https:// addresses and file paths can be read")
    if "@" in parts.netloc:
        raise KeyConfigError("jwks: an address with a user name or password cannot be used; remove it")
    name = f"{parts.scheme}://{parts.netloc}{parts.path}"
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        _log.warning("jwks is fetched without TLS", source=name, advice="use https: anyone on the way can put in keys")
    return name


class KeySet:
    """The keys of one JWK set, kept fresh.

    The mutable state is the last good copy (`_keys`, `_loaded_at`), when a fetch was last begun (`_tried_at`),
    how many refreshes have ended (`_ended`), and what was last reported as left out (`_ignored`). It changes only
    under `_lock`.
    """

    def __init__(
        self,
        location: str,
        *,
        allowed: tuple[str, ...],
        cache_s: float,
        min_refresh_s: float,
        timeout_s: float,
        now: Callable[[], float],
    ) -> None:
        """See `router.auth.JwtSettings` for the times, all in seconds; raises KeyConfigError for the location."""
        self._name = _checked_name(location)
        self._location = location
        self._allowed = allowed
        self._cache_s = cache_s
        self._min_refresh_s = min_refresh_s
        self._timeout_s = timeout_s
        self._now = now
        self._lock = trio.Lock()
        # A thread that was given up on goes on till its timeouts; until then no other is started.
        self._one_thread = trio.CapacityLimiter(1)
        self._keys: tuple[VerifyKey, ...] = ()
        self._ignored: tuple[str, ...] = ()
        self._loaded_at: float | None = None
        self._tried_at: float | None = None
        self._ended = 0

    async def start(self) -> None:
        """Load the set for the first time.

        Raises:
            KeyConfigError: It cannot be had or used.

        Cancellation: safe; nothing has changed then, except that the next fetch may have to wait.
        """
        async with self._lock:
            await self._fetch()

    async def find(self, kid: str | None) -> tuple[VerifyKey, ...]:
        """Return the keys that a token may mean: those named `kid`, or all where it names none.

        A key that is held never waits for a fetch that another call has under way. One that is not held does, and
        begins a fetch itself if the last one was begun long enough ago. No key at all is an answer, not an error.

        Cancellation: safe, also for others that wait for the fetch this call has under way: one of them begins
        it anew.
        """
        keys = self._held(kid)
        fetching = self._lock.locked()
        wanted = not keys or (not fetching and not self._within(self._loaded_at, self._cache_s))
        if wanted and (fetching or not self._within(self._tried_at, self._min_refresh_s)):
            await self._refresh()
            keys = self._held(kid)
        return keys

    def _held(self, kid: str | None) -> tuple[VerifyKey, ...]:
        return tuple(key for key in self._keys if kid is None or key.kid == kid)

    def _within(self, moment: float | None, seconds: float) -> bool:
        """Tell whether a moment is less than so long ago; a clock that was set back counts as long ago."""
        return moment is not None and 0 <= self._now() - moment < seconds

    async def _refresh(self) -> None:
        """Fetch once, or take what another call's fetch brings; a failure is logged and changes nothing."""
        before = self._ended
        async with self._lock:
            if self._ended != before:
                return  # the fetch that was waited for has ended, well or badly; a cancelled one has not
            try:
                await self._fetch()
            except KeyConfigError as exc:
                _log.warning("jwks could not be fetched again", error=str(exc), keys_held=len(self._keys))
            self._ended += 1

    async def _fetch(self) -> None:
        """Replace the keys held by those of a new copy; KeyConfigError and cancellation leave them."""
        self._tried_at = self._now()
        try:
            # Twice the time: the thread's own limits come first and say more. This one is for what they do not
            # cover: name resolution, and a thread that was given up on and is not done.
            with trio.fail_after(2 * self._timeout_s):
                keys, ignored = await trio.to_thread.run_sync(
                    load,
                    self._location,
                    self._name,
                    self._timeout_s,
                    self._allowed,
                    abandon_on_cancel=True,
                    limiter=self._one_thread,
                )
        except trio.TooSlowError:
            why = f"no answer within {2 * self._timeout_s:g} s; check the setting and the network"
            raise KeyConfigError(f"jwks: {self._name}: {why}") from None
        self._keys = keys
        self._loaded_at = self._now()
        if ignored != self._ignored:  # a set is fetched again and again, and mostly it is the same
            self._ignored = ignored
            _log.warning("jwks has keys that are ignored", source=self._name, keys=list(ignored))
