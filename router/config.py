"""The configuration: one frozen struct, each number with its unit; read from `NEUROGRAPH_*` and flags.

Raising a bound costs memory: the worst case of a connection is `outbox_bytes` + `control_bytes` + one read of
256 KiB, and only a client that stopped reading comes near it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from router.errors import RouterError
from router.limits import Rate
from router.permissions import ROLES, RolePermissions

_Positive = Annotated[float, Meta(gt=0, le=1e9)]  # of infinity nothing could be reckoned
_Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Port = Annotated[int, Meta(ge=0, le=65535)]
_Roles = Mapping[str, RolePermissions]
_LogLevel = Literal["debug", "info", "warning", "error", "critical"]

PREFIX = "NEUROGRAPH_"

#: Settings that no log may show.
_SECRETS = ("jwt_keys", "jwks")
_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://[^/?#@\s]+", re.IGNORECASE).fullmatch


class ConfigError(RouterError):
    """A setting that cannot be used; the message names it, its value and the way out."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting. Times in seconds, sizes in bytes."""

    # Where it listens
    host: str = "127.0.0.1"
    port: _Port = 8000
    #: Bind another address than loopback though no key is configured.
    insecure: bool = False
    #: Origins that may open a socket or call the API from a browser, besides the server's own: `https://example.com`.
    allowed_origins: tuple[str, ...] = ()

    # Who may come in
    #: HS keys: any of them verifies, the first signs.
    jwt_keys: tuple[str, ...] = ()
    #: A PEM file with a public key, for RS, PS, ES and EdDSA.
    jwt_public_key_file: str | None = None
    #: A JWKS: a file or an http(s) URL.
    jwks: str | None = None
    #: Empty: what the keys are for.
    jwt_algorithms: tuple[str, ...] = ()
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    #: Whether a connection may go without a token.
    allow_anonymous: bool = True
    #: What each role may do. A table given here stands in place of the whole default one.
    roles: _Roles = msgspec.field(default_factory=lambda: dict(ROLES))

    # Limits
    max_connections: _Count = 10_000
    handshake_s: _Positive = 10.0
    sign_in_s: _Positive = 10.0
    max_head_bytes: _Count = 16 * 1024
    max_message_bytes: _Count = 65_536
    #: The size of one event is that of its `data`, in bytes as they were published.
    max_event_bytes: _Count = 65_536
    max_subscriptions: _Count = 1_000
    outbox_events: _Count = 10_000
    outbox_bytes: _Count = 4 << 20
    control_messages: _Count = 1_000
    control_bytes: _Count = 1 << 20
    max_body_bytes: _Count = 1 << 20
    #: What the kernel holds for a client before the outbox begins to fill; counts as delivered.
    send_buffer_bytes: _Count = 256 * 1024
    #: Letters that wait for the router before readers have to.
    router_mailbox: _Count = 256
    #: Messages a second on one connection, of any kind, borne for 10 s; None: no limit.
    max_messages_per_s: _Positive | None = None

    # Rates of control messages, per connection
    rate_ping: Rate = Rate(burst=140, per_s=2)
    rate_subscribe: Rate = Rate(burst=50, per_s=1)
    rate_unsubscribe: Rate = Rate(burst=50, per_s=1)
    rate_get_subscriptions: Rate = Rate(burst=30, per_s=0.5)
    rate_other: Rate = Rate(burst=80, per_s=10)
    #: Events published on one connection; None: back-pressure alone.
    rate_publish: Rate | None = None

    # Liveness
    heartbeat_s: _Positive = 30.0
    #: Silence after which a connection counts as dead.
    silence_s: _Positive = 90.0
    #: A message once begun must be whole within this.
    message_s: _Positive = 30.0
    #: How long the peer's close frame is waited for.
    close_s: _Positive = 1.0
    #: How long an HTTP answer may wait for the client to take it.
    http_send_s: _Positive = 30.0

    # Sessions
    session_ttl_s: _Positive = 300.0
    max_detached_sessions: _Count = 10_000
    detached_events: _Count = 1_000

    # Life of the process
    metrics_interval_s: _Positive = 5.0
    drain_s: _Positive = 10.0
    #: Clients are told to come back spread over this time.
    reconnect_spread_s: _Positive = 5.0
    log_level: _LogLevel = "info"

    @property
    def has_key(self) -> bool:
        """Whether tokens can be checked."""
        return bool(self.jwt_keys or self.jwt_public_key_file or self.jwks)

    @property
    def development(self) -> bool:
        """Whether the server runs in development mode: nothing to check tokens with, and nobody outside let in."""
        return not self.has_key and not self.insecure

    def __repr__(self) -> str:
        """Leave out what must not end up in a log: the keys, and an address that may hold a password."""
        shown = msgspec.structs.asdict(self)
        for name in _SECRETS:
            shown[name] = "<hidden>" if shown[name] else shown[name]
        return f"Config({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


