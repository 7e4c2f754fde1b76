"""Where settings come from: one TOML file, `NEUROGRAPH_*` variables, flags; the later one wins."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from router.config import SECRETS, Config, ConfigError
from router.loading.checks import SettingsError, check_together, misgivings
from router.loading.toml import Path, TomlFile, one_line, path_written
from router.loading.values import WrongValueError, did_you_mean, from_text, from_value

PREFIX = "NEUROGRAPH_"
#: Variables of the same prefix that are not settings: the file's name, and what the client commands read.
_OTHERS = ("config", "url", "token")
_KINDS: Mapping[str, Any] = MappingProxyType({field.name: field.type for field in msgspec.structs.fields(Config)})


class Flag(Struct, frozen=True):
    """A setting given on the command line.

    Attributes:
        label: What people wrote, as an error names it: `--port`, `--set port`.
        value: Text as a variable has it, or a value of the setting's own type, such as True for a switch; None: the
            flag was not given.
    """

    label: str
    value: object


class Loaded(Struct, frozen=True):
    """A configuration, and where it came from.

    Attributes:
        config: Checked, alone and together.
        sources: For each setting where its value came from: `default`, `file PATH`, `NEUROGRAPH_PORT`, or a flag's
            label.
        file: The path of the file that was read; None: there was none.
        warnings: Lines for the log.
        places: For each setting that somebody gave where a part of its value stands exactly: `PATH:LINE`,
            `NEUROGRAPH_PORT`, or a flag's label.
    """

    config: Config
    sources: Mapping[str, str]
    file: str | None = None
    warnings: Sequence[str] = ()
    places: Mapping[str, Callable[[Path], str]] = MappingProxyType({})

    def located(self, error: Exception) -> ConfigError:
        """An error met while the configuration was applied, after the place of the setting that it begins with.

        Where it begins with none, or with one that nobody gave, it says the same as before.
        """
        path: Path = (re.split(r"\W", str(error), maxsplit=1)[0],)
        if isinstance(error, SettingsError):
            path = error.places[0]
        where = self.places.get(str(path[0]))
        return ConfigError(f"{where(path)}: {error}" if where else str(error))


class _Given(Struct, frozen=True):
    """A setting's value, who gave it, and how an error names the place of a part of it."""

    value: Any
    source: str
    where: Callable[[Path], str]


def load(
    file: str | None = None,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[str, Flag] = MappingProxyType({}),
) -> Loaded:
    """Read the configuration: defaults, then the file, then variables, then flags.

    Args:
        file: Path of a TOML file; None: the one that `NEUROGRAPH_CONFIG` names, if it is set.
        environment: Variables `NEUROGRAPH_<SETTING>`, of which empty ones count as not set. A list's items are
            separated by commas; rates, `roles` and `channels` are JSON; `none` means no value.
        flags: By the setting's name: `{"port": Flag("--port", "9000"), "drain_s": Flag("--set drain_s", "5")}`. A
            name that is not a setting is refused, with the nearest that is.

    Raises:
        ConfigError: The file cannot be read, a name is unknown, or a value cannot be used, alone or beside another.
            The message is one line that says where it stands.
    """
    variables = _variables(environment)
    if file is None and "config" in variables:
        file = variables["config"][1]
    toml = None if file is None else TomlFile(file)
    given = {} if toml is None else _from_file(toml)
    given |= _from_variables(variables)
    given |= _from_flags(flags)
    config = Config(**{name: each.value for name, each in given.items()})
    try:
        check_together(config)
    except SettingsError as error:
        raise ConfigError(_located(error, given)) from None
    sources = {name: given[name].source if name in given else "default" for name in _KINDS}
    warnings = list(misgivings(config))
    if toml is not None and toml.open_to_others and toml.values.get("jwt_keys"):
        warnings.append(f"{one_line(toml.path)} holds jwt_keys and others may read it: chmod 600 ends that")
    places = {name: each.where for name, each in given.items()}
    return Loaded(config, sources, file, warnings, places)


# The three who give


