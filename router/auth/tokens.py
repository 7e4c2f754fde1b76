"""Who a token says its bearer is: JSON Web Tokens checked against the keys and algorithms that are configured.

The configuration alone decides what verifies a token; the token only chooses among that (RFC 8725 §3.1). Each key
is bound at start to the algorithms its kind and strength allow, and a token is tried with the keys bound to the
algorithm it names, and no others. So `none` is never an algorithm, and a public key is never an HMAC secret. After
the signature come the audience, the issuer, the times and the types of the claims (RFC 7519 §4.1). What remains is
an `Identity`; a token that fails gets one sentence why, and neither that sentence nor a log ever holds the token.
Signatures and key formats are PyJWT's work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final

import jwt
import msgspec
import trio
from jwt.types import Options
from msgspec import Meta

from router.auth.claims import InvalidTokenError, identify
from router.auth.identity import Identity
from router.auth.key_set import KeySet
from router.auth.keys import (
    HS_MIN_BYTES,
    PUBLIC_KEY_ALGORITHMS,
    KeyConfigError,
    VerifyKey,
    bound_to,
    hs_keys,
    pem_keys,
)
from router.auth.revocations import Revocations

__all__ = ["Authenticator", "Identity", "InvalidTokenError", "JwtSettings", "KeyConfigError"]

MAX_TOKEN_BYTES: Final = 8 * 1024

# `router.auth.claims` checks the times and the types; PyJWT checks `aud` and `iss`.
_PYJWT_OPTIONS: Final[Options] = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_sub": False,
    "verify_jti": False,
}


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

    The mutable state is the JWK set, see `router.auth.key_set.KeySet`, and all keys when they are configured anew.
    Without any key, every token is refused.
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
        self._hs_keys = hs_keys(settings.jwt_keys, allowed)
        self._local = (*self._hs_keys, *pem_keys(settings.public_key, allowed))
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
        claims = self._try(token, bound_to(algorithm, self._local))
        if claims is None and self._jwks is not None and algorithm in PUBLIC_KEY_ALGORITHMS:
            named = await self._jwks.find(kid)
            if not named:
                raise InvalidTokenError("the token names a key (kid) that is not known")
            if not (keys := bound_to(algorithm, named)):
                raise InvalidTokenError("the token's algorithm does not belong to its key")
            claims = self._try(token, keys)
        if claims is None:
            raise InvalidTokenError("the token's signature does not fit")
        identity = identify(
            claims, now=self._now(), leeway_s=self._settings.leeway_s, require_exp=self._settings.require_exp
        )
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
        """The claims if a key verifies the token, None if none does; a good signature ends the search."""
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


def _read_header(token: str) -> tuple[str, str | None]:
    """A token's `alg` and `kid`, before anything in it can be trusted."""
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


def _key_set(
    settings: JwtSettings, allowed: tuple[str, ...], now: Callable[[], float]
) -> tuple[KeySet | None, tuple[str, ...]]:
    """The JWK set and the algorithms its keys may have; never HS*, whatever is configured."""
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
