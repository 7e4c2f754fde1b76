"""The configuration: one frozen struct, each number with its unit.

The comments are the reference: `router.loading.settings` reads them, a `#` line as the heading of the settings under
it, `#:` lines as the next setting's description. Raising a bound costs memory: the worst case of a connection is
`outbox_bytes` + `control_bytes` + one read of 256 KiB, and only a client that stopped reading comes near it.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from router.errors import RouterError
from router.limits import Rate
from router.permissions import ROLES, RolePermissions
from router.policies import Policy

_Positive = Annotated[float, Meta(gt=0, le=1e9)]  # of infinity nothing could be reckoned
_Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_CountOrZero = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Port = Annotated[int, Meta(ge=0, le=65535)]
_LogLevel = Literal["debug", "info", "warning", "error", "critical"]

#: Settings that nobody may be shown: keys, and an address that may hold a password.
SECRETS = ("jwt_keys", "jwks")


class ConfigError(RouterError):
    """A setting that cannot be used; the message names it, its value and the way out."""


class ChannelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the configuration says of a channel, or of a family of channels."""

    #: One sentence for people; clients see it in the list of channels.
    description: str = ""
    #: The roles that may subscribe, whatever `roles` says. Where it is not set: those whose patterns in `roles` match
    #: and, for a channel that is not the system's own, `admin` and `developer`.
    subscribe: tuple[str, ...] | None = None
    #: The roles that may publish, whatever `roles` says. Where it is not set: those whose patterns in `roles` match
    #: and, for a channel that is not the system's own, `admin`. Nobody can be given `connections`.
    publish: tuple[str, ...] | None = None
    #: Events of the channel that are kept for those who ask for the past; 0: none. Where it is not set, and likewise
    #: for the next two: as the setting of the same name says for all channels.
    history_events: _CountOrZero | None = None
    #: Bytes of such events.
    history_bytes: _Count | None = None
    #: How long such an event is kept at most.
    history_age_s: _Positive | None = None
    #: What happens to the events of a subscriber that reads too slowly, where its `subscribe` names no policy. Where
    #: it is not set: `drop_oldest`.
    policy: Policy | None = None
    #: With the policy `latest`: the path of the value of which each subscriber is kept the latest event, such as
    #: `data.sensor`. Where it is not set, the channel's latest event is kept.
    key: str | None = None
    #: A file with a JSON Schema that the `data` of each event must fit. Not for the system's own channels, whose data
    #: have their form.
    schema_file: str | None = None
    #: Whether who publishes waits for room with all subscribers; then the subscribers' policies act.
    block: bool = False
    #: How long it waits at most, in milliseconds.
    block_timeout_ms: _Count = 1000


