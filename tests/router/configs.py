"""Configurations for tests: each setting spelled, and random ones that can be used."""

from typing import Any

import msgspec
from hypothesis import strategies as st

from router.config import ChannelSettings, Config
from router.limits import Rate
from router.permissions import RolePermissions
from router.policies import Policy

KINDS: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(Config)}
SECRET = "a-secret-of-more-than-32-characters"

#: Each setting as a variable has it, and what comes of it; none is the default.
SPELLED: dict[str, tuple[str, object]] = {
    "host": ("::1", "::1"),
    "port": ("9000", 9000),
    "insecure": ("true", True),
    "tls_certificate_file": ("/etc/cert.pem", "/etc/cert.pem"),
    "tls_key_file": ("/etc/cert.key", "/etc/cert.key"),
    "trusted_proxies": ("127.0.0.1, 10.0.0.0/8", ("127.0.0.1", "10.0.0.0/8")),
    "allowed_origins": ("https://a.example.com, http://b.example.com:8080", ("https://a.example.com", "http://b.example.com:8080")),
    "jwt_keys": (f"{SECRET},older", (SECRET, "older")),
    "jwt_public_key_file": ("/etc/key.pem", "/etc/key.pem"),
    "jwks": ("https://example.com/jwks", "https://example.com/jwks"),
    "jwt_algorithms": ("HS256,ES256", ("HS256", "ES256")),
    "jwt_audience": ("neurograph", "neurograph"),
    "jwt_issuer": ("https://issuer.example.com", "https://issuer.example.com"),
    "allow_anonymous": ("FALSE", False),
    "roles": ('{"viewer":{"subscribe":["*"]}}', {"viewer": RolePermissions(subscribe=("*",))}),
    "max_revocations": ("77", 77),
    "channels": (
        '{"orders.*":{"subscribe":["viewer"],"history_events":0,"history_bytes":5,"history_age_s":1.5,"policy":"latest",'
        '"key":"data.id","schema_file":"order.json","block":true,"block_timeout_ms":9}}',
        {
            "orders.*": ChannelSettings(
                subscribe=("viewer",),
                history_events=0,
                history_bytes=5,
                history_age_s=1.5,
                policy=Policy.LATEST,
                key="data.id",
                schema_file="order.json",
                block=True,
                block_timeout_ms=9,
            )
        },
    ),
    "max_channels": ("20", 20),
    "channel_idle_s": ("60", 60.0),
    "max_connections": ("5", 5),
    "max_connections_per_user": ("3", 3),
    "max_connections_per_address": ("4", 4),
    "handshake_s": ("2.5", 2.5),
    "sign_in_s": ("3", 3.0),
    "max_head_bytes": ("8192", 8192),
    "max_message_bytes": ("131072", 131072),
    "max_event_bytes": ("1024", 1024),
    "max_subscriptions": ("7", 7),
    "max_body_bytes": ("2048", 2048),
    "outbox_events": ("100", 100),
    "outbox_bytes": ("65536", 65536),
    "control_messages": ("10", 10),
    "control_bytes": ("4096", 4096),
    "send_buffer_bytes": ("4096", 4096),
    "router_mailbox": ("16", 16),
    "max_messages_per_s": ("50.5", 50.5),
    "rate_ping": ('{"burst":1,"per_s":0.5}', Rate(1, 0.5)),
    "rate_subscribe": ('{"burst":2,"per_s":1}', Rate(2, 1)),
    "rate_unsubscribe": ('{"burst":3,"per_s":1}', Rate(3, 1)),
    "rate_get_subscriptions": ('{"burst":4,"per_s":1}', Rate(4, 1)),
    "rate_other": ('{"burst":5,"per_s":1}', Rate(5, 1)),
    "rate_publish": (' {"burst":1000,"per_s":100} ', Rate(1000, 100)),
    "rate_http": ("none", None),
    "heartbeat_s": ("1", 1.0),
    "silence_s": ("31", 31.0),
    "message_s": ("4", 4.0),
    "close_s": ("0.5", 0.5),
    "http_send_s": ("5", 5.0),
    "http_read_s": ("6", 6.0),
    "http_keep_alive_s": ("7", 7.0),
    "session_ttl_s": ("6", 6.0),
    "max_detached_sessions": ("8", 8),
    "detached_events": ("9", 9),
    "history_events": ("0", 0),
    "history_bytes": ("4096", 4096),
    "history_age_s": ("90", 90.0),
    "max_replay": ("8", 8),
    "resume_s": ("1.5", 1.5),
    "publish_key_s": ("30", 30.0),
    "max_publish_keys": ("12", 12),
    "host_queue_events": ("12", 12),
    "host_queue_bytes": ("1200", 1200),
    "metrics_interval_s": ("0.25", 0.25),
    "drain_s": ("11", 11.0),
    "reconnect_spread_s": ("12", 12.0),
    "log_level": ("DEBUG", "debug"),
}  # fmt: skip

