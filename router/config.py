"""The configuration: one frozen struct, each number with its unit; read from `NEUROGRAPH_*` and flags.

Raising a bound costs memory: the worst case of a connection is `outbox_bytes` + `control_bytes` + one read of
64 KiB, and only a client that stopped reading comes near it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from router.errors import RouterError
from router.limits import Rate
from router.permissions import ROLES, RolePermissions

_Positive = Annotated[float, Meta(gt=0)]
_Count = Annotated[int, Meta(ge=1)]

PREFIX = "NEUROGRAPH_"


class ConfigError(RouterError):
    """A setting that cannot be used; the message names it, its value and the way out."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting. Times in seconds, sizes in bytes."""

    # Where it listens
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    #: Bind another address than loopback though no key is configured.
    insecure: bool = False
    #: Origins that may open a socket or call the API from a browser, besides the server's own.
    allowed_origins: tuple[str, ...] = ()
    #: Addresses whose `X-Forwarded-For` is believed.
    trusted_proxies: tuple[str, ...] = ()

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
    roles: Mapping[str, RolePermissions] = msgspec.field(default_factory=lambda: dict(ROLES))

    # Limits
    max_connections: _Count = 10_000
    handshake_s: _Positive = 10.0
    sign_in_s: _Positive = 10.0
    max_head_bytes: _Count = 16 * 1024
    max_message_bytes: _Count = 65_536
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
    log_level: str = "info"

    @property
    def has_key(self) -> bool:
        """Whether tokens can be checked."""
        return bool(self.jwt_keys or self.jwt_public_key_file or self.jwks)

    @property
    def development(self) -> bool:
        """Whether the server runs in development mode: nothing to check tokens with, and nobody outside let in."""
        return not self.has_key and not self.insecure


def from_environment(environment: Mapping[str, str] = os.environ, **overrides: object) -> Config:
    """Read the configuration.

    Args:
        environment: Variables `NEUROGRAPH_<SETTING>`; a list's items are separated by commas.
        overrides: Settings given otherwise, as by flags; None: not given.

    Raises:
        ConfigError: A variable is unknown or its value cannot be used.
    """
    fields = {field.name: field for field in msgspec.structs.fields(Config)}
    values: dict[str, object] = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable[len(PREFIX) :].lower()
        if name not in fields:
            near = get_close_matches(name, fields, n=1)
            hint = f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""
            raise ConfigError(f"{variable}: there is no such setting{hint}")
        values[name] = _convert(variable, text, fields[name].type)
    values.update({name: value for name, value in overrides.items() if value is not None})
    return _checked(msgspec.convert(values, Config))


def _convert(variable: str, text: str, kind: object) -> object:
    try:
        if kind == tuple[str, ...]:
            return tuple(item.strip() for item in text.split(",") if item.strip())
        if text.startswith("{"):
            return msgspec.json.decode(text, type=kind)
        return msgspec.convert(text.lower() if kind is bool else text, kind, strict=False)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{variable}={text!r}: {error}") from None


def _checked(config: Config) -> Config:
    if not config.has_key and not config.insecure and not is_loopback(config.host):
        raise ConfigError(
            f"host {config.host!r} can be reached from outside and no key is configured: "
            f"set {PREFIX}JWT_KEYS, {PREFIX}JWT_PUBLIC_KEY_FILE or {PREFIX}JWKS, or say --insecure"
        )
    return config


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    host = host.strip("[]").lower()
    return host in ("localhost", "::1") or host.startswith("127.")
