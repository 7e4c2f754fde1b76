"""The effective configuration as a file and as data: it loads again, it hides secrets, it tells sources."""

import json
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from router.config import SECRETS, ChannelSettings, Config
from router.loading import Flag, Loaded, load
from router.loading.effective import as_data, as_toml
from router.loading.settings import settings as all_settings
from router.permissions import RolePermissions
from router.policies import Policy
from tests.router.configs import KINDS, SECRET, usable_configs


def loaded_as(config: Config, source: str = "default") -> Loaded:
    return Loaded(config, dict.fromkeys(KINDS, source))


def test_as_a_file() -> None:
    config = Config(
        port=1,
        allowed_origins=("https://a.example", "null"),
        jwt_keys=(SECRET, "other-secret"),
        jwks="https://user:third-secret@id.example",
        max_connections_per_user=5,
        rate_http=None,
        roles={"shop": RolePermissions(publish=("orders.*",)), "a b": RolePermissions()},
        channels={
            "orders.*": ChannelSettings(description="O", subscribe=("shop",), history_events=0, block=True),
            "news": ChannelSettings(policy=Policy.LATEST, key="data.n", history_age_s=0.5, schema_file="news.json"),
        },
    )
    sources = dict.fromkeys(KINDS, "default") | {
        "port": "--port",
        "roles": "file a\nb",
        "jwt_keys": "NEUROGRAPH_JWT_KEYS",
    }
    text = as_toml(Loaded(config, sources))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[:3] == ["# Where it listens", 'host = "127.0.0.1" # default', "port = 1 # --port"]
    for line in (
        '# tls_key_file = "none" # default',
        'allowed_origins = ["https://a.example", "null"] # default',
        "# Who may come in",
        "# jwt_keys = <2 hidden> # NEUROGRAPH_JWT_KEYS",
        "# jwks = <hidden> # default",
        "max_connections_per_user = 5 # default",
        "rate_ping = { burst = 140, per_s = 2 } # default",
        'rate_http = "none" # default',
    ):
        assert line in lines
    assert lines[lines.index("[roles] # file a\\nb") :] == [
        "[roles] # file a\\nb",
        "[roles.shop]",
        "subscribe = []",
        'publish = ["orders.*"]',
        '[roles."a b"]',
        "subscribe = []",
        "publish = []",
        "",
        "[channels] # default",
        '[channels."orders.*"]',
        'description = "O"',
        'subscribe = ["shop"]',
        "history_events = 0",
        "block = true",
        "block_timeout_ms = 1000",
        "[channels.news]",
        'description = ""',
        "history_age_s = 0.5",
        'policy = "latest"',
        'key = "data.n"',
        'schema_file = "news.json"',
        "block = false",
        "block_timeout_ms = 1000",
    ]
    assert "secret" not in text


def test_the_comments_stand_in_one_column_where_there_is_room() -> None:
    lines = as_toml(loaded_as(Config())).splitlines()
    columns = {line.index("  # ") for line in lines if line.endswith("  # default")}
    assert min(columns) == 48
    assert sum(line.find("  # ") > 48 for line in lines) < 5


def test_every_setting_is_there_in_the_structs_order_tables_last() -> None:
    lines = as_toml(loaded_as(Config())).splitlines()
    names = [line.removeprefix("# ").partition(" = ")[0] for line in lines if line.endswith("# default")]
    tables = ["roles", "channels"]
    expected = [*(name for name in KINDS if name not in tables), *(f"[{name}]" for name in tables)]
    assert [name.partition(" ")[0] for name in names] == expected


def test_without_a_value_a_setting_is_a_comment_where_that_is_the_default() -> None:
    text = as_toml(loaded_as(Config(rate_http=None)))
    assert '\n# rate_publish = "none"' in text
    assert '\nrate_http = "none"' in text
    assert '\n# jwks = "none"' in text
    assert "\njwt_keys = []" in text


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(usable_configs())
def test_it_loads_again(tmp_path_factory: pytest.TempPathFactory, config: Config) -> None:
    path = tmp_path_factory.getbasetemp() / "again.toml"
    text = as_toml(loaded_as(config, "file x"))
    path.write_text(text, encoding="utf-8")
    without = msgspec.structs.replace(config, jwt_keys=(), jwks=None)
    assert load(str(path), {}).config == without
    secrets = {name: Flag("--it", getattr(config, name)) for name in SECRETS}
    again = load(str(path), {}, secrets)
    assert again.config == config
    assert as_toml(loaded_as(again.config, "file x")) == text


# As data


def test_as_data(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("drain_s = 2\n[channels.news]\npolicy = 'disconnect'\n")
    environment = {"NEUROGRAPH_JWT_KEYS": SECRET, "NEUROGRAPH_JWKS": SECRET, "NEUROGRAPH_RATE_HTTP": "none"}
    loaded = load(str(file), environment, {"port": Flag("--port", "1")})
    data = json.loads(json.dumps(as_data(loaded)))
    assert SECRET not in json.dumps(data)
    assert data["file"] == str(file)
    assert list(data["settings"]) == list(KINDS)
    told = data["settings"]
    assert told["port"] == {"value": 1, "source": "--port"}
    assert told["drain_s"] == {"value": 2.0, "source": f"file {file}"}
    assert told["rate_ping"] == {"value": {"burst": 140, "per_s": 2}, "source": "default"}
    assert told["rate_http"] == {"value": None, "source": "NEUROGRAPH_RATE_HTTP"}
    assert told["jwt_keys"] == {"value": None, "hidden": True, "source": "NEUROGRAPH_JWT_KEYS"}
    assert told["jwks"] == {"value": None, "hidden": True, "source": "NEUROGRAPH_JWKS"}
    news = dict.fromkeys(ChannelSettings.__struct_fields__) | {
        "description": "", "policy": "disconnect", "block": False, "block_timeout_ms": 1000,
    }  # fmt: skip
    assert told["channels"]["value"] == {"news": news}


def test_a_secret_that_is_not_set_is_not_hidden() -> None:
    told = json.loads(json.dumps(as_data(loaded_as(Config()))))
    assert told["file"] is None
    assert told["settings"]["jwt_keys"] == {"value": [], "source": "default"}
    assert told["settings"]["jwks"] == {"value": None, "source": "default"}


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(usable_configs())
def test_the_data_are_the_configuration(config: Config) -> None:
    told = json.loads(json.dumps(as_data(loaded_as(config))))["settings"]
    values = {name: entry["value"] for name, entry in told.items() if name not in SECRETS}
    without = msgspec.structs.replace(config, jwt_keys=(), jwks=None)
    assert msgspec.convert(values, Config) == without


# The headings


def test_the_headings_are_those_of_the_struct() -> None:
    headings = list(dict.fromkeys(setting.section for setting in all_settings()))
    text = as_toml(loaded_as(Config()))
    assert [line[2:] for line in text.splitlines() if line.startswith("# ") and " = " not in line] == headings
    assert tomllib.loads(text)["host"] == "127.0.0.1"
