"""Who a token says its bearer is: JSON Web Tokens checked against the keys and algorithms that are configured.

The configuration alone decides what verifies a token; the token only chooses among that (RFC 8725 §3.1). Each key
is bound at start to the algorithms its kind and strength allow, and a token is tried with the keys bound to the
algorithm it names, and no others. So `none` is never an algorithm, and a public key is never an HMAC secret. After
the signature come the audience, the issuer, the times and the types of the claims (RFC 7519 §4.1). What remains is
an `Identity`; a token that fails gets one sentence why, and neither that sentence nor a log ever holds the token.

Signatures and key formats are PyJWT's work. The times are checked here, because PyJWT reads the system clock itself
and lets strings and fractions pass for seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final

import jwt
import msgspec
import trio
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.types import Options
from msgspec import Meta

from router.auth.identity import DEFAULT_ROLE, Identity
from router.auth.jwks import PUBLIC_KEY_ALGORITHMS, KeyConfigError, KeySet, VerifyKey, algorithms_of
from router.auth.revocations import Revocations

__all__ = ["Authenticator", "Identity", "InvalidTokenError", "JwtSettings", "KeyConfigError"]

HS_MIN_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}  # as long as the hash's output, RFC 7518 §3.2

MAX_TOKEN_BYTES: Final = 8 * 1024
MAX_CLAIM_CHARS: Final = 256  # of `sub`, `role`, `jti` and each name in `subscribe` and `publish`
MAX_KEYS_TRIED: Final = 16  # for one token: an upper bound on the work a stranger can ask for
_YEAR_10000: Final = 253_402_300_800  # Unix seconds; no RFC 3339 timestamp goes further, nor does `datetime`

# The times are checked here, and the types by name; PyJWT checks `aud` and `iss`.
_PYJWT_OPTIONS: Final[Options] = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_sub": False,
    "verify_jti": False,
}


class InvalidTokenError(Exception):
    """A token that is refused.

    Attributes:
        reason: One short sentence, fit for a close frame (under 100 bytes of UTF-8) and for an error message. It
            is made of fixed words: nothing of the token is in it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class JwtSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which tokens are good. Keys of several kinds may stand side by side, for instance while moving to another."""

    jwt_keys: tuple[str, ...] = ()  # shared secrets, 32 bytes or more: any of them verifies, the first signs
    public_key: str | None = None  # PEM text, for RS*, PS*, ES* and EdDSA
    jwks: str | None = None  # a file path or an http(s) address of a JWK set
    algorithms: tuple[str, ...] = ()  # empty: all that the keys' kinds and lengths allow
    audience: str | None = None  # what `aud` must name; None: a token that has an `aud` is meant for someone else
    issuer: str | None = None  # what `iss` must be; None: not checked
    leeway_s: Annotated[float, Meta(ge=0)] = 0  # for clocks that differ; more keeps expired tokens good for longer
    jwks_cache_s: Annotated[float, Meta(ge=0)] = 300  # a JWK set is fetched again after that
    jwks_min_refresh_s: Annotated[float, Meta(ge=0)] = 10  # from one fetch to the next, whatever asks for it
    jwks_timeout_s: Annotated[float, Meta(gt=0)] = 5  # for one fetch; a token with an unknown `kid` waits so long
    require_exp: bool = False  # refuse tokens that never expire

    def __repr__(self) -> str:
        """Leave out what must not end up in a log: the secrets, and an address's query."""
        shown = msgspec.structs.asdict(self)
        shown["jwt_keys"] = f"<{len(self.jwt_keys)} hidden>"
        shown["jwks"] = self.jwks and self.jwks.partition("?")[0]
        return f"JwtSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class Authenticator:
    """Checks tokens, and signs them where a shared secret is configured.

    The mutable state is the JWK set, see `router.auth.jwks.KeySet`, and all keys when they are configured anew. Without
    any key, every token is refused.
    """

    def __init__(
        self,
        settings: JwtSettings,
        *,
        revocations: Revocations | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Read the local keys; nothing is fetched yet.

        Args:
            settings: The keys and what else a token must fulfil.
            revocations: Tokens that are refused however good they are; None: there are none.
            now: The clock, in Unix seconds; also for the age of the JWK set.

        Raises:
            KeyConfigError: A key is unreadable or too weak, or it and `algorithms` do not fit each other.
        """
        self._settings = settings
        self._revocations = revocations
        self._now = now
        allowed = settings.algorithms or (*HS_MIN_BYTES, *PUBLIC_KEY_ALGORITHMS)
        self._hs_keys = _hs_keys(settings.jwt_keys, allowed)
        self._local = (*self._hs_keys, *_public_key(settings.public_key, allowed))
        self._jwks, jwks_algorithms = _key_set(settings, allowed, now)
        self._algorithms = {*jwks_algorithms, *(name for key in self._local for name in key.algorithms)}
        if idle := [name for name in settings.algorithms if name not in self._algorithms]:
            raise KeyConfigError(
                f"jwt_algorithms: no configured key is for {', '.join(idle)}; known are"
                f" {', '.join((*HS_MIN_BYTES, *PUBLIC_KEY_ALGORITHMS))}, HS* only with jwt_keys"
            )

    async def start(self) -> None:
        """Load the JWK set, where there is one.

        Raises:
            KeyConfigError: It cannot be had or used.

        Cancellation: safe.
        """
        await trio.lowlevel.checkpoint()
        if self._jwks is not None:
            await self._jwks.start()

    def adopt(self, other: Authenticator) -> None:
        """Take over the keys and rules of another one, which has started: what it refuses is refused from now on."""
        self._settings = other._settings
        self._hs_keys = other._hs_keys
        self._local = other._local
        self._jwks = other._jwks
        self._algorithms = other._algorithms

    async def verify(self, token: str) -> Identity:
        """Check a token and say who its bearer is.

        With local keys this takes one checkpoint and some tens of microseconds. It waits for the network only
        where a JWK set is due to be fetched again or does not hold the key that the token names.

        Raises:
            InvalidTokenError: It is refused, and why.

        Cancellation: safe; another call that waits for the same fetch is not harmed.
        """
        await trio.lowlevel.checkpoint()
        algorithm, kid = _read_header(token)
        if algorithm not in self._algorithms:
            raise InvalidTokenError("the token's algorithm is not allowed")
        claims = self._try(token, _bound_to(algorithm, self._local))
        if claims is None and self._jwks is not None and algorithm in PUBLIC_KEY_ALGORITHMS:
            named = await self._jwks.find(kid)
            if not named:
                raise InvalidTokenError("the token names a key (kid) that is not known")
            if not (keys := _bound_to(algorithm, named)):
                raise InvalidTokenError("the token's algorithm does not belong to its key")
            claims = self._try(token, keys)
        if claims is None:
            raise InvalidTokenError("the token's signature does not fit")
        identity = self._identify(claims)
        if self._revocations is not None and self._revocations.refuses(identity):
            raise InvalidTokenError("the token has been revoked")
        return identity

    def sign(self, claims: Mapping[str, object]) -> str:
        """Make a token of these claims with the first HS key, for tests, tools and hosts without an issuer.

        Raises:
            ValueError: There is no HS key: public keys only verify.
            TypeError: A claim cannot be written as JSON.
        """
        if not self._hs_keys:
            raise ValueError("no key to sign with: set jwt_keys, or have the issuer of the public keys sign")
        key = self._hs_keys[0]
        return jwt.encode(dict(claims), key.material, algorithm=key.algorithms[0])

    def _try(self, token: str, keys: Iterable[VerifyKey]) -> dict[str, Any] | None:
        """Return the claims if a key verifies the token, None if none does; a good signature ends the search."""
        for key in keys:
            try:
                return jwt.decode(
                    token,
                    key.material,
                    algorithms=key.algorithms,
                    options=_PYJWT_OPTIONS,
                    audience=self._settings.audience,
                    issuer=self._settings.issuer,
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.PyJWTError as exc:
                raise InvalidTokenError(self._reason(exc)) from None
        return None

    def _reason(self, error: jwt.PyJWTError) -> str:
        match error:
            case jwt.MissingRequiredClaimError(claim=("aud" | "iss") as claim):
                return f"the claim {claim} is missing"
            case jwt.InvalidAudienceError() if self._settings.audience is None:
                return "the claim aud names an audience, and this server is set up with none"
            case jwt.InvalidAudienceError():
                return "the claim aud does not name this server's audience"
            case jwt.InvalidIssuerError():
                return "the claim iss does not name the expected issuer"
            case _:
                return "not a well-formed token"

    def _identify(self, claims: dict[str, Any]) -> Identity:
        expires_at = self._check_times(claims)
        return Identity(
            user_id=_text(claims, "sub"),
            role=_text(claims, "role") or DEFAULT_ROLE,
            subscribe=_names(claims, "subscribe"),
            publish=_names(claims, "publish"),
            expires_at=expires_at,
            issued_at=_seconds(claims, "iat"),
            token_id=_text(claims, "jti"),
        )

    def _check_times(self, claims: dict[str, Any]) -> float | None:
        """Check `exp`, `nbf` and `iat` (RFC 7519 §4.1.4 to §4.1.6); return `exp`."""
        now, leeway_s = self._now(), self._settings.leeway_s
        expires_at = _seconds(claims, "exp")
        if expires_at is None and self._settings.require_exp:
            raise InvalidTokenError("the claim exp is missing")
        if expires_at is not None and now >= expires_at + leeway_s:
            raise InvalidTokenError("the token has expired")
        if (_seconds(claims, "nbf") or 0) > now + leeway_s:
            raise InvalidTokenError("the token is not valid yet (nbf)")
        if (_seconds(claims, "iat") or 0) > now + leeway_s:
            raise InvalidTokenError("the token was issued in the future (iat)")
        return expires_at


def _read_header(token: str) -> tuple[str, str | None]:
    """Return a token's `alg` and `kid`, before anything in it can be trusted."""
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidTokenError(f"the token is larger than {MAX_TOKEN_BYTES} bytes")
    try:
        # A token is ASCII (RFC 7515 §7.1). PyJWT encodes it as UTF-8, where half of a surrogate pair would raise.
        header = jwt.get_unverified_header(token.encode("ascii"))
    except (UnicodeEncodeError, jwt.DecodeError):
        raise InvalidTokenError("not a well-formed token") from None
    except jwt.InvalidTokenError:
        raise InvalidTokenError("the token's header has an unusable kid or crit") from None
    match header.get("alg"):
        case str() as algorithm if algorithm.lower() != "none":
            return algorithm, header.get("kid")
        case str():
            raise InvalidTokenError("the token is not signed (alg none)")
        case _:
            raise InvalidTokenError("the token names no algorithm (alg)")


def _bound_to(algorithm: str, keys: Iterable[VerifyKey]) -> list[VerifyKey]:
    """Return the keys that may verify this algorithm, no more of them than are tried for one token."""
    return [key for key in keys if algorithm in key.algorithms][:MAX_KEYS_TRIED]


def _is_text(value: object) -> bool:
    """Tell whether a claim's value is text that can be kept, logged and sent.

    JSON can spell half of a surrogate pair, which no UTF-8 message could carry on.
    """
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_CLAIM_CHARS
        and not any("\ud800" <= character <= "\udfff" for character in value)
    )


