"""Writes docs/configuration.md: `python -m router.loading.reference`. Its descriptions are comments in the struct."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

import msgspec

from router.config import ChannelSettings, Config
from router.limits import Rate
from router.loading import PREFIX, RELOADABLE
from router.loading.settings import Setting, settings
from router.loading.toml import written
from router.loading.values import NONE, is_table, without_none, words
from router.permissions import ROLES, RolePermissions

PATH = Path(__file__).parents[2] / "docs" / "configuration.md"

_WIDTH = 120
#: Bounds that nobody comes near are told by the error alone.
_FAR_BOUNDS = {" from 1 to 2147483647": " above 0", " to 2147483647": " on", ", 1000000000 at most": ""}
_UNITS = {"_per_s": "messages a second", "_ms": "milliseconds", "_s": "seconds", "_bytes": "bytes"}

_PAGE = Template("""\
<!-- Written by `python -m router.loading.reference` from router/config.py; a test compares them. -->

# Configuration

The router needs none: without any it runs in development mode, reachable from this machine alone. Everything that it
can be told is on this page.

## Where settings come from

What is said later wins, setting by setting:

1. the defaults below
2. one TOML file, named by `--config FILE` or by the variable `NEUROGRAPH_CONFIG`
3. variables: `NEUROGRAPH_` and the setting's name in capitals; an empty one counts as not set
4. flags: `--host`, `--port`, `--log-level`, `--insecure`, and `--set NAME=VALUE` for every setting

The tables `roles` and `channels` are replaced as a whole, never merged. A name that is not a setting is refused
wherever it stands, and so is a value that cannot be used: one line says where, what is wrong, and what it must be.

| | in the file | in a variable or flag |
|---|---|---|
| text | `host = "::1"` | `NEUROGRAPH_HOST=::1` |
| a number | `drain_s = 2.5` | `NEUROGRAPH_DRAIN_S=2.5` |
| true or false | `insecure = true` | `NEUROGRAPH_INSECURE=true` |
| a list | `jwt_algorithms = ["HS256", "ES256"]` | `NEUROGRAPH_JWT_ALGORITHMS=HS256,ES256` |
| a rate or a table | `rate_ping = { burst = 5, per_s = 1 }` | JSON: `NEUROGRAPH_RATE_PING='{"burst": 5, "per_s": 1}'` |
| no value, where that is possible | `rate_http = "none"` | `NEUROGRAPH_RATE_HTTP=none` |

Times are in seconds (`…_s`), sizes in bytes (`…_bytes`).

## An example

```toml
$example```

In a TOML file whatever follows a `[table]` belongs to it: tables come last.

## What is in force

`neurograph-router config` prints the configuration that `serve` would have with the same file, variables and flags:
every setting with the place that its value came from. The keys are hidden, and so is `jwks`, whose address may hold a
password. The output is a file that can be loaded again; `--format json` is for programs. It exits with 2 and one line
where something cannot be used, the keys and certificates included, so it is also the check to run before a restart;
only what `jwks` fetches from an address is not looked at.

A file that holds `jwt_keys` should be readable by its owner alone (`chmod 600`); the log says where it is not.

## Reading it again

$reloadable

What a role or a channel no longer allows ends at once. A configuration that cannot be used changes nothing, and the
log says what is wrong; so does one that goes from no key to one, or from no certificate to one, or back: that takes a
restart. All other settings wait for a restart, and the log names those that have changed. Variables and flags are those
of the start.

## Settings

$settings
## How a rate works

A rate is a bucket of tokens, full at the start: `burst` of them may be taken at once, and `per_s` come back each
second. A WebSocket message that finds too few is answered by the error `rate_limited` with `retry_after`, an HTTP
request by 429 with `Retry-After`.

## The roles

A token's claim `role` names the role, `viewer` where it has none; who comes without a token is `anonymous`. A role
that is not in the table may do nothing. `[roles.NAME]` has:

$role_fields
Both are lists of channels, or patterns in which `*` stands for any characters. A token's own claims `subscribe` and
`publish` stand in place of its role's. The default table:

```toml
$roles```

## The channels

`[channels.NAME]` makes a channel. A name is 1 to 64 characters of `a–z 0–9 . _ -`. One that ends in `.*`, in quotes
then, is a family: `[channels."orders.*"]` makes every name under `orders.` a channel, at its first use. The nearest
family counts where several fit, and a channel of its own before any. `personal` and `global` are taken.

The system's own channels (`metrics`, `signals`, `actions`, `logs`, `status`, `connections`) are always there; a table
of their name changes everything but the form of their data.

