"""Checks settings together: values that are valid alone and cannot be combined; no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches

from router.addresses import networks
from router.channels import FAMILY_SUFFIX, Channels, is_channel_name
from router.config import UNCONFIGURED, ChannelSettings, Config, ConfigError, is_loopback
from router.events import CHANNELS
from router.loading.toml import Path, path_written
from router.loading.values import did_you_mean
from router.paths import is_path
from router.permissions import ADMIN, ROLES

#: Names of channels that events have which nobody subscribes to.
RESERVED_CHANNELS = ("personal", "global")

_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://[^/?#@\s]+", re.IGNORECASE).fullmatch
_KEYS = "NEUROGRAPH_JWT_KEYS, NEUROGRAPH_JWT_PUBLIC_KEY_FILE or NEUROGRAPH_JWKS"


class SettingsError(ConfigError):
    """Settings that cannot be combined.

    Attributes:
        places: The values that have to do with it, the likeliest culprit first.
    """

    def __init__(self, message: str, *places: Path) -> None:
        super().__init__(message)
        self.places = places


def check_together(config: Config) -> None:
    """Check what cannot be checked setting by setting.

    Raises:
        SettingsError: Two of them do not go together, or one has a value that its kind cannot tell from a good one.
    """
    _check_door(config)
    _check_lists(config)
    if config.silence_s <= config.heartbeat_s:
        raise SettingsError(
            f"silence_s = {config.silence_s:g} must be above heartbeat_s = {config.heartbeat_s:g}: "
            "clients are heard of once a heartbeat; raise the one or lower the other",
            ("silence_s",),
            ("heartbeat_s",),
        )
    _check_channels(config)


def _check_door(config: Config) -> None:
    """Who can reach the server, and who would be let in."""
    if config.development and not is_loopback(config.host):
        raise SettingsError(
            f"host {config.host!r} can be reached from outside and no key is configured: set {_KEYS}, "
            "or say --insecure",
            ("host",),
        )
    if not config.has_key and not config.allow_anonymous:
        raise SettingsError(
            f"allow_anonymous = false lets nobody in while no key is configured: set {_KEYS}, or let it be true",
            ("allow_anonymous",),
        )
    for has, lacks in (("tls_certificate_file", "tls_key_file"), ("tls_key_file", "tls_certificate_file")):
        if getattr(config, has) is not None and getattr(config, lacks) is None:
            raise SettingsError(f"{has} is set and {lacks} is not: TLS takes both", (has,))


def _check_lists(config: Config) -> None:
    for index, origin in enumerate(config.allowed_origins):
        if not _ORIGIN(origin):
            place = ("allowed_origins", index)
            raise SettingsError(
                f"{path_written(place)} = {origin!r} is not a valid origin; write it as https://example.com:8443", place
            )
    for index, proxy in enumerate(config.trusted_proxies):
        try:
            networks([proxy])
        except ValueError:
            place = ("trusted_proxies", index)
            raise SettingsError(
                f"{path_written(place)} = {proxy!r} is neither an address nor a network; "
                "write it as 127.0.0.1 or 10.0.0.0/8",
                place,
            ) from None


def _check_channels(config: Config) -> None:
    for name, settings in config.channels.items():
        place: Path = ("channels", name)
        _check_name(name, place)
        for verb, roles in (("subscribe", settings.subscribe), ("publish", settings.publish)):
            for index, role in enumerate(roles or ()):
                if role not in config.roles:
                    item = (*place, verb, index)
                    hint = did_you_mean(role, config.roles)
                    raise SettingsError(f"{path_written(item)} = {role!r}: roles has no such role{hint}", item)
        _check_delivery(name, settings, place)
        if name == "connections" and settings.publish:
            item = (*place, "publish")
            raise SettingsError(f"{path_written(item)}: the server alone publishes there; leave it out", item)
    fixed = CHANNELS.keys() | {name for name in config.channels if not name.endswith(FAMILY_SUFFIX)}
    if len(fixed) > config.max_channels:
        raise SettingsError(
            f"max_channels = {config.max_channels} is less than the {len(fixed)} channels that there are always, "
            f"{len(CHANNELS)} of them the system's own; raise it, or configure fewer",
            ("max_channels",),
            ("channels",),
        )


def _check_delivery(name: str, settings: ChannelSettings, place: Path) -> None:
    """How a channel's events are queued, and what they must look like."""
    if settings.key is not None:
        item = (*place, "key")
        head = f"{path_written(item)} = {settings.key!r}"
        if settings.policy != "latest":
            raise SettingsError(f'{head}: only the policy "latest" has a key; set it, or leave the key out', item)
        if not is_path(settings.key):
            raise SettingsError(f"{head} is not a path into an event; write it as data.sensor or data.items.0.id", item)
    if settings.schema_file is not None and name in CHANNELS:
        item = (*place, "schema_file")
        raise SettingsError(
            f"{path_written(item)}: the data of the system's own channels have their form; leave it out", item
        )
    if settings.block_timeout_ms != UNCONFIGURED.block_timeout_ms and not settings.block:
        item = (*place, "block_timeout_ms")
        raise SettingsError(
            f"{path_written(item)} = {settings.block_timeout_ms}: nobody waits without block = true; set it, or leave "
            "this out",
            item,
        )


def _check_name(name: str, place: Path) -> None:
    if name in RESERVED_CHANNELS:
        raise SettingsError(f"{path_written(place)}: the name has a meaning of its own; choose another", place)
    if not is_channel_name(name.removesuffix(FAMILY_SUFFIX)) or len(name) > 64:
        raise SettingsError(
            f"{path_written(place)}: a channel's name is 1 to 64 characters of a–z 0–9 . _ -, and may end in .* "
            "after at least one",
            place,
        )


def misgivings(config: Config) -> Iterator[str]:
    """What can be used but is probably a mistake: one line each."""
    for role in config.roles:
        near = get_close_matches(role.lower(), ROLES, n=1)
        if role not in ROLES and near and near[0] not in config.roles:
            yield (
                f"{path_written(('roles', role))}: did you mean {near[0]}? The table has no {near[0]}, so whose tokens "
                "say that may do nothing"
            )
    if ADMIN not in config.roles:
        yield f"roles has no {ADMIN}: the table replaces the default one, so administrators may do nothing"
    channels = Channels(dict.fromkeys(config.channels, UNCONFIGURED))
    known = [spec.name for spec in channels]
    for role, permissions in config.roles.items():
        for verb, patterns in (("subscribe", permissions.subscribe), ("publish", permissions.publish)):
            for index, pattern in enumerate(patterns):
                if "*" not in pattern and channels.find(pattern) is None:
                    place = path_written(("roles", role, verb, index))
                    yield f"{place} = {pattern!r}: there is no such channel{did_you_mean(pattern, known)}"
