"""The public keys that a JWK set holds (RFC 7517); no I/O."""

from typing import Any, Final

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm

from router.auth.keys import VerifyKey, algorithms_of

# Any algorithm of the family will do to have the key's parameters read: the curve is read from the key.
_READERS: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}


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
    """Whether a JWK's `use` and `key_ops` leave verifying open (RFC 7517 §4.2 and §4.3)."""
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
