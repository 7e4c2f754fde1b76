import base64
import contextlib
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import jwt
import msgspec
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import assert_checkpoints

from router.auth.tokens import Authenticator, Identity, InvalidTokenError, JwtSettings, KeyConfigError

NOW = 1_700_000_000.0
SECRET = "0123456789abcdef" * 4  # 64 bytes: long enough for each HS algorithm
OTHER_SECRET = "fedcba9876543210" * 4


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key(curve: str) -> ec.EllipticCurvePrivateKey:
    curves = {
        "P-256": ec.SECP256R1(),
        "P-384": ec.SECP384R1(),
        "P-521": ec.SECP521R1(),
        "K-256": ec.SECP256K1(),
    }
    return ec.generate_private_key(curves[curve])


def public_pem(private: Any) -> str:
    pem: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def private_pem(private: Any) -> str:
    pem: bytes = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()


def authenticator(**settings: Any) -> Authenticator:
    return Authenticator(JwtSettings(**({"jwt_keys": (SECRET,)} | settings)), now=lambda: NOW)


def verify(auth: Authenticator, token: str) -> Identity:
    return trio.run(auth.verify, token)


def refusal(auth: Authenticator, token: str) -> str:
    """The reason a token is refused with; it fits a close frame and tells nothing of the token."""
    with pytest.raises(InvalidTokenError) as caught:
        verify(auth, token)
    reason = caught.value.reason
    assert str(caught.value) == reason
    assert len(reason.encode()) < 100
    assert not any(part in reason for part in token.split(".") if len(part) > 3)
    return reason


