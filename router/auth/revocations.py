"""Tokens that were revoked before they expired; no I/O.

A revocation names one token by its `jti`, or all of a user's that were issued up to now by its `sub`: the user may
sign in anew with a later one. It is kept until the token would have expired, as far as that is known, and else as
long as there is room. A restart forgets: what must hold for longer takes another key.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from router.auth.identity import Identity


class Revocations:
    """What was revoked. The router enters it, whoever checks tokens asks; both on one thread."""

    def __init__(self, max_entries: int, now: Callable[[], float] = time.time) -> None:
        """Make an empty list.

        Args:
            max_entries: Beyond this number the oldest go.
            now: The clock, in Unix seconds.
        """
        self._max_entries = max_entries
        self._now = now
        # By `jti`: when the token expires; infinite where no such token has been seen.
        self._tokens: dict[str, float] = {}
        # By `sub`: when it was revoked.
        self._users: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._tokens) + len(self._users)

    def revoke_token(self, token_id: str) -> bool:
        """Refuse a token from now on. Returns whether an older revocation had to be forgotten for it."""
        self._tokens.setdefault(token_id, float("inf"))
        return self._keep_bound()

    def revoke_user(self, user_id: str) -> bool:
        """Refuse all tokens of a user that were issued up to now. Returns as `revoke_token` does."""
        self._users.pop(user_id, None)
        self._users[user_id] = self._now()
        return self._keep_bound()

    def refuses(self, identity: Identity) -> bool:
        """Whether the token of an identity was revoked. A user's token that does not say when it was issued is.

        Times of issue are whole seconds, as a rule: one issued in the second of the revocation counts as before it.
        """
        if identity.token_id is not None and identity.token_id in self._tokens:
            if identity.expires_at is not None:
                self._tokens[identity.token_id] = identity.expires_at
            return True
        revoked_at = None if identity.user_id is None else self._users.get(identity.user_id)
        return revoked_at is not None and (identity.issued_at is None or identity.issued_at <= revoked_at)

    def _keep_bound(self) -> bool:
        if len(self) <= self._max_entries:
            return False
        now = self._now()
        for token_id in [each for each, expires_at in self._tokens.items() if expires_at <= now]:
            del self._tokens[token_id]
        if len(self) <= self._max_entries:
            return False
        oldest = self._tokens if len(self._tokens) >= len(self._users) else self._users
        del oldest[next(iter(oldest))]
        return True
