"""Who may subscribe and publish where: a table of roles, and what a token says of its own; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from msgspec import Struct


class RolePermissions(Struct, frozen=True, forbid_unknown_fields=True):
    """Channel names or patterns with `*`, for one role."""

    subscribe: tuple[str, ...] = ()
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


class Grants(Struct, frozen=True):
    """What one identity may do, by channel."""

    subscribe: frozenset[str]
    publish: frozenset[str]


def grants(
    role: str,
    subscribe: Iterable[str] | None,
    publish: Iterable[str] | None,
    channels: Iterable[str],
    table: Mapping[str, RolePermissions] = ROLES,
) -> Grants:
    """Work out an identity's grants among `channels`.

    Args:
        role: A role of the table; one that is not in it grants nothing.
        subscribe: The token's own list, which stands in place of the role's; None: the role's.
        publish: Likewise.
        channels: The channels there are.
        table: Permissions by role.
    """
    of_role = table.get(role, RolePermissions())
    names = tuple(channels)
    return Grants(
        subscribe=_matching(of_role.subscribe if subscribe is None else subscribe, names),
        publish=_matching(of_role.publish if publish is None else publish, names),
    )


def _matching(patterns: Iterable[str], names: Iterable[str]) -> frozenset[str]:
    return frozenset(name for pattern in patterns for name in names if matches(pattern, name))


def matches(pattern: str, name: str) -> bool:
    """Whether a channel's name fits a pattern in which `*` alone is special."""
    return fnmatchcase(name, pattern.replace("[", "[[]").replace("?", "[?]"))