def _from_file(toml: TomlFile) -> dict[str, _Given]:
    given = {}
    for name, value in toml.values.items():
        if name not in _KINDS:
            hint = did_you_mean(name.lower().removeprefix(PREFIX.lower()), _KINDS)
            raise ConfigError(f"{toml.where((name,))}: {path_written((name,))}: there is no such setting{hint}")
        try:
            given[name] = _Given(from_value(value, _KINDS[name]), f"file {toml.path}", toml.where)
        except WrongValueError as error:
            path = (name, *error.path)
            said = _said(name, error, " = ")
            if error.value is None and path[-1] in _KINDS:
                said = f": {path[-1]} is a setting of its own and belongs above the first [table]"
            raise ConfigError(f"{toml.where(path)}: {path_written(path)}{said}") from None
    return given


def _variables(environment: Mapping[str, str]) -> Mapping[str, tuple[str, str]]:
    """The variables that are ours and not empty, by setting: the name as it is written there, and its text."""
    found = {}
    for variable, text in environment.items():
        name = variable.removeprefix(PREFIX).lower()
        if variable.startswith(PREFIX):
            if name not in _KINDS and name not in _OTHERS:
                hint = did_you_mean(name, [*_KINDS, "config"], lambda near: PREFIX + near.upper())
                raise ConfigError(f"{one_line(variable)}: there is no such setting{hint}")
            if text.strip():
                found[name] = (variable, text.strip())
    return found


def _from_variables(variables: Mapping[str, tuple[str, str]]) -> dict[str, _Given]:
    return {name: _one(name, label, text) for name, (label, text) in variables.items() if name not in _OTHERS}


def _from_flags(flags: Mapping[str, Flag]) -> dict[str, _Given]:
    for name, flag in flags.items():
        if name not in _KINDS:
            raise ConfigError(f"{one_line(flag.label)}: there is no such setting{did_you_mean(name, _KINDS)}")
    return {name: _one(name, flag.label, flag.value) for name, flag in flags.items() if flag.value is not None}


def _one(name: str, label: str, value: object) -> _Given:
    """What one variable or flag says."""
    kind = _KINDS[name]
    try:
        read = from_text(value, kind) if isinstance(value, str) else from_value(value, kind)
        return _Given(read, label, lambda _: label)
    except WrongValueError as error:
        if not error.path:
            raise ConfigError(f"{label}{_said(name, error, '=')}") from None
        raise ConfigError(f"{label}: {path_written((name, *error.path))}{_said(name, error, ' = ')}") from None


# Errors


def _said(name: str, error: WrongValueError, equals: str) -> str:
    """What is wrong with a value, to follow its name."""
    if error.value is None:
        return f": {error}"
    return f"{equals}{'<hidden>' if name in SECRETS else error.value}: {error}"


def _located(error: SettingsError, given: Mapping[str, _Given]) -> str:
    """The message of settings that cannot be combined, after the place of the first that was given."""
    # The defaults go together, so one of the places is somebody's.
    place = next(place for place in error.places if place[0] in given)
    return f"{given[str(place[0])].where(place)}: {error}"


# Reading again


#: What SIGHUP puts in force.
RELOADABLE = (
    "tls_certificate_file", "tls_key_file",
    "jwt_keys", "jwt_public_key_file", "jwks", "jwt_algorithms", "jwt_audience", "jwt_issuer",
    "roles", "channels",
)  # fmt: skip


class Changes(Struct, frozen=True):
    """Names of settings that differ between two configurations.

    Attributes:
        reloaded: Those that a reload puts in force.
        restart: Those that wait for a restart.
    """

    reloaded: tuple[str, ...]
    restart: tuple[str, ...]


def reloadable_changes(old: Config, new: Config) -> Changes:
    """Which changed settings a reload puts in force, and which need a restart; for a line in the log.

    To come to have a key or a certificate, or to lose one, takes more than a reload: `Server.reload` refuses it.
    """
    changed = [name for name in _KINDS if getattr(old, name) != getattr(new, name)]
    reloaded = tuple(name for name in changed if name in RELOADABLE)
    return Changes(reloaded, tuple(name for name in changed if name not in reloaded))