def hs(claims: dict[str, Any], secret: str = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    return jwt.encode(claims, secret, algorithm=algorithm, headers=headers)


def part(content: object) -> str:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def signed(payload: bytes) -> str:
    """A well-signed token with any payload, also one that PyJWT would not write."""
    return jwt.PyJWS().encode(payload, SECRET, algorithm="HS256")


# What an identity holds


def test_the_claims_become_an_identity() -> None:
    claims = {
        "sub": "ada",
        "role": "developer",
        "subscribe": ["metrics", "room.*"],
        "publish": [],
        "exp": NOW + 60,
        "iat": NOW - 5,
        "nbf": NOW,
        "jti": "t-1",
        "unknown": {"is": "ignored"},
    }
    assert verify(authenticator(), hs(claims)) == Identity(
        user_id="ada",
        role="developer",
        subscribe=("metrics", "room.*"),
        publish=(),
        expires_at=NOW + 60,
        issued_at=NOW - 5,
        token_id="t-1",
    )


def test_a_token_without_claims_is_an_anonymous_viewer_for_ever() -> None:
    assert verify(authenticator(), hs({})) == Identity(user_id=None, role="viewer")


def test_whole_seconds_become_floats() -> None:
    identity = verify(authenticator(), hs({"exp": int(NOW) + 60}))
    assert isinstance(identity.expires_at, float)


# Algorithms and keys


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_shared_secrets(algorithm: str) -> None:
    assert verify(authenticator(), hs({"sub": "ada"}, algorithm=algorithm)).user_id == "ada"


@pytest.mark.parametrize(
    ("algorithm", "make"),
    [
        *((name, rsa_key) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        ("ES256", lambda: ec_key("P-256")),
        ("ES384", lambda: ec_key("P-384")),
        ("ES512", lambda: ec_key("P-521")),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate),
        ("EdDSA", ed448.Ed448PrivateKey.generate),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_public_keys(algorithm: str, make: Callable[[], Any], named: bool) -> None:
    private = make()
    auth = authenticator(jwt_keys=(), public_key=public_pem(private), algorithms=(algorithm,) if named else ())
    assert verify(auth, jwt.encode({"sub": "ada"}, private, algorithm=algorithm)).user_id == "ada"


def test_any_hs_key_verifies() -> None:
    auth = authenticator(jwt_keys=(SECRET, OTHER_SECRET))
    assert verify(auth, hs({"sub": "old"}, OTHER_SECRET)).user_id == "old"
    assert verify(auth, hs({"sub": "new"}, SECRET)).user_id == "new"
    assert refusal(auth, hs({}, "x" * 64)) == "the token's signature does not fit"


def test_shared_and_public_keys_stand_side_by_side() -> None:
    auth = authenticator(public_key=public_pem(rsa_key()))
    assert verify(auth, hs({"sub": "a"})).user_id == "a"
    assert verify(auth, jwt.encode({"sub": "b"}, rsa_key(), algorithm="RS256")).user_id == "b"


def test_a_secret_is_bound_to_the_algorithms_it_is_long_enough_for() -> None:
    auth = authenticator(jwt_keys=("s" * 48,))
    assert verify(auth, hs({}, "s" * 48, "HS384")).role == "viewer"
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = hs({}, "s" * 48, "HS512")
    assert refusal(auth, token) == "the token's algorithm is not allowed"


def test_the_configuration_narrows_the_algorithms() -> None:
    auth = authenticator(algorithms=("HS512",))
    assert verify(auth, hs({}, algorithm="HS512")).role == "viewer"
    assert refusal(auth, hs({})) == "the token's algorithm is not allowed"


def test_without_any_key_every_token_is_refused() -> None:
    auth = Authenticator(JwtSettings())
    assert refusal(auth, hs({})) == "the token's algorithm is not allowed"


# Refused for what the token is


@pytest.mark.parametrize("name", ["none", "None", "NONE"])
def test_an_unsigned_token(name: str) -> None:
    token = f"{part({'alg': name, 'typ': 'JWT'})}.{part({'sub': 'mallory'})}."
    assert refusal(authenticator(), token) == "the token is not signed (alg none)"


@pytest.mark.parametrize("header", [{}, {"alg": None}, {"alg": ["HS256"]}, {"alg": 1}])
def test_a_token_that_names_no_algorithm(header: dict[str, Any]) -> None:
    token = f"{part(header)}.{part({})}.{part(b'x')}"
    assert refusal(authenticator(), token) == "the token names no algorithm (alg)"


def test_an_hs_token_signed_with_the_public_keys_text() -> None:
    pem = public_pem(rsa_key())
    token = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'sub': 'mallory'})}"
    hmac = jwt.get_algorithm_by_name("HS256")
    token += "." + part(hmac.sign(token.encode(), pem.encode()))
    alone = authenticator(jwt_keys=(), public_key=pem)
    assert refusal(alone, token) == "the token's algorithm is not allowed"
    beside_a_secret = authenticator(public_key=pem)
    assert refusal(beside_a_secret, token) == "the token's signature does not fit"


def test_an_algorithm_of_another_key_kind() -> None:
    auth = authenticator(jwt_keys=(), public_key=public_pem(ec_key("P-256")))
    token = jwt.encode({}, rsa_key(), algorithm="RS256")
    assert refusal(auth, token) == "the token's algorithm is not allowed"


def test_a_signature_by_a_stranger() -> None:
    assert refusal(authenticator(), hs({}, OTHER_SECRET)) == "the token's signature does not fit"
    auth = authenticator(jwt_keys=(), public_key=public_pem(rsa_key()))
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert refusal(auth, jwt.encode({}, stranger, algorithm="RS256")) == "the token's signature does not fit"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "garbage",
        "a.b",
        "a.b.c",
        "....",
        "é.é.é",
        "\ud800",
        f"{part([])}.{part({})}.{part(b'x')}",
        f"{part(b'{')}.{part({})}.{part(b'x')}",
        signed(b"not json"),
        signed(b"[]"),
        signed(b"[" * 3000),
        signed(b'{"a":' + b"[" * 2500 + b"]" * 2500 + b"}"),
        ".".join([part(b'{"alg":"HS256","a":' + b"[" * 2500 + b"]" * 2500 + b"}"), part({}), part(b"x")]),
        f"{part({'alg': 'HS256', 'b64': False, 'crit': ['b64']})}..{part(b'x')}",
        f"{part({'alg': 'RSA-OAEP', 'enc': 'A256GCM'})}.key.iv.text.tag",
    ],
    ids=lambda token: ascii(token[:12]),
)
def test_garbage(token: str) -> None:
    assert refusal(authenticator(), token) == "not a well-formed token"


