"""The effective configuration for people and programs: each value with its source, secrets hidden; no I/O.

As TOML it can be loaded again. Tables stand at the end, where TOML wants them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

import msgspec
from msgspec import Struct

from router.config import SECRETS
from router.loading import Loaded
from router.loading.settings import Setting, settings
from router.loading.toml import key_written, one_line, written
from router.loading.values import NONE

#: Where the sources stand, for as long as the values leave room.
_COLUMN = 48


def as_toml(loaded: Loaded) -> str:
    """The configuration as the text of a file that loads to the same, but for secrets; sources as comments.

    A setting without a value is a comment where that is the default, `none` otherwise.
    """
    lines: list[str] = []
    tables: list[str] = []
    for section, group in groupby(settings(), lambda setting: setting.section):
        lines += ["", f"# {section}"]
        for setting in group:
            value = getattr(loaded.config, setting.name)
            source = loaded.sources[setting.name]
            if isinstance(value, Mapping):
                tables += ["", *_table(setting.name, value, source)]
            else:
                lines.append(_commented(_line(setting, value), source))
    return "\n".join(lines + tables).lstrip("\n") + "\n"


def as_data(loaded: Loaded) -> Mapping[str, object]:
    """The same for a program, in JSON's types: `{"file": …, "settings": {"port": {"value": …, "source": …}, …}}`.

    A secret that is set has `"hidden": true` and no value.
    """
    entries: dict[str, Mapping[str, object]] = {}
    for setting in settings():
        value = getattr(loaded.config, setting.name)
        hidden = {"value": None, "hidden": True} if setting.name in SECRETS and value else {"value": _plain(value)}
        entries[setting.name] = {**hidden, "source": loaded.sources[setting.name]}
    return {"file": loaded.file, "settings": entries}


def _line(setting: Setting, value: object) -> str:
    if setting.name in SECRETS and value:
        return f"# {setting.name} = <{f'{len(value)} ' if isinstance(value, tuple) else ''}hidden>"
    if value is None:
        return f'{"# " if setting.default is None else ""}{setting.name} = "{NONE}"'
    return f"{setting.name} = {written(_plain(value))}"


def _table(name: str, table: Mapping[str, Struct], source: str) -> Iterator[str]:
    yield _commented(f"[{name}]", source)
    for key, entry in table.items():
        yield f"[{name}.{key_written(key)}]"
        for field, value in msgspec.structs.asdict(entry).items():
            if value is not None:
                yield f"{field} = {written(value)}"


def _commented(line: str, source: str) -> str:
    return f"{line:<{_COLUMN}}  # {one_line(source)}"


def _plain(value: object) -> object:
    return msgspec.to_builtins(value)
