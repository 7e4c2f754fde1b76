"""Where settings come from, which of them wins, and what is said of those that cannot be used."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.config import SECRETS, ChannelSettings, Config, ConfigError
from router.limits import Rate
from router.loading import RELOADABLE, Flag, Loaded, load, reloadable_changes
from router.loading.checks import SettingsError
from router.loading.toml import key_written, written
from router.permissions import RolePermissions
from tests.router.configs import (
    COMPANIONS,
    COUNTS,
    DURATIONS,
    KINDS,
    LISTS,
    RATES,
    SECRET,
    SPELLED,
    SWITCHES,
    TABLES,
    TEXTS,
    variable,
)

#: What comes of the text of a companion that is a list.
SPELLED_COMPANION = {"jwt_keys": (SECRET,)}


def read(**settings: str) -> Config:
    """Read settings, given by their names, from an environment."""
    return load(environment={variable(name): text for name, text in settings.items()}).config


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "router.toml"


def from_file(file: Path, text: str, environment: Mapping[str, str] | None = None, /, **flags: Flag) -> Loaded:
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return load(str(file), environment or {}, flags)


def refusal(
    environment: Mapping[str, str] | None = None, /, flags: Mapping[str, Flag] | None = None, file: Path | None = None
) -> str:
    with pytest.raises(ConfigError) as caught:
        load(None if file is None else str(file), environment or {}, flags or {})
    said = str(caught.value)
    assert said.isprintable()
    return said


def refusal_of(file: Path, text: str, environment: Mapping[str, str] | None = None) -> str:
    """What is said of a file, behind its path."""
    file.write_text(text, encoding="utf-8")
    said = refusal(environment, file=file)
    assert said.startswith(f"{file}:")
    return said.removeprefix(str(file))


def test_the_tables_name_every_setting() -> None:
    assert set(SPELLED) == set(KINDS)
    kinds = [*COUNTS, *DURATIONS, *RATES, *SWITCHES, *TEXTS, *LISTS, *TABLES, "port", "history_events", "log_level"]
    assert sorted(kinds) == sorted(KINDS)


# Each alone


def test_nothing_gives_the_defaults() -> None:
    loaded = load(environment={})
    assert loaded.config == load(environment={"PATH": "/bin", "neurograph_port": "1"}).config == Config()
    assert loaded.sources == dict.fromkeys(KINDS, "default")
    assert (loaded.file, loaded.warnings) == (None, [])


@pytest.mark.parametrize("name", KINDS)
def test_every_setting_is_read_from_its_variable(name: str) -> None:
    text, value = SPELLED[name]
    companions = COMPANIONS.get(name, {})
    config = read(**{name: text}, **companions)
    assert getattr(config, name) == value != getattr(Config(), name)
    values = {other: SPELLED_COMPANION.get(other, each) for other, each in companions.items()}
    assert config == msgspec.structs.replace(Config(), **{name: value}, **values)


@pytest.mark.parametrize("name", KINDS)
def test_every_setting_is_read_from_the_file(name: str, file: Path) -> None:
    value = SPELLED[name][1]
    spelled = '"none"' if value is None else written(msgspec.to_builtins(value))
    companions = {other: SPELLED_COMPANION.get(other, each) for other, each in COMPANIONS.get(name, {}).items()}
    lines = [f"{name} = {spelled}", *(f"{other} = {written(each)}" for other, each in companions.items())]
    loaded = from_file(file, "\n".join(lines))
    assert getattr(loaded.config, name) == value
    assert loaded.sources[name] == f"file {file}"


@pytest.mark.parametrize("name", KINDS)
def test_every_setting_is_read_from_its_flag(name: str) -> None:
    text, value = SPELLED[name]
    others = {other: Flag("--set", each) for other, each in COMPANIONS.get(name, {}).items()}
    for given_value in (text, value):
        if given_value is not None:
            loaded = load(environment={}, flags={name: Flag("--it", given_value), **others})
            assert getattr(loaded.config, name) == value
            assert loaded.sources[name] == "--it"


def test_all_settings_at_once() -> None:
    config = read(**{name: text for name, (text, _) in SPELLED.items()})
    assert msgspec.structs.asdict(config) == {name: value for name, (_, value) in SPELLED.items()}


@pytest.mark.parametrize("name", KINDS)
def test_an_empty_variable_counts_as_not_set(name: str) -> None:
    assert read(**{name: ""}) == read(**{name: " \t"}) == Config()


def test_an_empty_flag_says_something() -> None:
    assert refusal(flags={"port": Flag("--port", "")}) == "--port='': must be a whole number from 0 to 65535"
    assert refusal(flags={"host": Flag("--host", "")}).startswith("--host: host '' can be reached from outside")


def test_a_flag_that_was_not_given_says_nothing() -> None:
    loaded = load(environment={"NEUROGRAPH_PORT": "1"}, flags={"port": Flag("--port", None)})
    assert (loaded.config.port, loaded.sources["port"]) == (1, "NEUROGRAPH_PORT")


def test_variables_are_read_in_any_case_behind_their_prefix() -> None:
    loaded = load(environment={"NEUROGRAPH_port": "1"})
    assert (loaded.config.port, loaded.sources["port"]) == (1, "NEUROGRAPH_port")


def test_by_default_it_is_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("NEUROGRAPH_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NEUROGRAPH_PORT", "8123")
    assert load().config.port == 8123


@pytest.mark.parametrize("name", ["NEUROGRAPH_URL", "NEUROGRAPH_TOKEN"])
def test_what_the_client_commands_read_is_no_trouble(name: str) -> None:
    assert load(environment={name: "x"}).config == Config()


# Text


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


OPTIONAL = [name for name in KINDS if type(None) in getattr(KINDS[name], "__args__", ())]


def test_what_may_be_without_a_value() -> None:
    assert {"jwks", "tls_key_file", "rate_http", "rate_publish", "max_connections_per_user"} <= set(OPTIONAL)
    assert not {"host", "port", "jwt_keys", "rate_ping", "roles"} & set(OPTIONAL)


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("none", ["none", "None", "NONE"])
def test_none_is_no_value_wherever_it_is_said(name: str, none: str, file: Path) -> None:
    text = f'rate_http = "none"\n{name} = {{ burst = 9, per_s = 9 }}' if name == "rate_publish" else ""
    assert getattr(read(**{name: none}), name) is None
    assert getattr(from_file(file, f'{name} = "{none}"').config, name) is None
    assert getattr(from_file(file, text, {variable(name): none}).config, name) is None
    assert getattr(from_file(file, "", **{name: Flag("--it", none)}).config, name) is None


def test_elsewhere_it_is_a_text_like_any_other(file: Path) -> None:
    assert refusal_of(file, 'port = "none"') == ":1: port = 'none': must be a whole number from 0 to 65535"


# Which wins


def test_a_flag_wins_over_a_variable_over_the_file_over_the_default(file: Path) -> None:
    text = "port = 1\ndrain_s = 1\nclose_s = 1"
    environment = {"NEUROGRAPH_PORT": "2", "NEUROGRAPH_DRAIN_S": "2"}
    loaded = from_file(file, text, environment, port=Flag("--port", "3"))
    assert (loaded.config.port, loaded.config.drain_s, loaded.config.close_s) == (3, 2, 1)
    assert {name: loaded.sources[name] for name in ("port", "drain_s", "close_s", "host")} == {
        "port": "--port",
        "drain_s": "NEUROGRAPH_DRAIN_S",
        "close_s": f"file {file}",
        "host": "default",
    }
    assert list(loaded.sources) == list(KINDS)


def test_a_table_is_replaced_as_a_whole(file: Path) -> None:
    text = "[roles.reader]\nsubscribe = ['m*']\n[roles.writer]\n[channels.a]\n[channels.b]"
    config = from_file(file, text).config
    assert config.roles == {"reader": RolePermissions(subscribe=("m*",)), "writer": RolePermissions()}
    assert config.channels == {"a": ChannelSettings(), "b": ChannelSettings()}
    config = from_file(file, text, {"NEUROGRAPH_ROLES": '{"other": {}}', "NEUROGRAPH_CHANNELS": "{}"}).config
    assert config.roles == {"other": RolePermissions()}
    assert config.channels == {}


def test_a_rate_too(file: Path) -> None:
    loaded = from_file(file, "rate_ping = { burst = 5, per_s = 5 }", {"NEUROGRAPH_RATE_PING": '{"burst":1,"per_s":2}'})
    assert loaded.config.rate_ping == Rate(1, 2)


def test_a_variable_names_the_file(file: Path) -> None:
    file.write_text("port = 1")
    loaded = load(environment={"NEUROGRAPH_CONFIG": str(file)})
    assert (loaded.config.port, loaded.file, loaded.sources["port"]) == (1, str(file), f"file {file}")
    assert load(environment={"NEUROGRAPH_CONFIG": " "}).file is None


def test_a_file_that_is_given_is_read_in_its_place(file: Path) -> None:
    loaded = from_file(file, "port = 1", {"NEUROGRAPH_CONFIG": "/nowhere"})
    assert (loaded.config.port, loaded.file) == (1, str(file))


# What cannot be used


A_COUNT = "a whole number from 1 to 2147483647"
A_NUMBER = "a number above 0, 1000000000 at most"
A_ROLE = '{ subscribe = ["metrics"], publish = [] }'
A_CHANNEL = '{ "orders.*" = { description = "Orders", subscribe = ["viewer"] } }'
NO_SUCH = "there is no such setting; did you mean"

WRONG: list[tuple[list[str], list[str], str]] = [
    (["port"], ["-1", "65536", "http", "80.5", "0x50", "8_000", "+1", "\udc80"], "a whole number from 0 to 65535"),
    (["history_events"], ["-1", "many", "2147483648"], "a whole number from 0 to 2147483647"),
    (
        [name for name in COUNTS if name != "max_message_bytes"],
        ["0", "-1", "many", "1.5", "1e400", "nan", "2147483648", "\udc80"],
        "a whole number from 1 to 2147483647",
    ),
    (["max_message_bytes"], ["1023", "2147483648"], "a whole number from 1024 to 2147483647"),
    (DURATIONS, ["0", "-1", "10s", "nan", "inf", "-inf", "1e400", "1e10", "1,5", "\udc80"], "a number above 0"),
    (SWITCHES, ["yes", "on", "2", "tru", "{}", "\udc80"], "true or false"),
    (RATES, ["140", "140/2", "{", "[140, 2]", "[" * 100_000, "\udc80"], 'JSON like {"burst":140,"per_s":2}'),
    (["roles"], ["viewer", "{", "\udc80"], 'JSON like {"viewer":{"subscribe":["metrics"],"publish":[]}}'),
    (
        ["channels"],
        ["orders", "{", "\udc80"],
        'JSON like {"orders.*":{"description":"Orders","subscribe":["viewer"]}}',
    ),
    (["log_level"], ["loud", "0", "information", "debug,info", "\udc80"], "debug, info, warning, error or critical"),
    (TEXTS, ["\udc80"], "text"),
]


@pytest.mark.parametrize(
    ("name", "text", "way_out"),
    [(name, text, way_out) for names, texts, way_out in WRONG for name in names for text in texts],
    ids=lambda value: value[:20],
)
def test_a_wrong_value_is_refused_with_variable_value_and_the_way_out(name: str, text: str, way_out: str) -> None:
    said = refusal({variable(name): text})
    cut = repr(text) if len(text) < 70 else repr(text)[:80] + "…"
    shown = "<hidden>" if name in SECRETS else cut
    if text in ("140", "[140, 2]"):  # JSON, and the wrong one
        assert said == f"{variable(name)}={text}: must be a table like {{ burst = 140, per_s = 2 }}" + (
            ', or "none"' if name in OPTIONAL else ""
        )
    else:
        assert said == f"{variable(name)}={shown}: must be {way_out}" + said.partition(way_out)[2]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("port", "70000", "--it='70000': must be a whole number from 0 to 65535"),
        ("port", 70_000, "--it=70000: must be a whole number from 0 to 65535"),
        ("drain_s", 0, "--it=0: must be a number above 0, 1000000000 at most"),
        ("host", 127, "--it=127: must be text"),
        ("insecure", 1, "--it=1: must be true or false"),
        ("jwks", 1, '--it=<hidden>: must be text, or "none"'),
        ("jwt_keys", (SECRET, 1), "--it: jwt_keys[1] = <hidden>: must be text"),
        ("jwt_algorithms", ["HS256", 1], "--it: jwt_algorithms[1] = 1: must be text"),
        ("roles", {"viewer": "all"}, "--it: roles.viewer = 'all': must be a table like { subscribe = [\"metrics\"], "),
        ("rate_publish", 5, '--it=5: must be a table like { burst = 140, per_s = 2 }, or "none"'),
    ],
)
def test_a_flag_that_cannot_be_used_is_named(name: str, value: object, said: str) -> None:
    assert refusal(flags={name: Flag("--it", value)}).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 'http'", ":1: port = 'http': must be a whole number from 0 to 65535"),
        ("\n# a\nport = '80'", ":3: port = '80': must be a whole number from 0 to 65535"),
        ("port = true", ":1: port = true: must be a whole number from 0 to 65535"),
        ("drain_s = inf", ":1: drain_s = inf: must be a number above 0, 1000000000 at most"),
        ("host = 1979-05-27", ":1: host = 1979-05-27: must be text"),
        ("insecure = 'yes'", ":1: insecure = 'yes': must be true or false"),
        ("jwt_algorithms = 'HS256'", ":1: jwt_algorithms = 'HS256': must be a list of texts"),
        ("jwt_algorithms = [\n'HS256',\n256]", ":1: jwt_algorithms[1] = 256: must be text"),
        ("jwt_keys = ['secret', ['secret']]", ":1: jwt_keys[1] = <hidden>: must be text"),
        ("jwks = ['secret']", ':1: jwks = <hidden>: must be text, or "none"'),
        ("outbox_events = 0", ":1: outbox_events = 0: must be a whole number from 1 to 2147483647"),
        ("max_connections_per_user = 0", f':1: max_connections_per_user = 0: must be {A_COUNT}, or "none"'),
        ("log_level = 'INFO'", ":1: log_level = 'INFO': must be debug, info, warning, error or critical"),
        ("rate_ping = 5", ":1: rate_ping = 5: must be a table like { burst = 140, per_s = 2 }"),
        ("rate_ping = { burst = 5 }", f":1: rate_ping = {{ burst = 5 }}: must have per_s, {A_NUMBER}"),
        ("rate_ping = { burst = 0, per_s = 2 }", ":1: rate_ping.burst = 0: must be a number from 1 to 1000000000"),
        ("rate_ping = { burst = inf, per_s = 2 }", ":1: rate_ping.burst = inf: must be a number from 1 to 1000000000"),
        ("\n[rate_ping]\nburst = 1\nper_s = '2'", f":4: rate_ping.per_s = '2': must be {A_NUMBER}"),
        ("roles = ['viewer']", f':1: roles = ["viewer"]: must be a table like {{ viewer = {A_ROLE} }}'),
        ("[roles]\na = {}\nviewer = 5", f":3: roles.viewer = 5: must be a table like {A_ROLE}"),
        ("[roles.viewer]\nsubscribe = '*'", ":2: roles.viewer.subscribe = '*': must be a list of texts"),
        ("[channels.'a.*']\n\nsubscribe = [\n'viewer',\n5]", ':3: channels."a.*".subscribe[1] = 5: must be text'),
        ("[channels.a]\nsubscribe = {}", ':2: channels.a.subscribe = {}: must be a list of texts'),
        (
            "[channels.a]\npolicy = 'latets'",
            ":2: channels.a.policy = 'latets': must be drop_oldest, drop_newest, latest or disconnect",
        ),
        ("[channels.a]\nhistory_age_s = 'none'", f":2: channels.a.history_age_s = 'none': must be {A_NUMBER}"),
        ("[channels.a]\nblock = 1", ":2: channels.a.block = 1: must be true or false"),
        ("[[channels]]\n", f":1: channels = [{{}}]: must be a table like {A_CHANNEL}"),
        (f"host = {{ a = '{'x' * 100}' }}", f":1: host = {{ a = \"{'x' * 73}…: must be text"),
        ("host = { a = '\u2028' }", r':1: host = { a = "\u2028" }: must be text'),
    ],
)  # fmt: skip
def test_a_wrong_value_of_the_file_is_told_with_its_line_and_field(text: str, said: str, file: Path) -> None:
    assert refusal_of(file, text) == said


def test_in_a_variable_the_field_is_told_too() -> None:
    said = refusal({"NEUROGRAPH_ROLES": '{"viewer":{"subscribe":["a",1]}}'})
    assert said == "NEUROGRAPH_ROLES: roles.viewer.subscribe[1] = 1: must be text"
    said = refusal({"NEUROGRAPH_RATE_PING": '{"burst":1,"per_m":1,"per_s":1}'})
    assert said == "NEUROGRAPH_RATE_PING: rate_ping.per_m: there is no such setting; did you mean per_s?"


# Names that there are not


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("NEUROGRAPH_PROT", "NEUROGRAPH_PORT"),
        ("NEUROGRAPH_JWT_KEY", "NEUROGRAPH_JWT_KEYS"),
        ("NEUROGRAPH_ORIGINS", "NEUROGRAPH_ALLOWED_ORIGINS"),
        ("NEUROGRAPH_OUTBOX_EVENT", "NEUROGRAPH_OUTBOX_EVENTS"),
        ("NEUROGRAPH_CONFIG_FILE", "NEUROGRAPH_CONFIG"),
    ],
)
def test_of_an_unknown_variable_the_nearest_is_named(given: str, meant: str) -> None:
    assert refusal({given: "1"}) == f"{given}: there is no such setting; did you mean {meant}?"


@pytest.mark.parametrize("unknown", ["NEUROGRAPH_", "NEUROGRAPH_XYZZY"])
def test_where_no_setting_is_near_none_is_named(unknown: str) -> None:
    assert refusal({unknown: "1"}) == f"{unknown}: there is no such setting"


def test_an_unknown_variable_is_refused_though_it_is_empty() -> None:
    assert "no such setting" in refusal({"NEUROGRAPH_PROT": ""})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", ":1: prot: there is no such setting; did you mean port?"),
        ("host = 'a'\nNEUROGRAPH_PORT = 1", ":2: NEUROGRAPH_PORT: there is no such setting; did you mean port?"),
        ("jwt-keys = ['secret']", ":1: jwt-keys: there is no such setting; did you mean jwt_keys?"),
        ("\n[channel.a]", ":2: channel: there is no such setting; did you mean channels?"),
        ("x = 1", ":1: x: there is no such setting"),
        ('"a\\nb" = 1', ':1: "a\\nb": there is no such setting'),
        ("rate_ping.brust = 1", ":1: rate_ping.brust: there is no such setting; did you mean burst?"),
        ("[roles.viewer]\nsubscribe = []\nsubscribes = []", f":3: roles.viewer.subscribes: {NO_SUCH} subscribe?"),
        ("[channels.a]\ndescribtion = ''", f":2: channels.a.describtion: {NO_SUCH} description?"),
        ("[channels.a]\nxyzzy = ''", ":2: channels.a.xyzzy: there is no such setting"),
        ("[roles.a]\nport = 1", ":2: roles.a.port: port is a setting of its own and belongs above the first [table]"),
    ],
)  # fmt: skip
def test_of_an_unknown_name_in_the_file_the_nearest_is_named(text: str, said: str, file: Path) -> None:
    assert refusal_of(file, text) == said


def test_of_an_unknown_flag_too() -> None:
    said = refusal(flags={"prot": Flag("--set prot", "1")})
    assert said == "--set prot: there is no such setting; did you mean port?"
    assert refusal(flags={"config": Flag("--set config", "x")}).startswith("--set config: there is no such setting")
    assert refusal(flags={"x\ny": Flag("--set x\ny", None)}) == "--set x\\ny: there is no such setting"


# Settings beside one another


def test_what_does_not_go_together_is_told_with_the_place_of_whoever_said_it(file: Path) -> None:
    text = "\nheartbeat_s = 100"
    because = "silence_s = {} must be above heartbeat_s = {}: "
    assert refusal_of(file, text).startswith(":2: " + because.format(90, 100))
    assert refusal({"NEUROGRAPH_SILENCE_S": "7"}).startswith("NEUROGRAPH_SILENCE_S: " + because.format(7, 30))
    assert refusal({"NEUROGRAPH_SILENCE_S": "7"}, file=file).startswith("NEUROGRAPH_SILENCE_S: ")
    assert refusal(flags={"silence_s": Flag("--set silence_s", 7)}).startswith("--set silence_s: silence_s = 7 must")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("\nhost = '0.0.0.0'", 2, "host '0.0.0.0' can be reached from outside and no key"),
        ("tls_key_file = 'a'", 1, "tls_key_file is set and tls_certificate_file is not"),
        ("allowed_origins = [\n'https://a.example',\n'b']", 1, "allowed_origins[1] = 'b' is not a valid origin"),
        ("port = 1\n[channels.a]\n[channels.global]", 3, "channels.global: the name has a meaning of its own"),
        ("[channels.a]\ndescription = ''\nsubscribe = ['viewr']", 3, "channels.a.subscribe[0] = 'viewr': roles has no"),
        ("port = 1\nmax_channels = 6\n[channels.a]", 2, "max_channels = 6 is less than the 7"),
    ],
)
def test_in_the_file_it_is_a_line(text: str, line: int, said: str, file: Path) -> None:
    assert refusal_of(file, text).startswith(f":{line}: {said}")


def test_where_the_defaults_do_not_go_together_nobody_said_it() -> None:
    assert refusal({"NEUROGRAPH_ALLOW_ANONYMOUS": "false"}).startswith("NEUROGRAPH_ALLOW_ANONYMOUS: allow_anonymous = ")
    channels = json.dumps({f"c{number}": {} for number in range(1000)})
    assert refusal({"NEUROGRAPH_CHANNELS": channels}).startswith("NEUROGRAPH_CHANNELS: max_channels = 1000 is less")


def test_a_list_of_no_keys_is_no_key() -> None:
    assert "no key is configured" in refusal({"NEUROGRAPH_HOST": "0.0.0.0", "NEUROGRAPH_JWT_KEYS": " , "})


# Warnings


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o610])
def test_keys_in_a_file_that_others_may_open_are_warned_of(mode: int, file: Path) -> None:
    file.write_text(f"jwt_keys = ['{SECRET}']")
    file.chmod(mode)
    (warning,) = load(str(file), {}).warnings
    assert warning == f"{file} holds jwt_keys and others may read it: chmod 600 ends that"
    file.chmod(0o600)
    assert load(str(file), {}).warnings == []


def test_a_file_without_keys_may_be_read_by_everybody(file: Path) -> None:
    file.write_text("jwt_keys = []\nport = 1")
    file.chmod(0o644)
    assert load(str(file), {"NEUROGRAPH_JWT_KEYS": SECRET}).warnings == []


def test_a_role_that_names_no_channel_is_warned_of(file: Path) -> None:
    loaded = from_file(file, "[roles.admin]\n[roles.viewer]\nsubscribe = ['metricz']")
    assert loaded.warnings == ["roles.viewer.subscribe[0] = 'metricz': there is no such channel; did you mean metrics?"]


# Reading again


def changed(name: str) -> tuple[Config, Config]:
    """Two configurations with a key and a certificate that differ in one setting."""
    old = Config(jwt_keys=("x" * 32,), tls_certificate_file="c", tls_key_file="k")
    return old, msgspec.structs.replace(old, **{name: SPELLED[name][1]})


@pytest.mark.parametrize("name", KINDS)
def test_a_changed_setting_is_reloaded_or_waits(name: str) -> None:
    old, new = changed(name)
    changes = reloadable_changes(old, new)
    if name in RELOADABLE:
        assert (changes.reloaded, changes.restart) == ((name,), ())
    else:
        assert (changes.reloaded, changes.restart) == ((), (name,))


def test_what_is_reloadable_is_what_the_server_reads_again() -> None:
    assert set(RELOADABLE) == {
        "jwt_keys", "jwt_public_key_file", "jwks", "jwt_algorithms", "jwt_audience", "jwt_issuer", "roles", "channels",
        "tls_certificate_file", "tls_key_file",
    }  # fmt: skip


def test_nothing_changed() -> None:
    changes = reloadable_changes(Config(), Config())
    assert (changes.reloaded, changes.restart) == ((), ())


# Whatever comes


def load_or_refuse(file: Path | None, environment: Mapping[str, str], flags: Mapping[str, Flag]) -> None:
    try:
        loaded = load(None if file is None else str(file), environment, flags)
    except ConfigError as error:
        said = str(error)
    else:
        assert isinstance(loaded.config, Config)
        said = "".join(loaded.warnings)
        assert msgspec.convert(msgspec.to_builtins(loaded.config), Config) == loaded.config
    assert said.isprintable(), said
    assert len(said) < 600


_chars = st.characters(exclude_characters="\0")
_any_text = st.text(_chars, max_size=20) | st.text(st.sampled_from("\udc80aA.,\n\x7f{}[]\"'\\0123 "), max_size=20)
_setting = st.sampled_from(sorted(KINDS))
_numbers = st.integers() | st.floats() | st.sampled_from([0, 1, 30, 90, 65_536])
_values = st.recursive(
    st.booleans() | _numbers | st.text(max_size=8) | st.dates() | st.times() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_entry = st.fixed_dictionaries(
    {},
    optional={
        "subscribe": st.lists(st.sampled_from(["viewer", "admin", "x"])) | _values,
        "publish": st.lists(st.sampled_from(["viewer", "admin", "x"])) | _values,
        "description": _values,
        "history_events": _numbers | _values,
        "history_age_s": _numbers | _values,
        "policy": st.sampled_from(["latest", "disconnect", "none"]) | _values,
        "key": st.sampled_from(["data.id", "id"]) | _values,
        "schema_file": st.text(max_size=8) | _values,
        "block": _values,
        "block_timeout_ms": _numbers | _values,
    },
) | _values  # fmt: skip
_tables = st.dictionaries(st.sampled_from(["a", "viewer", "a.*", "connections", "Ä", "metrics"]), _entry, max_size=3)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """What a file might hold: some of it right, some nearly, some not at all."""
    document: dict[str, Any] = draw(st.dictionaries(_setting, _values, max_size=3))
    for name in draw(st.lists(_setting, max_size=4)):
        value = SPELLED[name][1]
        document[name] = "none" if value is None else msgspec.to_builtins(value)
    document |= draw(st.fixed_dictionaries({}, optional={"roles": _tables, "channels": _tables}))
    return document | draw(st.dictionaries(st.text(max_size=8), _values, max_size=1))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(_setting.map(variable) | _any_text.map("NEUROGRAPH_".__add__), _any_text, max_size=4))
def test_any_environment_is_read_or_refused_in_one_line(environment: dict[str, str]) -> None:
    environment.pop("NEUROGRAPH_CONFIG", None)
    load_or_refuse(None, environment, {})


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents())
def test_any_json_in_the_environment_is(document: dict[str, Any]) -> None:
    texts = {name: json.dumps(value, default=str) for name, value in document.items() if name in KINDS}
    load_or_refuse(None, {variable(name): text for name, text in texts.items()}, {})


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents())
def test_any_values_of_flags_are(document: dict[str, Any]) -> None:
    load_or_refuse(None, {}, {name: Flag(f"--set {name}", value) for name, value in document.items()})


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents())
def test_any_toml_is(tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text("".join(f"{key_written(key)} = {written(value)}\n" for key, value in document.items()), "utf-8")
    load_or_refuse(file, {}, {})


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=60) | _any_text.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_file_is(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(content)
    load_or_refuse(file, {}, {})


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=_setting.filter(lambda name: name not in SECRETS), text=_any_text)
def test_no_message_tells_a_key(name: str, text: str) -> None:
    environment = {"NEUROGRAPH_JWT_KEYS": SECRET, "NEUROGRAPH_JWKS": f"https://{SECRET}", variable(name): text}
    try:
        said = repr(load(environment=environment))
    except ConfigError as error:
        said = str(error)
    assert SECRET not in said


def test_an_error_met_later_stands_behind_the_place_of_its_setting(tmp_path: Path) -> None:
    file = tmp_path / "router.toml"
    file.write_text('port = 9000\n[channels.a]\n[channels."b.*"]\npolicy = "latest"\nschema_file = "b.json"\n')
    loaded = load(str(file), {})
    of_a_part = SettingsError("channels: no", ("channels", "b.*", "schema_file"))
    assert str(loaded.located(of_a_part)) == f"{file}:5: channels: no"
    assert str(loaded.located(OSError("port 9000 is taken"))) == f"{file}:1: port 9000 is taken"
    assert str(loaded.located(OSError("host: unknown"))) == "host: unknown", "nobody has given it"