@pytest.mark.parametrize("header", [{"kid": 7}, {"crit": ["exp"]}, {"crit": []}])
def test_headers_that_can_not_be_honoured(header: dict[str, Any]) -> None:
    token = f"{part({'alg': 'HS256', **header})}.{part({})}.{part(b'x')}"
    assert refusal(authenticator(), token) == "the token's header has an unusable kid or crit"


def test_an_oversized_token() -> None:
    assert refusal(authenticator(), hs({"pad": "x" * 6200})) == "the token is larger than 8192 bytes"
    assert verify(authenticator(), hs({"pad": "x" * 6000})).role == "viewer"


# No deadline: how long an example takes says more about the machine's load than about the code.
@settings(deadline=None)
@given(st.text(max_size=60) | st.lists(st.text("abAB01-_=", max_size=8), max_size=5).map(".".join))
def test_any_text_is_refused_in_an_orderly_way(token: str) -> None:
    with pytest.raises(InvalidTokenError):
        verify(authenticator(), token)


@settings(deadline=None)
@given(st.data())
def test_a_changed_token_never_becomes_another_identity(data: st.DataObject) -> None:
    token = hs({"sub": "ada", "role": "viewer"})
    at = data.draw(st.integers(0, len(token) - 1))
    changed = token[:at] + data.draw(st.characters(max_codepoint=127)) + token[at + 1 :]
    with contextlib.suppress(InvalidTokenError):  # the last character of a part has bits that say nothing
        assert verify(authenticator(), changed) == Identity(user_id="ada")


# Refused for what the claims say


def test_expiry_counts_from_that_very_second() -> None:
    auth = authenticator()
    assert refusal(auth, hs({"exp": NOW})) == "the token has expired"
    assert verify(auth, hs({"exp": NOW + 0.5})).expires_at == NOW + 0.5


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ("nbf", "the token is not valid yet (nbf)"),
        ("iat", "the token was issued in the future (iat)"),
    ],
)
def test_a_token_from_the_future(claim: str, reason: str) -> None:
    assert refusal(authenticator(), hs({claim: NOW + 1})) == reason
    assert verify(authenticator(), hs({claim: NOW})).user_id is None


def test_leeway_widens_the_times_at_both_ends() -> None:
    auth = authenticator(leeway_s=10)
    identity = verify(auth, hs({"exp": NOW - 9, "nbf": NOW + 10, "iat": NOW + 10}))
    assert identity.expires_at == NOW - 9  # the claim itself, not when it is refused
    assert refusal(auth, hs({"exp": NOW - 10})) == "the token has expired"
    assert refusal(auth, hs({"nbf": NOW + 11})) == "the token is not valid yet (nbf)"


def test_an_expiry_may_be_required() -> None:
    auth = authenticator(require_exp=True)
    assert refusal(auth, hs({})) == "the claim exp is missing"
    assert verify(auth, hs({"exp": NOW + 1})).expires_at == NOW + 1


def test_the_audience() -> None:
    auth = authenticator(audience="router")
    assert verify(auth, hs({"aud": "router"})).role == "viewer"
    assert verify(auth, hs({"aud": ["billing", "router"]})).role == "viewer"
    assert refusal(auth, hs({"aud": "billing"})) == "the claim aud does not name this server's audience"
    assert refusal(auth, hs({"aud": [7]})) == "the claim aud does not name this server's audience"
    assert refusal(auth, hs({})) == "the claim aud is missing"


def test_a_token_for_an_audience_where_none_is_configured() -> None:
    reason = "the claim aud names an audience, and this server is set up with none"
    assert refusal(authenticator(), hs({"aud": "billing"})) == reason


