"""Settings beside one another."""

from typing import Any

import msgspec
import pytest

from router.config import ChannelSettings, Config
from router.events import CHANNELS
from router.loading.checks import RESERVED_CHANNELS, SettingsError, check_together, misgivings
from router.loading.toml import Path
from router.permissions import RolePermissions
from router.policies import Policy

SECRET = "a-secret-of-more-than-32-characters"


def refusal(config: Config) -> tuple[str, tuple[Path, ...]]:
    with pytest.raises(SettingsError) as caught:
        check_together(config)
    return str(caught.value), caught.value.places


def with_channel(name: str, **settings: Any) -> Config:
    return Config(channels={name: ChannelSettings(**settings)})


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(host="localhost"),
        Config(host="0.0.0.0", insecure=True),
        Config(host="0.0.0.0", jwt_keys=(SECRET,), allow_anonymous=False),
        Config(host="0.0.0.0", jwt_public_key_file="key.pem"),
        Config(host="0.0.0.0", jwks="https://example.com/jwks"),
        Config(silence_s=30.5),
        Config(tls_certificate_file="a", tls_key_file="b"),
        Config(trusted_proxies=("127.0.0.1", "::1", "10.0.0.0/8", "10.0.0.1/8", "2001:db8::/32")),
        Config(allowed_origins=("null", "http://localhost:3000", "HTTPS://E.com", "app+x://a", "http://[::1]:80")),
    ],
)
def test_what_goes_together(config: Config) -> None:
    check_together(config)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "8.8.8.8", "127.evil.com", "router.example.com"])
def test_an_address_that_can_be_reached_from_outside_needs_a_key(host: str) -> None:
    said, places = refusal(Config(host=host))
    assert said == (
        f"host {host!r} can be reached from outside and no key is configured: set NEUROGRAPH_JWT_KEYS, "
        "NEUROGRAPH_JWT_PUBLIC_KEY_FILE or NEUROGRAPH_JWKS, or say --insecure"
    )
    assert places == (("host",),)


@pytest.mark.parametrize("insecure", [True, False])
def test_without_a_key_somebody_must_be_let_in(insecure: bool) -> None:
    said, places = refusal(Config(allow_anonymous=False, insecure=insecure))
    assert said.startswith("allow_anonymous = false lets nobody in while no key is configured: set ")
    assert said.endswith("NEUROGRAPH_JWKS, or let it be true")
    assert places == (("allow_anonymous",),)


@pytest.mark.parametrize(("silence_s", "heartbeat_s"), [(30, 30), (90, 120), (1, 1.5)])
def test_silence_must_be_longer_than_a_heartbeat(silence_s: float, heartbeat_s: float) -> None:
    said, places = refusal(Config(silence_s=silence_s, heartbeat_s=heartbeat_s))
    assert said.startswith(f"silence_s = {silence_s} must be above heartbeat_s = {heartbeat_s}")
    assert said.endswith("raise the one or lower the other")
    assert places == (("silence_s",), ("heartbeat_s",))


@pytest.mark.parametrize(
    ("config", "has", "lacks"),
    [
        (Config(tls_certificate_file="a"), "tls_certificate_file", "tls_key_file"),
        (Config(tls_key_file="a"), "tls_key_file", "tls_certificate_file"),
    ],
)
def test_tls_takes_a_certificate_and_a_key(config: Config, has: str, lacks: str) -> None:
    assert refusal(config) == (f"{has} is set and {lacks} is not: TLS takes both", ((has,),))


@pytest.mark.parametrize(
    "origin",
    ["*", "example.com", "https://", "https://example.com/", "https://example.com/app", "https://u@a.com", "nullx"],
)
def test_an_origin_that_no_request_could_have_is_refused(origin: str) -> None:
    said, places = refusal(Config(allowed_origins=("https://good.example.com", origin)))
    assert said == f"allowed_origins[1] = {origin!r} is not a valid origin; write it as https://example.com:8443"
    assert places == (("allowed_origins", 1),)


@pytest.mark.parametrize("proxy", ["", "localhost", "10.0.0.0/33", "10.0.0", "*"])
def test_a_proxy_is_an_address_or_a_network(proxy: str) -> None:
    said, places = refusal(Config(trusted_proxies=("::1", proxy)))
    assert said.startswith(f"trusted_proxies[1] = {proxy!r} is neither an address nor a network; write it as 127.0.0.1")
    assert places == (("trusted_proxies", 1),)


# Channels


@pytest.mark.parametrize(
    "name", ["a", "orders", "orders.*", "a.b-c_d.9", "a" * 64, "a" * 62 + ".*", "metrics", "a.b.*"]
)
def test_names_of_channels(name: str) -> None:
    check_together(with_channel(name))


@pytest.mark.parametrize(
    "name", ["", "A", "ä", "a b", "a" * 65, "a" * 63 + ".*", ".*", "*", "orders*", "*.a", "a.*.b", "orders.**", "a\n"]
)
def test_what_is_no_name_of_a_channel(name: str) -> None:
    said, places = refusal(with_channel(name))
    assert "1 to 64 characters of a–z 0–9 . _ -" in said
    assert said.startswith("channels.")
    assert said.isprintable()
    assert places == (("channels", name),)


