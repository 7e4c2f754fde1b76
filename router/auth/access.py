"""Who may subscribe and publish where, by the current configuration: roles, lists of channels, lists of tokens.

Whoever holds a `Grants` need not be told of a change: it asks anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from router.auth.identity import Identity
from router.channels import Channels
from router.events import ChannelSpec
from router.permissions import ADMIN, DEVELOPER, RolePermissions, matches

#: Who may use a channel of the configuration that names no roles.
_SUBSCRIBE_BY_DEFAULT = (ADMIN, DEVELOPER)
_PUBLISH_BY_DEFAULT = (ADMIN,)
_NOTHING = RolePermissions()


class Access:
    """The rules in force. The mutable state is the table of roles and the number of its version; the router sets it."""

    def __init__(self, roles: Mapping[str, RolePermissions], channels: Channels) -> None:
        self._roles = roles
        self._channels = channels
        self._by_role: dict[str, Grants] = {}
        self.version = 0

    def configure(self, roles: Mapping[str, RolePermissions]) -> None:
        """Put another table in force, and look at the channels anew."""
        self._roles = roles
        self._by_role.clear()
        self.version += 1

    def grants(self, identity: Identity) -> Grants:
        """What an identity may do; all who have just what their role may share one object, for connections are many."""
        if identity.subscribe is not None or identity.publish is not None or identity.role not in self._roles:
            return Grants(self, identity)
        if identity.role not in self._by_role:
            self._by_role[identity.role] = Grants(self, Identity(user_id=None, role=identity.role))
        return self._by_role[identity.role]

    def may_subscribe(self, identity: Identity, name: str) -> bool:
        """Whether an identity may subscribe to a channel. A list in its token replaces its role's."""
        spec = self._channels.find(name)
        role = self._roles.get(identity.role, _NOTHING)
        return spec is not None and _may(
            name,
            spec,
            identity.role,
            identity.subscribe,
            spec.settings.subscribe,
            role.subscribe,
            _SUBSCRIBE_BY_DEFAULT,
        )

    def may_publish(self, identity: Identity, name: str) -> bool:
        """Whether an identity may publish to a channel; likewise."""
        spec = self._channels.find(name)
        role = self._roles.get(identity.role, _NOTHING)
        return spec is not None and _may(
            name, spec, identity.role, identity.publish, spec.settings.publish, role.publish, _PUBLISH_BY_DEFAULT
        )


def _may(
    name: str,
    spec: ChannelSpec,
    role: str,
    of_token: Sequence[str] | None,
    of_channel: Sequence[str] | None,
    of_role: Sequence[str],
    by_default: Sequence[str],
) -> bool:
    if of_token is not None:
        return any(matches(pattern, name) for pattern in of_token)
    if of_channel is not None:
        return role in of_channel
    return any(matches(pattern, name) for pattern in of_role) or (not spec.system and role in by_default)


class Grants:
    """What one identity may do. The mutable state is what has been asked before, forgotten when the rules change."""

    MAX_REMEMBERED = 1024

    __slots__ = ("_access", "_identity", "_publish", "_subscribe", "_version")

    def __init__(self, access: Access, identity: Identity) -> None:
        self._access = access
        self._identity = identity
        self._subscribe: dict[str, bool] = {}
        self._publish: dict[str, bool] = {}
        self._version = access.version

    def may_subscribe(self, name: str) -> bool:
        """Whether it may subscribe to a channel; nobody may to one that does not exist."""
        self._forget_if_due(self._subscribe)
        known = self._subscribe.get(name)
        if known is None:
            known = self._subscribe[name] = self._access.may_subscribe(self._identity, name)
        return known

    def may_publish(self, name: str) -> bool:
        """Whether it may publish to a channel; likewise."""
        self._forget_if_due(self._publish)
        known = self._publish.get(name)
        if known is None:
            known = self._publish[name] = self._access.may_publish(self._identity, name)
        return known

    def _forget_if_due(self, remembered: dict[str, bool]) -> None:
        if self._version != self._access.version:
            self._version = self._access.version
            self._subscribe.clear()
            self._publish.clear()
        elif len(remembered) >= self.MAX_REMEMBERED:  # names come from clients
            remembered.clear()
