"""Who a client is, as a verified token says it; no I/O."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

DEFAULT_ROLE: Final = "viewer"


class Identity(Struct, frozen=True):
    """What a verified token says of its bearer.

    Attributes:
        user_id: The claim `sub`; None: anonymous.
        role: The claim `role`.
        subscribe: Channel names or patterns with `*`, in place of what the role may subscribe to; None: what it may.
        publish: The same for publishing.
        expires_at: The claim `exp`, in Unix seconds.
        issued_at: The claim `iat`, in Unix seconds.
        token_id: The claim `jti`, which a revocation may name.
    """

    user_id: str | None
    role: str = DEFAULT_ROLE
    subscribe: tuple[str, ...] | None = None
    publish: tuple[str, ...] | None = None
    expires_at: float | None = None
    issued_at: float | None = None
    token_id: str | None = None