$channel_fields
On SIGHUP all of it is in force at once: a past that is to be shorter is cut, one that is to be longer grows with the
next events. A subscription keeps its policy until its client subscribes anew.

### The data of a channel

`schema_file` names a [JSON Schema](https://json-schema.org) (drafts 4, 6, 7, 2019-09, 2020-12). An event whose `data`
do not fit is refused when it is published, with the field that is wrong:
`data.items[0].price: the value is less than the minimum of 0`. Where it is the whole that does not fit, as with
`anyOf` or `minProperties` at the top, that field is `data`. Besides:

- `data` is an object, whatever the schema says; fields that it does not mention pass, unless it says
  `"additionalProperties": false`.
- `format` is checked (`date-time`, `uuid`, `email` …); one that is not known counts for nothing.
- A `pattern` takes time linear in the text, so it has no look-around and no back-references.
- `$$ref` leads to parts of the same file; nothing is fetched. Where a schema refers to itself, as that of a tree does,
  the error names `data` as a whole: looking for the field in it could take too long.
- A number with a fraction or an exponent must be one that 64 bits can hold: `1e400` is refused.
""")

EXAMPLE = """\
host = "0.0.0.0"
trusted_proxies = ["127.0.0.1"]          # nginx on this machine
allowed_origins = ["https://dashboard.example"]

jwks = "https://id.example/.well-known/jwks.json"
jwt_audience = "neurograph"
allow_anonymous = false

max_connections_per_user = 20
rate_publish = { burst = 1000, per_s = 500 }

[roles.admin]
subscribe = ["*"]
publish = ["*"]

[roles.viewer]
subscribe = ["metrics", "status"]

[roles.shop]
subscribe = ["status"]

[channels."orders.*"]
description = "Orders, one channel for each region"
subscribe = ["admin", "viewer", "shop"]
publish = ["shop"]
history_age_s = 86400

[channels.sensors]
description = "The latest reading of each sensor is what counts"
policy = "latest"
key = "data.sensor"
history_events = 100
"""


def page() -> str:
    """The whole text of docs/configuration.md."""
    return _PAGE.substitute(
        example=EXAMPLE,
        reloadable=_reloadable(),
        settings="\n".join(_sections()),
        role_fields=_fields(RolePermissions),
        channel_fields=_fields(ChannelSettings),
        roles="\n".join(_role(name, permissions) for name, permissions in ROLES.items()),
    )


def _sections() -> Iterator[str]:
    for heading, group in groupby(settings(Config), lambda setting: setting.section):
        yield f"### {heading}\n"
        for setting in group:
            yield f"#### `{setting.name}`\n\n{_facts(setting)}\n\n{_wrapped(setting.description)}\n"


def _facts(setting: Setting) -> str:
    kind, may_be_none = without_none(setting.kind)
    said = _kind(setting.name, kind) + (f", or `{written(NONE)}`" if may_be_none else "")
    facts = [said, f"default: {_default(setting)}", f"`{PREFIX}{setting.name.upper()}`"]
    if setting.name in RELOADABLE:
        facts.append("read again on SIGHUP")
    return " · ".join(facts)


def _kind(name: str, kind: Any) -> str:
    """What a setting that has a value must be."""
    if kind is Rate:
        return "a [rate](#how-a-rate-works)"
    if is_table(kind):
        return f"a [table](#the-{name})"
    unit = next((f"{unit}, " for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")
    said = unit + words(kind)
    for far, near in _FAR_BOUNDS.items():
        said = said.replace(far, near)
    return said


def _default(setting: Setting) -> str:
    value = setting.default
    if value is None:
        return "none"
    if setting.name == "roles":
        return "[these](#the-roles)"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{written(msgspec.to_builtins(value))}`"


def _reloadable() -> str:
    names = ", ".join(f"`{name}`" for name in RELOADABLE)
    return _wrapped(
        "On SIGHUP the router reads the file again, and the files that it names, and puts in force, without closing a "
        f"connection: {names}."
    )


def _fields(struct: type[msgspec.Struct]) -> str:
    return "\n".join(map(_field, settings(struct))) + "\n"


def _field(field: Setting) -> str:
    kind, _ = without_none(field.kind)
    facts = f"{_kind(field.name, kind)}; default: {_default(field)}"
    return textwrap.fill(f"- `{field.name}` ({facts}): {field.description}", _WIDTH, subsequent_indent="  ")


def _role(name: str, permissions: RolePermissions) -> str:
    lists = "\n".join(f"{verb} = {written(each)}" for verb, each in msgspec.structs.asdict(permissions).items() if each)
    return f"[roles.{name}]\n{lists}\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False, break_long_words=False)


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else PATH).write_text(page(), encoding="utf-8")