#: How the values of a setting look, by its type.
_LOOKS: Mapping[Any, str] = {
    str: "text",
    str | None: "text",
    tuple[str, ...]: "a list of texts",
    bool: "true or false",
    _Port: "a whole number from 0 to 65535",
    _Count: "a whole number from 1 to 2147483647",
    _Positive: "a number above 0, 1e9 at most",
    _Positive | None: "a number above 0, 1e9 at most",
    Rate: 'JSON like {"burst": 140, "per_s": 2}',
    Rate | None: 'JSON like {"burst": 140, "per_s": 2}',
    _Roles: 'JSON like {"viewer": {"subscribe": ["metrics"], "publish": []}}',
    _LogLevel: "debug, info, warning, error or critical",
}


def from_environment(environment: Mapping[str, str] = os.environ, **overrides: object) -> Config:
    """Read the configuration.

    Args:
        environment: Variables `NEUROGRAPH_<SETTING>`, of which empty ones count as not set. A list's items are
            separated by commas; rates and roles are JSON.
        overrides: Settings given otherwise, as by flags; None: not given.

    Raises:
        ConfigError: A variable is unknown, or a value cannot be used, alone or beside another.
    """
    kinds = {field.name: field.type for field in msgspec.structs.fields(Config)}
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if variable.startswith(PREFIX):
            name = _setting(variable, kinds)
            if text.strip():
                values[name] = _convert(variable, text.strip(), kinds[name])
    for name, value in overrides.items():
        if value is not None:
            values[name] = _convert(name, value, kinds[name])
    config = Config(**values)
    _check_together(config)
    return config


def _setting(variable: str, known: Mapping[str, object]) -> str:
    name = variable.removeprefix(PREFIX).lower()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""
        raise ConfigError(f"{variable}: there is no such setting{hint}")
    return name


def _convert(label: str, value: object, kind: Any) -> object:
    """Turn text, or a value of a setting's own type, into what `Config` holds."""
    try:
        if not isinstance(value, str):
            return msgspec.convert(value, kind)
        if kind == tuple[str, ...]:
            return tuple(item.strip() for item in value.split(",") if item.strip())
        if kind in (Rate, Rate | None, _Roles):
            return _from_json(label, value, kind)
        return msgspec.convert(value.lower() if kind in (bool, _LogLevel) else value, kind, strict=False)
    except (msgspec.ValidationError, UnicodeError):  # the environment may hold bytes that are no text
        shown = "<hidden>" if label in _SECRETS else repr(value)
        raise ConfigError(f"{label}={shown}: must be {_LOOKS[kind]}") from None


def _from_json(label: str, text: str, kind: Any) -> object:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ConfigError(f"{label}={text!r}: must be {_LOOKS[kind]}; {error}") from None


def _check_together(config: Config) -> None:
    keys = f"{PREFIX}JWT_KEYS, {PREFIX}JWT_PUBLIC_KEY_FILE or {PREFIX}JWKS"
    if config.development and not is_loopback(config.host):
        raise ConfigError(
            f"host {config.host!r} can be reached from outside and no key is configured: set {keys}, or say --insecure"
        )
    if not config.has_key and not config.allow_anonymous:
        raise ConfigError(
            f"{PREFIX}ALLOW_ANONYMOUS=false lets nobody in while no key is configured: set {keys}, or let it be true"
        )
    if config.silence_s <= config.heartbeat_s:
        raise ConfigError(
            f"{PREFIX}SILENCE_S={config.silence_s:g} must be above {PREFIX}HEARTBEAT_S={config.heartbeat_s:g}: "
            "clients are heard of once a heartbeat; raise the one or lower the other"
        )
    for origin in config.allowed_origins:
        if not _ORIGIN(origin):
            raise ConfigError(f"{PREFIX}ALLOWED_ORIGINS: {origin!r} is no origin; write it as https://example.com:8443")


def is_loopback(host: str) -> bool:
    """Whether a host name or address, in brackets or without, means this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False
