"""The channels that there may be: the system's own, those of the configuration, and families such as `orders.*`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from router.config import ChannelSettings
from router.events import CHANNELS, AnyData, ChannelSpec

FAMILY_SUFFIX = ".*"
_is_name = re.compile(r"[a-z0-9._-]{1,64}").fullmatch


class Channels:
    """The registry. The mutable state is one table, replaced as a whole: any thread may look things up.

    A family is one spec for all channels under its name; each of them gets its stream at first use.
    """

    def __init__(self, configured: Mapping[str, ChannelSettings] | None = None) -> None:
        self.configure(configured or {})

    def configure(self, configured: Mapping[str, ChannelSettings]) -> None:
        """Replace what the configuration says of channels."""
        specs = dict(CHANNELS)
        for name, settings in configured.items():
            specs[name] = _spec(name, settings, CHANNELS.get(name))
        families = {name.removesuffix(FAMILY_SUFFIX): spec for name, spec in specs.items() if spec.is_family}
        self._table = (specs, families)

    def __iter__(self) -> Iterator[ChannelSpec]:
        """All specs, families among them."""
        return iter(self._table[0].values())

    def find(self, name: str) -> ChannelSpec | None:
        """The spec of a channel: its own, or that of the nearest family above it; None: there is no such channel."""
        specs, families = self._table
        spec = specs.get(name)
        if spec is not None:
            return None if spec.is_family else spec
        if not families or not _is_name(name):
            return None
        dot = name.rfind(".", 0, -1)
        while dot > 0:
            family = families.get(name[:dot])
            if family is not None:
                return family
            dot = name.rfind(".", 0, dot)
        return None


def _spec(name: str, settings: ChannelSettings, own: ChannelSpec | None) -> ChannelSpec:
    """A spec of the configuration; of one of the system's channels the data stay as they are."""
    if own is None:
        description = settings.description or f"Events of {name}"
        return ChannelSpec(name, description, AnyData, settings.subscribe, settings.publish)
    return own.with_settings(settings.description or own.description, settings.subscribe, settings.publish)
