"""Roles: what each may subscribe to and publish, as names of channels or patterns; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from msgspec import Struct


class RolePermissions(Struct, frozen=True, forbid_unknown_fields=True):
    """Channel names or patterns with `*`, for one role."""

    #: What the role may subscribe to.
    subscribe: tuple[str, ...] = ()
    #: What the role may publish to.
    publish: tuple[str, ...] = ()


_OPEN = ("metrics", "status")

#: The default table.
ROLES: Mapping[str, RolePermissions] = {
    "admin": RolePermissions(
        subscribe=("metrics", "signals", "actions", "logs", "status", "connections"),
        publish=("metrics", "signals", "actions", "logs", "status"),
    ),
    "developer": RolePermissions(subscribe=("metrics", "signals", "actions", "logs", "status")),
    "viewer": RolePermissions(subscribe=_OPEN),
    "bot": RolePermissions(subscribe=(*_OPEN, "signals")),
    "anonymous": RolePermissions(subscribe=_OPEN),
}

ANONYMOUS = "anonymous"
ADMIN = "admin"
DEVELOPER = "developer"


def matches(pattern: str, name: str) -> bool:
    """Whether a channel's name fits a pattern in which only `*` is special."""
    return fnmatchcase(name, pattern.replace("[", "[[]").replace("?", "[?]"))