#: What a setting needs beside it.
COMPANIONS = {
    "tls_certificate_file": {"tls_key_file": "key.pem"},
    "tls_key_file": {"tls_certificate_file": "cert.pem"},
    "allow_anonymous": {"jwt_keys": SECRET},
}

COUNTS = [name for name, (_, value) in SPELLED.items() if type(value) is int and name not in ("port", "history_events")]
DURATIONS = [name for name, (_, value) in SPELLED.items() if type(value) is float]
RATES = [name for name in KINDS if name.startswith("rate_")]
SWITCHES = ["insecure", "allow_anonymous"]
#: Settings whose every text is good, as such.
TEXTS = [
    "host", "tls_certificate_file", "tls_key_file", "jwt_public_key_file", "jwks", "jwt_audience", "jwt_issuer",
]  # fmt: skip
LISTS = ["allowed_origins", "trusted_proxies", "jwt_keys", "jwt_algorithms"]
TABLES = ["roles", "channels"]


def variable(name: str) -> str:
    return f"NEUROGRAPH_{name.upper()}"


# Random ones

_counts = st.integers(1, 2**31 - 1)
_numbers = st.floats(0, 1e9, exclude_min=True)
_rates = st.builds(Rate, burst=st.floats(1, 1e9), per_s=_numbers)
_texts = st.text(min_size=1, max_size=12).filter(lambda text: text.lower() != "none")
_lists = st.lists(_texts, max_size=3).map(tuple)
_names = st.from_regex(r"[a-z0-9._-]{1,62}(\.\*)?", fullmatch=True).filter(
    lambda name: name not in ("personal", "global", "connections")
)
_by_kind: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    str: _texts,
    tuple[str, ...]: _lists,
}


def _of(name: str, kind: Any) -> st.SearchStrategy[Any]:
    value = SPELLED[name][1]
    if kind in _by_kind:
        return _by_kind[kind]
    if name in RATES:
        return _rates
    return _counts if type(value) is int else _numbers if type(value) is float else _texts


@st.composite
def usable_configs(draw: st.DrawFn) -> Config:
    """Configurations that pass all checks, with and without keys."""
    optional = {name for name, kind in KINDS.items() if type(None) in getattr(kind, "__args__", ())}
    values: dict[str, Any] = {
        name: draw(st.none() | _of(name, kind) if name in optional else _of(name, kind))
        for name, kind in KINDS.items()
        if name not in TABLES
    }
    roles = draw(st.dictionaries(_texts, st.builds(RolePermissions, _lists, _lists), min_size=1, max_size=4))
    of_roles = st.none() | st.lists(st.sampled_from(sorted(roles)), max_size=3).map(tuple)
    kept = {
        "description": st.text(max_size=12),
        "subscribe": of_roles,
        "publish": of_roles,
        "history_events": st.none() | st.integers(0, 2**31 - 1),
        "history_bytes": st.none() | _counts,
        "history_age_s": st.none() | _numbers,
    }
    settings = st.builds(
        ChannelSettings,
        policy=st.sampled_from([None, Policy.DROP_OLDEST, Policy.DROP_NEWEST, Policy.DISCONNECT]),
        block=st.just(value=True),
        block_timeout_ms=_counts,
        **kept,
    ) | st.builds(ChannelSettings, policy=st.just(Policy.LATEST), key=st.sampled_from([None, "data.id", "seq"]), **kept)
    with_schema = st.builds(msgspec.structs.replace, settings, schema_file=st.none() | _texts)
    heartbeat_s, silence_s = sorted(draw(st.lists(_numbers, min_size=2, max_size=2, unique=True)))
    certificate = draw(st.none() | _texts)
    values |= {
        "port": draw(st.integers(0, 65535)),
        "insecure": True,  # a host may be anything then, also once the keys are hidden
        "allow_anonymous": True,
        "log_level": draw(st.sampled_from(["debug", "info", "warning", "error", "critical"])),
        "allowed_origins": draw(st.lists(st.sampled_from(["null", "https://a.example", "http://[::1]:80"])).map(tuple)),
        "trusted_proxies": draw(st.lists(st.ip_addresses().map(str), max_size=3).map(tuple)),
        "heartbeat_s": heartbeat_s,
        "silence_s": silence_s,
        "tls_certificate_file": certificate,
        "tls_key_file": certificate,
        "roles": roles,
        "channels": draw(st.dictionaries(_names, with_schema, max_size=4))
        | draw(st.dictionaries(st.sampled_from(["signals", "logs"]), settings)),
        "max_channels": draw(st.integers(10, 2**31 - 1)),
        "max_message_bytes": draw(st.integers(1024, 2**31 - 1)),
    }
    return Config(**values)
