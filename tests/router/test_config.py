"""The struct itself: its defaults, what it derives, and what it does not show."""

from typing import Any

import msgspec
import pytest

from router.config import SECRETS, Config, is_loopback
from router.limits import Rate
from router.permissions import ROLES

SECRET = "a-secret-of-more-than-32-characters"


def test_the_defaults_are_those_of_the_contract() -> None:
    config = Config()
    assert (config.host, config.port, config.development) == ("127.0.0.1", 8000, True)
    assert (config.max_connections, config.max_subscriptions, config.handshake_s) == (10_000, 1_000, 10)
    assert (config.max_connections_per_user, config.max_connections_per_address) == (None, None)
    assert (config.outbox_events, config.outbox_bytes) == (10_000, 4 * 1024**2)
    assert (config.control_messages, config.control_bytes) == (1_000, 1024**2)
    assert (config.max_message_bytes, config.max_event_bytes, config.max_body_bytes) == (65_536, 65_536, 1024**2)
    assert (config.rate_ping, config.rate_get_subscriptions) == (Rate(140, 2), Rate(30, 0.5))
    assert config.rate_subscribe == config.rate_unsubscribe == Rate(50, 1)
    assert (config.rate_other, config.rate_publish, config.max_messages_per_s) == (Rate(80, 10), None, None)
    assert config.rate_http == Rate(100, 100)
    assert (config.heartbeat_s, config.silence_s, config.message_s, config.drain_s) == (30, 90, 30, 10)
    assert (config.session_ttl_s, config.max_detached_sessions, config.detached_events) == (300, 10_000, 1_000)
    assert config.roles == ROLES


def test_settings_are_fixed_once_read() -> None:
    config: Any = Config()
    with pytest.raises(AttributeError):
        config.port = 1


def test_a_table_belongs_to_one_configuration() -> None:
    assert Config().roles is not Config().roles
    assert Config().channels is not Config().channels


# Who may be reached from where


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST", "::1", "[::1]", "0:0:0:0:0:0:0:1"]
)
def test_loopback_is_this_machine_alone(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0", "::", "", "192.168.1.5", "8.8.8.8", "router.example.com", "127.evil.com", "127.0.0.1.evil.com",
        "localhost.evil.com", "127.1", "[]", "::1]x", "::ffff:8.8.8.8", "127.0.0.1:80", "fe80::1",
    ],
)  # fmt: skip
def test_any_other_name_is_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("config", "has_key", "development"),
    [
        (Config(), False, True),
        (Config(insecure=True), False, False),
        (Config(jwt_keys=(SECRET,)), True, False),
        (Config(jwt_public_key_file="key.pem"), True, False),
        (Config(jwks="https://example.com/jwks"), True, False),
        (Config(jwks="https://example.com/jwks", insecure=True), True, False),
    ],
)
def test_with_any_key_or_when_told_so_development_is_over(config: Config, has_key: bool, development: bool) -> None:
    assert (config.has_key, config.development) == (has_key, development)


# Secrets


def test_keys_are_not_shown() -> None:
    jwks = "https://user:pass-word@example.com/jwks?key=third-secret"
    config = Config(jwt_keys=(SECRET, "second-secret"), jwks=jwks)
    for text in (repr(config), str(config), f"{config}", repr({"config": config})):
        assert not any(secret in text for secret in (SECRET, "second-secret", "pass-word", "third-secret"))
        assert "jwt_keys='<hidden>', " in text
        assert "jwks='<hidden>', " in text


def test_everything_else_is_shown() -> None:
    shown = repr(Config(jwt_keys=(SECRET,), jwt_issuer="me"))
    for name, value in msgspec.structs.asdict(Config(jwt_issuer="me")).items():
        if name not in SECRETS:
            assert f"{name}={value!r}" in shown
    assert "jwt_keys=(), " in repr(Config())
    assert "jwks=None, " in repr(Config())