#: Of a channel that the configuration says nothing of.
UNCONFIGURED = ChannelSettings()


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting. Times in seconds, sizes in bytes."""

    # Where it listens
    #: The address, or the name of one, to listen on. One that other machines can reach needs a key, or `insecure`.
    host: str = "127.0.0.1"
    #: The port for everything: WebSocket, HTTP and, where there is a certificate, TLS. 0: any free one.
    port: _Port = 8000
    #: Listen on an address that other machines can reach though no key is configured. Whoever comes is `anonymous`.
    insecure: bool = False
    #: A PEM file with the certificate and those that lead to its authority. With it the port speaks TLS alone.
    tls_certificate_file: str | None = None
    #: A PEM file with the certificate's private key, not encrypted.
    tls_key_file: str | None = None
    #: Addresses or networks (`10.0.0.0/8`) of the proxies in front. What these say in `X-Forwarded-For` and
    #: `X-Forwarded-Proto` is believed; without them every client behind a proxy counts as one address.
    trusted_proxies: tuple[str, ...] = ()
    #: Origins whose pages may open a socket or call the API, besides the server's own: `https://dashboard.example`.
    allowed_origins: tuple[str, ...] = ()

    # Who may come in
    #: Shared secrets of 32 bytes or more, for tokens signed by HS256, HS384 or HS512. Any of them verifies, the first
    #: signs: put a new one first, and take the old one away when its last token has expired.
    jwt_keys: tuple[str, ...] = ()
    #: A PEM file with a public key, for tokens signed by RS, PS, ES or EdDSA.
    jwt_public_key_file: str | None = None
    #: A set of public keys (JWKS), as a file or an http(s) address; fetched again every five minutes, and at once
    #: when a token names a key that is not in it.
    jwks: str | None = None
    #: The algorithms that a token may be signed by. Empty: all that the keys are for.
    jwt_algorithms: tuple[str, ...] = ()
    #: What a token's `aud` must name. Where it is not set, a token that has an `aud` is meant for somebody else.
    jwt_audience: str | None = None
    #: What a token's `iss` must be. Where it is not set, any will do.
    jwt_issuer: str | None = None
    #: Whether a connection or a request may go without a token; its role is then `anonymous`.
    allow_anonymous: bool = True
    #: What each role may do. A table given here stands in place of the whole default one.
    roles: Mapping[str, RolePermissions] = msgspec.field(default_factory=lambda: dict(ROLES))

    #: Revocations that are remembered; beyond, the oldest is forgotten and its token good again, which the log tells.
    max_revocations: _Count = 100_000

    # Channels
    #: Channels besides the system's own, by name; one that ends in `.*` is a family: any name under it is a channel.
    channels: Mapping[str, ChannelSettings] = msgspec.field(default_factory=dict)
    #: Channels in all, the system's six and those in use of families included.
    max_channels: _Count = 1_000
    #: A family's channel is dropped when nobody has subscribed or published for so long.
    channel_idle_s: _Positive = 300.0

    # Connections and messages
    #: WebSockets in all; one more is closed with 1013. The process's limit of open files may allow fewer: the log says.
    max_connections: _Count = 10_000
    #: WebSockets of one user, signed in under the same name. Where it is not set, there is no such limit.
    max_connections_per_user: _Count | None = None
    #: WebSockets of one address, see `trusted_proxies`. Where it is not set, there is no such limit.
    max_connections_per_address: _Count | None = None
    #: How long a new connection may take for TLS's handshake, and then for the head of its request.
    handshake_s: _Positive = 10.0
    #: Where `allow_anonymous` is false: within this a connection without a token must send `authenticate`.
    sign_in_s: _Positive = 10.0
    #: The head of a request: its line and headers.
    max_head_bytes: _Count = 16 * 1024
    #: A WebSocket message from a client; one byte more closes the connection with 1009.
    max_message_bytes: Annotated[int, Meta(ge=1024, le=2**31 - 1)] = 65_536
    #: The `data` of one event, as it was published.
    max_event_bytes: _Count = 65_536
    #: Channels that one connection is subscribed to.
    max_subscriptions: _Count = 1_000
    #: The body of an HTTP request; a stream of events has no such limit.
    max_body_bytes: _Count = 1 << 20

    # Queues
    #: Events that wait for one client that reads slowly; beyond, its oldest are dropped and a `gap` tells it.
    outbox_events: _Count = 10_000
    #: Bytes of such events; the bound that is reached first counts.
    outbox_bytes: _Count = 4 << 20
    #: Replies that wait for one client; beyond, it is closed with 4003.
    control_messages: _Count = 1_000
    #: Bytes of such replies; likewise.
    control_bytes: _Count = 1 << 20
    #: What the kernel holds for one client before its outbox begins to fill; it counts as delivered.
    send_buffer_bytes: _Count = 256 * 1024
    #: Reads that wait for the router; beyond, connections are not read until it has caught up.
    router_mailbox: _Count = 256

    # Rates
    #: What one connection may send, messages of any kind; who exceeds it for 10 s is closed with 4004.
    max_messages_per_s: _Positive | None = None
    #: `ping` messages of one connection.
    rate_ping: Rate = Rate(burst=140, per_s=2)
    #: `subscribe` messages of one connection.
    rate_subscribe: Rate = Rate(burst=50, per_s=1)
    #: `unsubscribe` messages of one connection.
    rate_unsubscribe: Rate = Rate(burst=50, per_s=1)
    #: `get_subscriptions` messages of one connection.
    rate_get_subscriptions: Rate = Rate(burst=30, per_s=0.5)
    #: All other messages of one connection, but for `publish` and `pong`.
    rate_other: Rate = Rate(burst=80, per_s=10)
    #: Events that one connection publishes, or over HTTP all calls of one user, and of an address where they have none.
    #: Where it is not set, who publishes is read no faster than the router keeps up.
    rate_publish: Rate | None = None
    #: HTTP requests of one address; in development mode there is no limit.
    rate_http: Rate | None = Rate(burst=100, per_s=100)

    # Liveness
    #: How often each client is pinged.
    heartbeat_s: _Positive = 30.0
    #: A client from which nothing was heard for so long is closed with 4000; above `heartbeat_s`.
    silence_s: _Positive = 90.0
    #: A message once begun must be whole within this, else 1008.
    message_s: _Positive = 30.0
    #: How long a client's own close frame is waited for.
    close_s: _Positive = 1.0
    #: How long an HTTP answer may wait for the client to take the next piece of it.
    http_send_s: _Positive = 30.0

    #: How long a request's body may pause.
    http_read_s: _Positive = 30.0
    #: How long an HTTP connection may stay that asks nothing more; a proxy in front should close its own before this.
    http_keep_alive_s: _Positive = 75.0

    # Sessions
    #: How long a session is kept when its connection has ended, for the client to come back to.
    session_ttl_s: _Positive = 300.0
    #: Sessions without a connection that are kept; beyond, the oldest go.
    max_detached_sessions: _Count = 10_000
    #: Events that a session without a connection collects; beyond, its oldest are dropped and a `gap` tells.
    detached_events: _Count = 1_000

    # The past
    #: Events of each channel that are kept, for those who ask for the past; 0: none.
    history_events: _CountOrZero = 1_000
    #: Bytes of such events, as they stand on the wire; the bound that is reached first counts.
    history_bytes: _Count = 8 << 20
    #: How long such an event is kept at most. Where it is not set, as long as there is room.
    history_age_s: _Positive | None = None
    #: Events of the past that a client is sent at once; the oldest beyond are one `gap` a channel.
    max_replay: _Count = 1_000
    #: How long a client that was opened with `resume=1` may take to say where it goes on.
    resume_s: _Positive = 5.0
    #: How long the key of a publish is remembered, so that a second one with it changes nothing.
    publish_key_s: _Positive = 120.0
    #: Keys that are remembered; beyond, the oldest go.
    max_publish_keys: _Count = 100_000

    # The program that the router is embedded in
    #: Events that the program has broadcast and the router has not taken yet; beyond, its functions return False.
    host_queue_events: _Count = 10_000
    #: Bytes of such events; likewise.
    host_queue_bytes: _Count = 16 << 20

    # Life of the process
    #: How often `system_metrics` comes on the channel `metrics`.
    metrics_interval_s: _Positive = 5.0
    #: How long clients have to take what waits for them when the server goes down.
    drain_s: _Positive = 10.0
    #: Clients of a server that goes down are told to come back spread over this time.
    reconnect_spread_s: _Positive = 5.0
    #: The least important records that are logged.
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
        """Leave out what must not end up in a log."""
        shown = msgspec.structs.asdict(self)
        for name in SECRETS:
            shown[name] = "<hidden>" if shown[name] else shown[name]
        return f"Config({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def is_loopback(host: str) -> bool:
    """Whether a host name or address, in brackets or without, means this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False