@pytest.mark.parametrize("name", RESERVED_CHANNELS)
def test_names_that_events_have_without_a_channel_are_taken(name: str) -> None:
    said, places = refusal(with_channel(name))
    assert said == f"channels.{name}: the name has a meaning of its own; choose another"
    assert places == (("channels", name),)


@pytest.mark.parametrize("verb", ["subscribe", "publish"])
def test_a_channels_roles_must_exist(verb: str) -> None:
    said, places = refusal(with_channel("orders.*", **{verb: ("viewer", "viewr")}))
    assert said == f"channels.\"orders.*\".{verb}[1] = 'viewr': roles has no such role; did you mean viewer?"
    assert places == (("channels", "orders.*", verb, 1),)
    check_together(with_channel("orders.*", **{verb: ("viewer", "admin")}))


def test_a_channels_roles_are_looked_up_in_the_table_that_is_configured() -> None:
    channels = {"orders": ChannelSettings(subscribe=("shop",))}
    check_together(Config(channels=channels, roles={"shop": RolePermissions()}))
    assert "roles has no such role" in refusal(Config(channels=channels))[0]


def test_nobody_publishes_connections() -> None:
    said, places = refusal(with_channel("connections", publish=("admin",)))
    assert said == "channels.connections.publish: the server alone publishes there; leave it out"
    assert places == (("channels", "connections", "publish"),)
    check_together(with_channel("connections", publish=()))
    check_together(with_channel("connections", subscribe=("admin", "developer")))


@pytest.mark.parametrize("policy", [None, Policy.DROP_OLDEST, Policy.DROP_NEWEST, Policy.DISCONNECT])
def test_a_key_belongs_to_the_policy_latest(policy: Policy | None) -> None:
    said, places = refusal(with_channel("orders.*", policy=policy, key="data.id"))
    assert said.startswith('channels."orders.*".key = \'data.id\': only the policy "latest" has a key; set it, ')
    assert places == (("channels", "orders.*", "key"),)
    check_together(with_channel("orders.*", policy=policy))


@pytest.mark.parametrize(
    "key", ["data", "data.a", "data.a b.0.ä", "event_type", "seq", "timestamp", "channel", "data.$x"]
)
def test_keys_that_lead_somewhere(key: str) -> None:
    check_together(with_channel("signals", policy=Policy.LATEST, key=key))


@pytest.mark.parametrize("key", ["", "sensor", ".data", "data.", "data..a", ".", "Data.a", "data a"])
def test_a_key_that_leads_nowhere_is_refused(key: str) -> None:
    said, places = refusal(with_channel("a", policy=Policy.LATEST, key=key))
    assert said.startswith(f"channels.a.key = {key!r} is not a path into an event; write it as data.sensor")
    assert places == (("channels", "a", "key"),)


@pytest.mark.parametrize("name", CHANNELS)
def test_a_channel_of_the_system_has_its_form(name: str) -> None:
    said, places = refusal(with_channel(name, schema_file="a.json"))
    assert said == f"channels.{name}.schema_file: the data of the system's own channels have their form; leave it out"
    assert places == (("channels", name, "schema_file"),)
    check_together(with_channel(f"{name}.*", schema_file="a.json"))


def test_how_long_nobody_waits_need_not_be_said() -> None:
    said, places = refusal(with_channel("a", block_timeout_ms=5))
    assert said.startswith("channels.a.block_timeout_ms = 5: nobody waits without block = true; set it, or ")
    assert places == (("channels", "a", "block_timeout_ms"),)
    check_together(with_channel("a", block_timeout_ms=5, block=True))
    check_together(with_channel("a", block_timeout_ms=1000))


def test_the_channels_that_there_are_always_must_have_room() -> None:
    channels = {name: ChannelSettings() for name in ("a", "b", "metrics", "c.*")}
    check_together(Config(channels=channels, max_channels=len(CHANNELS) + 2))
    said, places = refusal(Config(channels=channels, max_channels=len(CHANNELS) + 1))
    assert said.startswith("max_channels = 7 is less than the 8 channels that there are always")
    assert places == (("max_channels",), ("channels",))


# What is hardly meant


def test_a_role_that_names_no_channel_is_doubted() -> None:
    roles = {
        "admin": RolePermissions(),
        "viewer": RolePermissions(subscribe=("metrics", "metricz", "m*", "x*"), publish=("orders.eu", "other")),
    }
    config = Config(roles=roles, channels={"orders.*": ChannelSettings(schema_file="order.json")})
    check_together(config)
    assert list(misgivings(config)) == [
        "roles.viewer.subscribe[1] = 'metricz': there is no such channel; did you mean metrics?",
        "roles.viewer.publish[1] = 'other': there is no such channel",
    ]


def test_a_misspelt_role_is_doubted() -> None:
    config = Config(roles={"admin": RolePermissions(), "Vewer": RolePermissions(), "shop": RolePermissions()})
    assert list(misgivings(config)) == [
        "roles.Vewer: did you mean viewer? The table has no viewer, so whose tokens say that may do nothing"
    ]
    both = msgspec.structs.replace(config, roles={**config.roles, "viewer": RolePermissions()})
    assert list(misgivings(both)) == []


def test_a_table_without_administrators_is_doubted() -> None:
    (said,) = misgivings(Config(roles={"viewer": RolePermissions()}))
    assert said.startswith("roles has no admin: ")


def test_the_defaults_are_not() -> None:
    assert list(misgivings(Config())) == []