def test_the_issuer() -> None:
    auth = authenticator(issuer="https://id.example")
    assert verify(auth, hs({"iss": "https://id.example"})).role == "viewer"
    expected = "the claim iss does not name the expected issuer"
    assert refusal(auth, hs({"iss": "https://id.example.evil"})) == expected
    assert refusal(auth, signed(b'{"iss":["https://id.example"]}')) == expected
    assert refusal(auth, hs({})) == "the claim iss is missing"


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value", ["null", '"1800000000"', "true", "[]", "NaN", "Infinity", "1e999", "-1", "1800000000000"]
)
def test_times_of_a_wrong_kind(claim: str, value: str) -> None:
    token = signed(f'{{"{claim}":{value}}}'.encode())
    assert refusal(authenticator(), token) == f"the claim {claim} must be a number of seconds since 1970"


def test_a_time_too_large_for_a_float() -> None:
    token = signed(b'{"exp":1' + b"0" * 400 + b"}")
    assert refusal(authenticator(), token) == "the claim exp must be a number of seconds since 1970"


@pytest.mark.parametrize("claim", ["sub", "role", "jti"])
@pytest.mark.parametrize("value", ["null", "7", '["a"]', '""', '"\\ud800"', f'"{"x" * 257}"'])
def test_texts_of_a_wrong_kind(claim: str, value: str) -> None:
    token = signed(f'{{"{claim}":{value}}}'.encode())
    assert refusal(authenticator(), token) == f"the claim {claim} must be a string of 1 to 256 characters"


def test_the_longest_subject() -> None:
    assert verify(authenticator(), hs({"sub": "é" * 256})).user_id == "é" * 256


@pytest.mark.parametrize("claim", ["subscribe", "publish"])
@pytest.mark.parametrize("value", ["null", '"metrics"', '{"metrics":1}', "[1]", '["ok",null]', '[""]'])
def test_channel_lists_of_a_wrong_kind(claim: str, value: str) -> None:
    token = signed(f'{{"{claim}":{value}}}'.encode())
    assert refusal(authenticator(), token) == f"the claim {claim} must be a list of channel names"


# Signing


def test_the_first_hs_key_signs() -> None:
    auth = authenticator(jwt_keys=(OTHER_SECRET, SECRET))
    token = auth.sign({"sub": "ada", "exp": NOW + 60})
    assert verify(auth, token) == Identity(user_id="ada", expires_at=NOW + 60)
    assert jwt.get_unverified_header(token)["alg"] == "HS256"
    assert refusal(authenticator(jwt_keys=(SECRET,)), token) == "the token's signature does not fit"


def test_the_configured_algorithm_signs() -> None:
    auth = authenticator(algorithms=("HS512", "HS256"))
    assert jwt.get_unverified_header(auth.sign({}))["alg"] == "HS512"


def test_without_an_hs_key_nothing_is_signed() -> None:
    auth = authenticator(jwt_keys=(), public_key=public_pem(rsa_key()))
    with pytest.raises(ValueError, match="set jwt_keys"):
        auth.sign({"sub": "ada"})


# Keys refused at start


def config_error(**settings: Any) -> str:
    with pytest.raises(KeyConfigError) as caught:
        authenticator(**settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("algorithms", "length", "expected"),
    [
        ((), 31, "jwt_keys[1]: 31 bytes are too short, HS256 needs 32 (RFC 7518 §3.2)"),
        (("HS512", "HS384"), 47, "jwt_keys[1]: 47 bytes are too short, HS384 needs 48 (RFC 7518 §3.2)"),
    ],
)
def test_a_short_secret(algorithms: tuple[str, ...], length: int, expected: str) -> None:
    message = config_error(jwt_keys=(SECRET, "s" * length), algorithms=algorithms)
    assert message.startswith(expected)
    assert "ssss" not in message


@pytest.mark.parametrize(
    "secret",
    [
        "",
        '{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}',
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n",
    ],
)
def test_a_public_key_is_no_secret(secret: str) -> None:
    assert config_error(jwt_keys=(secret,)).startswith("jwt_keys[0]: empty, or a public key")


