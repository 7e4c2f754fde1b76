"""What an identity may do, without a router around it."""

from collections.abc import Iterable

from router.auth.access import Access, Grants
from router.auth.identity import Identity
from router.channels import Channels
from router.config import Config


def grants(
    role: str,
    subscribe: Iterable[str] | None = None,
    publish: Iterable[str] | None = None,
    config: Config | None = None,
) -> Grants:
    """The grants of a role, or of a token's own lists, under a configuration; None: the default one."""
    config = config or Config()
    access = Access(config.roles, Channels(config.channels))
    own = None if subscribe is None else tuple(subscribe)
    return access.grants(Identity(None, role, own, None if publish is None else tuple(publish)))
