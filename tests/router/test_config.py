import os
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import PREFIX, Config, ConfigError, from_environment, is_loopback
from router.limits import Rate
from router.permissions import ROLES, RolePermissions

FIELDS = {field.name: field.type for field in msgspec.structs.fields(Config)}
SECRET = "a-secret-of-more-than-32-characters"

#: Each setting as a variable has it, and what comes of it; none is the default.
SPELLED: dict[str, tuple[str, object]] = {
    "host": ("::1", "::1"),
    "port": ("9000", 9000),
    "insecure": ("true", True),
    "allowed_origins": ("https://a.example.com, http://b.example.com:8080", ("https://a.example.com", "http://b.example.com:8080")),
    "jwt_keys": (f"{SECRET},older", (SECRET, "older")),
    "jwt_public_key_file": ("/etc/key.pem", "/etc/key.pem"),
    "jwks": ("https://example.com/jwks", "https://example.com/jwks"),
    "jwt_algorithms": ("HS256,ES256", ("HS256", "ES256")),
    "jwt_audience": ("neurograph", "neurograph"),
    "jwt_issuer": ("https://issuer.example.com", "https://issuer.example.com"),
    "allow_anonymous": ("FALSE", False),
    "roles": ('{"viewer":{"subscribe":["*"]}}', {"viewer": RolePermissions(subscribe=("*",))}),
    "max_connections": ("5", 5),
    "handshake_s": ("2.5", 2.5),
    "sign_in_s": ("3", 3.0),
    "max_head_bytes": ("8192", 8192),
    "max_message_bytes": ("131072", 131072),
    "max_event_bytes": ("1024", 1024),
    "max_subscriptions": ("7", 7),
    "outbox_events": ("100", 100),
    "outbox_bytes": ("65536", 65536),
    "control_messages": ("10", 10),
    "control_bytes": ("4096", 4096),
    "max_body_bytes": ("2048", 2048),
    "send_buffer_bytes": ("4096", 4096),
    "router_mailbox": ("16", 16),
    "max_messages_per_s": ("50.5", 50.5),
    "rate_ping": ('{"burst":1,"per_s":0.5}', Rate(1, 0.5)),
    "rate_subscribe": ('{"burst":2,"per_s":1}', Rate(2, 1)),
    "rate_unsubscribe": ('{"burst":3,"per_s":1}', Rate(3, 1)),
    "rate_get_subscriptions": ('{"burst":4,"per_s":1}', Rate(4, 1)),
    "rate_other": ('{"burst":5,"per_s":1}', Rate(5, 1)),
    "rate_publish": (' {"burst":1000,"per_s":100} ', Rate(1000, 100)),
    "heartbeat_s": ("1", 1.0),
    "silence_s": ("31", 31.0),
    "message_s": ("4", 4.0),
    "close_s": ("0.5", 0.5),
    "http_send_s": ("5", 5.0),
    "session_ttl_s": ("6", 6.0),
    "max_detached_sessions": ("8", 8),
    "detached_events": ("9", 9),
    "metrics_interval_s": ("0.25", 0.25),
    "drain_s": ("11", 11.0),
    "reconnect_spread_s": ("12", 12.0),
    "log_level": ("DEBUG", "debug"),
}  # fmt: skip

COUNTS = [name for name, (_, value) in SPELLED.items() if type(value) is int and name != "port"]
DURATIONS = [name for name, (_, value) in SPELLED.items() if type(value) is float]
RATES = [name for name in FIELDS if name.startswith("rate_")]
SWITCHES = ["insecure", "allow_anonymous"]
#: Settings whose every text is good, as such.
TEXTS = ["host", "jwt_public_key_file", "jwks", "jwt_audience", "jwt_issuer"]
LISTS = ["allowed_origins", "jwt_keys", "jwt_algorithms"]


def variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def read(**settings: str) -> Config:
    """Read settings, given by their names, from an environment."""
    return from_environment({variable(name): text for name, text in settings.items()})


def refusal(environment: dict[str, str] | None = None, /, **overrides: object) -> str:
    with pytest.raises(ConfigError) as caught:
        from_environment(environment or {}, **overrides)
    return str(caught.value)


def test_the_tables_above_name_every_setting() -> None:
    assert set(SPELLED) == set(FIELDS)
    kinds = [*COUNTS, *DURATIONS, *RATES, *SWITCHES, *TEXTS, *LISTS, "port", "roles", "log_level"]
    assert sorted(kinds) == sorted(FIELDS)


def test_an_empty_environment_gives_the_defaults() -> None:
    assert from_environment({}) == from_environment({"PATH": "/bin", "neurograph_port": "1"}) == Config()


