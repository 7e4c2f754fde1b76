"""The channels that may exist: the system's, configured ones, and families such as `orders.*`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from router.config import ChannelSettings
from router.events import CHANNELS, ChannelSpec, check_object
from router.schemas import Schema

FAMILY_SUFFIX = ".*"
is_channel_name = re.compile(r"[a-z0-9._-]{1,64}").fullmatch


class Channels:
    """The registry. The mutable state is one table, replaced as a whole: any thread may look things up.

    A family is one spec for all channels under its name; each of them gets its stream at first use.
    """

    def __init__(
        self,
        configured: Mapping[str, ChannelSettings] = MappingProxyType({}),
        schemas: Mapping[str, Schema] = MappingProxyType({}),
    ) -> None:
        self.configure(configured, schemas)

    def configure(
        self, configured: Mapping[str, ChannelSettings], schemas: Mapping[str, Schema] = MappingProxyType({})
    ) -> None:
        """Replace what the configuration says of channels.

        Args:
            configured: Their settings, by name.
            schemas: What each `schema_file` holds, by the channel's name.
        """
        specs = dict(CHANNELS)
        for name, settings in configured.items():
            # A schema that was not read is a fault of ours: no event may pass unchecked for it.
            schema = None if settings.schema_file is None else schemas[name]
            specs[name] = _spec(name, settings, schema, CHANNELS.get(name))
        families = {name.removesuffix(FAMILY_SUFFIX): spec for name, spec in specs.items() if spec.is_family}
        self._table = (specs, families)
        #: Whether there is a channel whose publishers wait: to be asked first, as a rule there is none.
        self.any_block = any(spec.settings.block for spec in specs.values())

    def __iter__(self) -> Iterator[ChannelSpec]:
        """All specs, families among them."""
        return iter(self._table[0].values())

    def find(self, name: str) -> ChannelSpec | None:
        """The spec of a channel: its own, or that of the nearest family above it; None: there is no such channel."""
        specs, families = self._table
        spec = specs.get(name)
        if spec is not None:
            return None if spec.is_family else spec
        if not families or not is_channel_name(name):
            return None
        dot = name.rfind(".", 0, -1)
        while dot > 0:
            family = families.get(name[:dot])
            if family is not None:
                return family
            dot = name.rfind(".", 0, dot)
        return None


def _spec(name: str, settings: ChannelSettings, schema: Schema | None, own: ChannelSpec | None) -> ChannelSpec:
    """A spec of the configuration; of one of the system's channels the data stay as they are."""
    description = settings.description or f"Events of {name}"
    if schema is not None:
        return ChannelSpec(name, description, schema.check, settings, schema=schema.document)
    if own is None:
        return ChannelSpec(name, description, check_object, settings)
    return ChannelSpec(name, settings.description or own.description, own.check, settings, system=True)
