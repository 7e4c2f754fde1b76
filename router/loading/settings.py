"""The settings that exist: each with its heading and description, read from the comments in `router.config`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from router.config import Config

_FIELD = re.compile(r"    (\w+): ").match


class Setting(Struct, frozen=True):
    """One setting of a struct.

    Attributes:
        name: As the file has it.
        section: The heading that it stands under; empty: none.
        description: One paragraph.
        kind: Its type, bounds included.
        default: What it is where nobody says otherwise.
    """

    name: str
    section: str
    description: str
    kind: Any
    default: object


def settings(struct: type[Struct] = Config) -> Iterator[Setting]:
    """The settings of a struct, in its order."""
    for field in msgspec.structs.fields(struct):
        section, description = _comments(struct)[field.name]
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        yield Setting(field.name, section, description, field.type, default)


@cache
def _comments(struct: type[Struct]) -> Mapping[str, tuple[str, str]]:
    """By field the heading above it and its own description."""
    found: dict[str, tuple[str, str]] = {}
    section, description = "", ""
    for line in inspect.getsource(struct).splitlines():
        text = line.strip()
        if text.startswith("#: "):
            description = f"{description} {text[3:]}".strip()
        elif text.startswith("# "):
            section = text[2:]
        elif field := _FIELD(line):
            found[field[1]] = (section, description)
            description = ""
    return MappingProxyType(found)