def test_the_defaults_are_those_of_the_contract() -> None:
    config = Config()
    assert (config.host, config.port, config.development) == ("127.0.0.1", 8000, True)
    assert (config.max_connections, config.max_subscriptions, config.handshake_s) == (10_000, 1_000, 10)
    assert (config.outbox_events, config.outbox_bytes) == (10_000, 4 * 1024**2)
    assert (config.control_messages, config.control_bytes) == (1_000, 1024**2)
    assert (config.max_message_bytes, config.max_event_bytes, config.max_body_bytes) == (65_536, 65_536, 1024**2)
    assert (config.rate_ping, config.rate_get_subscriptions) == (Rate(140, 2), Rate(30, 0.5))
    assert config.rate_subscribe == config.rate_unsubscribe == Rate(50, 1)
    assert (config.rate_other, config.rate_publish, config.max_messages_per_s) == (Rate(80, 10), None, None)
    assert (config.heartbeat_s, config.silence_s, config.message_s, config.drain_s) == (30, 90, 30, 10)
    assert (config.session_ttl_s, config.max_detached_sessions, config.detached_events) == (300, 10_000, 1_000)
    assert config.roles == ROLES


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_read_from_its_variable(name: str) -> None:
    text, value = SPELLED[name]
    keys = {} if name == "jwt_keys" else {"jwt_keys": SECRET}  # without a key some settings are not good alone
    config = read(**{name: text}, **keys)
    assert getattr(config, name) == value != getattr(Config(), name)
    assert config == msgspec.structs.replace(Config(jwt_keys=(SECRET,)), **{name: value})


def test_all_settings_at_once() -> None:
    config = read(**{name: text for name, (text, _) in SPELLED.items()})
    assert msgspec.structs.asdict(config) == {name: value for name, (_, value) in SPELLED.items()}


@pytest.mark.parametrize("name", FIELDS)
def test_an_empty_variable_counts_as_not_set(name: str) -> None:
    assert read(**{name: ""}) == read(**{name: " \t"}) == Config()


def test_variables_are_read_in_any_case_behind_their_prefix() -> None:
    assert from_environment({"NEUROGRAPH_port": "1"}).port == 1


def test_by_default_it_is_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NEUROGRAPH_PORT", "8123")
    assert from_environment().port == 8123


@pytest.mark.parametrize(
    ("text", "items"),
    [("a", ("a",)), ("a,b", ("a", "b")), (" a , b ,", ("a", "b")), (",,a,,", ("a",)), (",", ()), ("a b", ("a b",))],
)
def test_a_list_is_separated_by_commas(text: str, items: tuple[str, ...]) -> None:
    assert read(jwt_algorithms=text).jwt_algorithms == items


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("1", True), ("false", False), ("0", False)]
)
def test_switches(text: str, value: bool) -> None:
    assert read(insecure=text).insecure is value


def test_roles_stand_in_place_of_the_whole_table() -> None:
    config = read(roles='{"reader": {"subscribe": ["m*", "logs"]}, "writer": {"publish": ["*"]}}')
    assert config.roles == {
        "reader": RolePermissions(subscribe=("m*", "logs")),
        "writer": RolePermissions(publish=("*",)),
    }


# Flags


def test_flags_go_before_variables_and_those_not_given_do_not() -> None:
    environment = {"NEUROGRAPH_PORT": "1", "NEUROGRAPH_HOST": "::1"}
    config = from_environment(environment, port=2, host=None, insecure=None, log_level="Warning")
    assert (config.port, config.host, config.insecure, config.log_level) == (2, "::1", False, "warning")


def test_a_flag_has_the_settings_own_type_or_is_text() -> None:
    config = from_environment({}, insecure=True, jwt_keys=(SECRET,), silence_s=200, rate_ping=Rate(1, 1), port="7")
    assert (config.insecure, config.jwt_keys, config.silence_s) == (True, (SECRET,), 200)
    assert (config.rate_ping, config.port) == (Rate(1, 1), 7)


@pytest.mark.parametrize(
    ("name", "value", "way_out"),
    [
        ("port", 70_000, "a whole number from 0 to 65535"),
        ("port", -1, "a whole number from 0 to 65535"),
        ("log_level", "loud", "debug, info, warning, error or critical"),
        ("drain_s", 0, "a number above 0"),
        ("host", 127, "text"),
        ("jwks", 1, "text"),
        ("jwt_algorithms", ["HS256", 1], "a list of texts"),
        ("roles", {"viewer": "all"}, "JSON like"),
        ("rate_publish", 5, "JSON like"),
    ],
)
def test_a_flag_that_cannot_be_used_is_named(name: str, value: object, way_out: str) -> None:
    shown = "<hidden>" if name == "jwks" else repr(value)
    assert refusal(**{name: value}).startswith(f"{name}={shown}: must be {way_out}")


