"""What verifies a token: the configured keys, each bound to the algorithms it may verify; no I/O.

What a key may verify is decided once, from the key itself: `VerifyKey.algorithms`. A token's header chooses among
those and cannot add to them, so a public key is never taken for an HMAC secret (RFC 8725 §3.1).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

HS_MIN_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}  # as long as the hash's output, RFC 7518 §3.2
MIN_RSA_BITS: Final = 2048  # RFC 7518 §3.3
MAX_KEYS_TRIED: Final = 16  # for one token: an upper bound on the work a stranger can ask for

RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
EC_ALGORITHMS: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}  # RFC 7518 §3.4
PUBLIC_KEY_ALGORITHMS: Final = (*RSA_ALGORITHMS, *EC_ALGORITHMS.values(), "EdDSA")


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
    """The algorithms that a public key object of `cryptography` can verify.

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


def hs_keys(secrets: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[VerifyKey, ...]:
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


def pem_keys(pem: str | None, allowed: tuple[str, ...]) -> tuple[VerifyKey, ...]:
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


def bound_to(algorithm: str, keys: Iterable[VerifyKey]) -> list[VerifyKey]:
    """The keys that may verify this algorithm, no more of them than are tried for one token."""
    return [key for key in keys if algorithm in key.algorithms][:MAX_KEYS_TRIED]