def test_a_secret_that_is_not_text() -> None:
    assert "hex or base64" in config_error(jwt_keys=("\udcff" * 32,))


def test_too_many_secrets() -> None:
    assert verify(authenticator(jwt_keys=(OTHER_SECRET,) * 15 + (SECRET,)), hs({})).role == "viewer"
    assert config_error(jwt_keys=(SECRET,) * 17).startswith("jwt_keys: more than 16")


def test_a_private_key_is_refused() -> None:
    message = config_error(public_key=private_pem(rsa_key()))
    assert message.startswith("jwt_public_key_file: a private key")
    assert "openssl pkey" in message


@pytest.mark.parametrize(
    ("pem", "expected"),
    [
        ("", "not readable"),
        ("/etc/keys/public.pem", "not readable"),
        ("\udcff", "not readable"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not readable"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "openssl x509"),
    ],
)
def test_a_public_key_that_can_not_be_read(pem: str, expected: str) -> None:
    message = config_error(public_key=pem)
    assert message.startswith("jwt_public_key_file: ")
    assert expected in message


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: rsa_key(1024), "1024 bits"),
        (lambda: ec_key("K-256"), "a kind that no supported algorithm uses"),
        (x25519.X25519PrivateKey.generate, "a kind that no supported algorithm uses"),
    ],
)
def test_an_unfit_public_key(make: Callable[[], Any], expected: str) -> None:
    assert expected in config_error(public_key=public_pem(make()))


def test_an_hs_algorithm_with_a_public_key() -> None:
    message = config_error(jwt_keys=(), public_key=public_pem(rsa_key()), algorithms=("HS256",))
    assert "a public key is not a secret" in message
    message = config_error(jwt_keys=(), public_key=public_pem(rsa_key()), algorithms=("RS256", "HS256"))
    assert message.startswith("jwt_algorithms: no configured key is for HS256")
    message = config_error(jwt_keys=(), jwks="keys.json", algorithms=("HS256",))
    assert message.startswith("jwks: jwt_algorithms allows none for public keys")


@pytest.mark.parametrize("name", ["none", "hs256", "ES256K", "RS256"])
def test_an_algorithm_without_a_key(name: str) -> None:
    assert config_error(algorithms=("HS256", name)).startswith(f"jwt_algorithms: no configured key is for {name};")


def test_secrets_where_only_public_key_algorithms_are_allowed() -> None:
    message = config_error(public_key=public_pem(rsa_key()), algorithms=("RS256",))
    assert message.startswith("jwt_keys: jwt_algorithms allows no HS*")


# Settings


def test_settings_show_no_secret() -> None:
    shown = repr(JwtSettings(jwt_keys=(SECRET, OTHER_SECRET), jwks="https://id.example/keys?apikey=hunter2"))
    assert "jwt_keys='<2 hidden>'" in shown
    assert "jwks='https://id.example/keys'" in shown
    assert "jwks=None" in repr(JwtSettings())
    assert SECRET not in repr(authenticator().__dict__)


@pytest.mark.parametrize("wrong", [{"leeway_s": -1}, {"jwks_timeout_s": 0}, {"jwks_cache_s": -1}])
def test_settings_from_a_file_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, JwtSettings)


# In the event loop


class Steps(trio.abc.Instrument):
    """Counts how often the current task is woken."""

    def __init__(self) -> None:
        self._task = trio.lowlevel.current_task()
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self._task


async def test_local_keys_need_one_checkpoint_and_no_thread() -> None:
    auth = authenticator()
    with assert_checkpoints():
        await auth.start()
    token = hs({"sub": "ada"})
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    await auth.verify(token)
    trio.lowlevel.remove_instrument(steps)
    assert steps.count == 1  # a thread would wake it once more


async def test_a_cancelled_check_stops_at_once() -> None:
    auth = authenticator()
    with trio.CancelScope() as scope:
        scope.cancel()
        await auth.verify(hs({}))
    assert scope.cancelled_caught