# What cannot be used


WRONG: list[tuple[list[str], list[str], str]] = [
    (["port"], ["-1", "65536", "http", "80.5", "0x50", "8_000", "+1", "\udc80"], "a whole number from 0 to 65535"),
    (COUNTS, ["0", "-1", "many", "1.5", "1e400", "nan", "2147483648", "\udc80"], "a whole number from 1 to 2147483647"),
    (DURATIONS, ["0", "-1", "10s", "nan", "inf", "-inf", "1e400", "1e10", "1,5", "\udc80"], "a number above 0"),
    (SWITCHES, ["yes", "on", "2", "tru", "{}", "\udc80"], "true or false"),
    (
        RATES,
        ["140", "140/2", "{", "[140, 2]", '{"burst":0,"per_s":1}', '{"burst":1,"per_s":0}', '{"burst":1}',
         '{"burst":1,"per_s":1,"per_m":1}', '{"burst":"1","per_s":1}', "\udc80"],
        'JSON like {"burst": 140, "per_s": 2}',
    ),
    (
        ["roles"],
        ["viewer", "{", "[]", '{"viewer":[]}', '{"viewer":{"subscribe":"*"}}', '{"viewer":{"subscribes":["*"]}}',
         '{"viewer":{"subscribe":[1]}}', "null", "\udc80"],
        'JSON like {"viewer": {"subscribe": ["metrics"], "publish": []}}',
    ),
    (["log_level"], ["loud", "0", "information", "debug,info", "\udc80"], "debug, info, warning, error or critical"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "way_out"),
    [(name, text, way_out) for names, texts, way_out in WRONG for name in names for text in texts],
)
def test_a_wrong_value_is_refused_with_variable_value_and_the_way_out(name: str, text: str, way_out: str) -> None:
    said = refusal({variable(name): text})
    assert said.startswith(f"{variable(name)}={text!r}: must be {way_out}")


def test_what_is_wrong_inside_of_json_is_told_too() -> None:
    said = refusal({"NEUROGRAPH_ROLES": '{"viewer":{"subscribe":[1]}}'})
    assert said.endswith("Expected `str`, got `int` - at `$[...].subscribe[0]`")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("NEUROGRAPH_PROT", "NEUROGRAPH_PORT"),
        ("NEUROGRAPH_JWT_KEY", "NEUROGRAPH_JWT_KEYS"),
        ("NEUROGRAPH_ORIGINS", "NEUROGRAPH_ALLOWED_ORIGINS"),
        ("NEUROGRAPH_OUTBOX_EVENT", "NEUROGRAPH_OUTBOX_EVENTS"),
    ],
)
def test_of_an_unknown_setting_the_nearest_is_named(given: str, meant: str) -> None:
    assert refusal({given: "1"}) == f"{given}: there is no such setting; did you mean {meant}?"


@pytest.mark.parametrize("unknown", ["NEUROGRAPH_", "NEUROGRAPH_XYZZY"])
def test_where_no_setting_is_near_none_is_named(unknown: str) -> None:
    assert refusal({unknown: "1"}) == f"{unknown}: there is no such setting"


def test_an_unknown_setting_is_refused_though_it_is_empty() -> None:
    assert "no such setting" in refusal({"NEUROGRAPH_PROT": ""})


@pytest.mark.parametrize(
    "origin", ["null", "http://localhost:3000", "HTTPS://Example.com", "app+x://a", "http://[::1]:80"]
)
def test_origins_as_browsers_send_them_are_taken(origin: str) -> None:
    assert read(allowed_origins=origin).allowed_origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "example.com",
        "https://",
        "https://example.com/",
        "https://example.com/app",
        "https://u@example.com",
        "nullx",
    ],
)
def test_an_allowed_origin_that_no_request_could_have_is_refused(origin: str) -> None:
    said = refusal({"NEUROGRAPH_ALLOWED_ORIGINS": f"https://good.example.com, {origin}"})
    assert said == f"NEUROGRAPH_ALLOWED_ORIGINS: {origin!r} is no origin; write it as https://example.com:8443"


@pytest.mark.parametrize(("silence_s", "heartbeat_s"), [("30", "30"), ("90", "120"), ("1", "1.5")])
def test_silence_must_be_longer_than_a_heartbeat(silence_s: str, heartbeat_s: str) -> None:
    said = refusal({"NEUROGRAPH_SILENCE_S": silence_s, "NEUROGRAPH_HEARTBEAT_S": heartbeat_s})
    assert said.startswith(f"NEUROGRAPH_SILENCE_S={silence_s} must be above NEUROGRAPH_HEARTBEAT_S={heartbeat_s}")
    assert said.endswith("raise the one or lower the other")


