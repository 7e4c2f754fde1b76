"""From the claims of a token whose signature is good to an `Identity`, or to why it is refused; no I/O.

The times and types are checked here (RFC 7519 §4.1), because PyJWT reads the system clock itself and lets strings
and fractions pass for seconds.
"""

from typing import Any, Final

from router.auth.identity import DEFAULT_ROLE, Identity

MAX_CLAIM_CHARS: Final = 256  # of `sub`, `role`, `jti` and each name in `subscribe` and `publish`
_YEAR_10000: Final = 253_402_300_800  # Unix seconds; no RFC 3339 timestamp goes further, nor does `datetime`


class InvalidTokenError(Exception):
    """A token that is refused.

    Attributes:
        reason: One short sentence, fit for a close frame (under 100 bytes of UTF-8) and for an error message. It
            is made of fixed words: nothing of the token is in it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def identify(claims: dict[str, Any], *, now: float, leeway_s: float, require_exp: bool) -> Identity:
    """Who the bearer of a token with these claims is.

    Args:
        claims: What a good signature covers; audience and issuer have been checked.
        now: Unix seconds.
        leeway_s: See `router.auth.tokens.JwtSettings`, also for `require_exp`.
        require_exp: Refuse a token that never expires.

    Raises:
        InvalidTokenError: The token is out of its time, or a claim is of the wrong type.
    """
    expires_at = _check_times(claims, now=now, leeway_s=leeway_s, require_exp=require_exp)
    return Identity(
        user_id=_text(claims, "sub"),
        role=_text(claims, "role") or DEFAULT_ROLE,
        subscribe=_names(claims, "subscribe"),
        publish=_names(claims, "publish"),
        expires_at=expires_at,
        issued_at=_seconds(claims, "iat"),
        token_id=_text(claims, "jti"),
    )


def _check_times(claims: dict[str, Any], *, now: float, leeway_s: float, require_exp: bool) -> float | None:
    """Check `exp`, `nbf` and `iat` (RFC 7519 §4.1.4 to §4.1.6); return `exp`."""
    expires_at = _seconds(claims, "exp")
    if expires_at is None and require_exp:
        raise InvalidTokenError("the claim exp is missing")
    if expires_at is not None and now >= expires_at + leeway_s:
        raise InvalidTokenError("the token has expired")
    if (_seconds(claims, "nbf") or 0) > now + leeway_s:
        raise InvalidTokenError("the token is not valid yet (nbf)")
    if (_seconds(claims, "iat") or 0) > now + leeway_s:
        raise InvalidTokenError("the token was issued in the future (iat)")
    return expires_at


def _is_text(value: object) -> bool:
    """Whether a claim's value is text that can be kept, logged and sent.

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
    """A NumericDate (RFC 7519 §2); the bound also catches milliseconds sent by mistake."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _YEAR_10000:
        raise InvalidTokenError(f"the claim {name} must be a number of seconds since 1970")
    return float(value)