def _text(claims: dict[str, Any], name: str) -> str | None:
    if name not in claims:
        return None
    if not _is_text(claims[name]):
        raise InvalidTokenError(f"the claim {name} must be a string of 1 to {MAX_CLAIM_CHARS} characters")
    return str(claims[name])


def _names(claims: dict[str, Any], name: str) -> tuple[str, ...] | None:
    if name not in claims:
        return None
    value = claims[name]
    if not isinstance(value, list) or not all(map(_is_text, value)):
        raise InvalidTokenError(f"the claim {name} must be a list of channel names")
    return tuple(value)


def _seconds(claims: dict[str, Any], name: str) -> float | None:
    """Return a NumericDate (RFC 7519 §2); the bound also catches milliseconds sent by mistake."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _YEAR_10000:
        raise InvalidTokenError(f"the claim {name} must be a number of seconds since 1970")
    return float(value)


def _hs_keys(secrets: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[VerifyKey, ...]:
    """Bind each shared secret to the allowed HS algorithms that it is long enough for."""
    if len(secrets) > MAX_KEYS_TRIED:
        raise KeyConfigError(f"jwt_keys: more than {MAX_KEYS_TRIED}; remove old ones, each token may try them all")
    wanted = [name for name in allowed if name in HS_MIN_BYTES]
    if secrets and not wanted:
        raise KeyConfigError("jwt_keys: jwt_algorithms allows no HS*; add HS256 there or remove the keys")
    return tuple(_hs_key(f"jwt_keys[{index}]", secret, wanted) for index, secret in enumerate(secrets))


def _hs_key(setting: str, secret: str, wanted: list[str]) -> VerifyKey:
    try:
        material = secret.encode()
        jwt.get_algorithm_by_name("HS256").prepare_key(material)
    except UnicodeEncodeError:
        raise KeyConfigError(f"{setting}: not valid UTF-8; write random bytes as hex or base64") from None
    except jwt.InvalidKeyError:
        # Whoever has a public key's text could sign with it.
        raise KeyConfigError(
            f"{setting}: empty, or a public key, certificate or JWK, which is not a secret; use jwt_public_key_file"
            " or jwks for those"
        ) from None
    algorithms = tuple(name for name in wanted if len(material) >= HS_MIN_BYTES[name])
    if not algorithms:
        shortest = min(wanted, key=HS_MIN_BYTES.__getitem__)
        raise KeyConfigError(
            f"{setting}: {len(material)} bytes are too short, {shortest} needs {HS_MIN_BYTES[shortest]}"
            " (RFC 7518 §3.2); make one with `openssl rand -hex 32`"
        )
    return VerifyKey(material, algorithms)


def _public_key(pem: str | None, allowed: tuple[str, ...]) -> tuple[VerifyKey, ...]:
    """Bind the configured public key to the allowed algorithms of its kind; empty where there is none.

    A private key or a certificate is refused though a public key could be taken out of it: a server that only
    verifies should not hold what signs, and a certificate's dates and issuer would be ignored without a word.
    """
    if pem is None:
        return ()
    if "PRIVATE KEY-----" in pem:
        raise KeyConfigError(
            "jwt_public_key_file: a private key; this server needs only its public part: openssl pkey -in KEY -pubout"
        )
    if "CERTIFICATE-----" in pem:
        raise KeyConfigError(
            "jwt_public_key_file: a certificate; its public key is needed: openssl x509 -in CERT -noout -pubkey"
        )
    try:
        material = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise KeyConfigError(
            "jwt_public_key_file: not readable; it holds PEM text, from `-----BEGIN PUBLIC KEY-----` to the end line"
        ) from None
    try:
        fitting = algorithms_of(material)
    except ValueError as exc:
        raise KeyConfigError(f"jwt_public_key_file: {exc}; use RSA, EC on P-256, P-384 or P-521, or Ed25519") from None
    algorithms = tuple(name for name in allowed if name in fitting)
    if not algorithms:
        raise KeyConfigError(
            f"jwt_public_key_file: jwt_algorithms allows none that this key can verify; add one of {', '.join(fitting)}"
            " (never HS*: a public key is not a secret)"
        )
    return (VerifyKey(material, algorithms),)


def _key_set(
    settings: JwtSettings, allowed: tuple[str, ...], now: Callable[[], float]
) -> tuple[KeySet | None, tuple[str, ...]]:
    """Return the JWK set and the algorithms its keys may have; never HS*, whatever is configured."""
    if settings.jwks is None:
        return None, ()
    algorithms = tuple(name for name in allowed if name in PUBLIC_KEY_ALGORITHMS)
    if not algorithms:
        raise KeyConfigError("jwks: jwt_algorithms allows none for public keys; add RS256 there or remove the setting")
    key_set = KeySet(
        settings.jwks,
        allowed=algorithms,
        cache_s=settings.jwks_cache_s,
        min_refresh_s=settings.jwks_min_refresh_s,
        timeout_s=settings.jwks_timeout_s,
        now=now,
    )
    return key_set, algorithms