# Who may be reached from where


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST", "::1", "[::1]", "0:0:0:0:0:0:0:1"]
)
def test_loopback_is_this_machine_alone(host: str) -> None:
    assert is_loopback(host)
    config = read(host=host)
    assert config.development
    assert not config.has_key


OUTSIDE = [
    "0.0.0.0", "::", "", "192.168.1.5", "8.8.8.8", "router.example.com", "127.evil.com", "127.0.0.1.evil.com",
    "localhost.evil.com", "127.1", "[]", "::1]x", "::ffff:8.8.8.8", "127.0.0.1:80", "fe80::1",
]  # fmt: skip


@pytest.mark.parametrize("host", OUTSIDE)
def test_any_other_name_is_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", [host for host in OUTSIDE if host])
def test_an_address_that_can_be_reached_from_outside_needs_a_key(host: str) -> None:
    said = refusal({"NEUROGRAPH_HOST": host})
    assert said == (
        f"host {host!r} can be reached from outside and no key is configured: set NEUROGRAPH_JWT_KEYS, "
        "NEUROGRAPH_JWT_PUBLIC_KEY_FILE or NEUROGRAPH_JWKS, or say --insecure"
    )
    assert refusal(host=host) == said


@pytest.mark.parametrize(
    "key", [{"jwt_keys": SECRET}, {"jwt_public_key_file": "key.pem"}, {"jwks": "https://example.com/jwks"}]
)
def test_with_any_key_every_address_can_be_bound_and_development_is_over(key: dict[str, str]) -> None:
    config = read(host="0.0.0.0", allow_anonymous="false", **key)
    assert config.has_key
    assert not config.development
    assert not read(**key).development


def test_insecure_binds_any_address_without_being_development() -> None:
    config = read(host="0.0.0.0", insecure="true")
    assert not config.has_key
    assert not config.development


@pytest.mark.parametrize("insecure", ["true", "false"])
def test_without_a_key_somebody_must_be_let_in(insecure: str) -> None:
    said = refusal({"NEUROGRAPH_ALLOW_ANONYMOUS": "false", "NEUROGRAPH_INSECURE": insecure})
    assert said.startswith("NEUROGRAPH_ALLOW_ANONYMOUS=false lets nobody in while no key is configured: set ")
    assert said.endswith("NEUROGRAPH_JWKS, or let it be true")


def test_a_list_of_no_keys_is_no_key() -> None:
    assert "no key is configured" in refusal({"NEUROGRAPH_HOST": "0.0.0.0", "NEUROGRAPH_JWT_KEYS": " , "})


# Secrets


def test_keys_are_not_shown() -> None:
    config = read(jwt_keys=f"{SECRET},second-secret", jwks="https://user:pass-word@example.com/jwks?key=third-secret")
    for text in (repr(config), str(config), f"{config}", repr({"config": config})):
        assert not any(secret in text for secret in (SECRET, "second-secret", "pass-word", "third-secret"))
        assert "jwt_keys='<hidden>', " in text
        assert "jwks='<hidden>', " in text


def test_everything_else_is_shown() -> None:
    shown = repr(Config(jwt_keys=(SECRET,), jwt_issuer="me"))
    for name, value in msgspec.structs.asdict(Config(jwt_issuer="me")).items():
        if name != "jwt_keys":
            assert f"{name}={value!r}" in shown
    assert "jwt_keys=(), " in repr(Config())
    assert "jwks=None, " in repr(Config())


@given(
    name=st.sampled_from(sorted(set(FIELDS) - {"jwt_keys", "jwks"})),
    text=st.text(st.characters(exclude_characters="\0"), max_size=20),
)
def test_no_message_tells_a_key(name: str, text: str) -> None:
    environment = {"NEUROGRAPH_JWT_KEYS": SECRET, "NEUROGRAPH_JWKS": f"https://{SECRET}", variable(name): text}
    try:
        said = repr(from_environment(environment))
    except ConfigError as error:
        said = str(error)
    assert SECRET not in said


def test_a_key_of_a_wrong_kind_is_not_shown_either() -> None:
    assert refusal(jwt_keys=(SECRET, 1)) == "jwt_keys=<hidden>: must be a list of texts"


def test_settings_are_fixed_once_read() -> None:
    config: Any = Config()
    with pytest.raises(AttributeError):
        config.port = 1


def test_a_table_of_roles_belongs_to_one_configuration() -> None:
    assert Config().roles is not Config().roles
