"""Whom `sub` and `pub` talk to, by which client, and how they tell what ended it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct
from neurograph_ws_client import ClosedError, ConnectError, NeurographError, NeurographWSClient

from router.errors import CloseCode, RouterError

#: From the first packet to `connected`; a server that wants a client to sign in first gives it 10 s.
_OPEN_S: Final = 15.0
#: How long the server's close frame is waited for.
_CLOSE_S: Final = 1.0
#: Where a secret may be: the user and password, and the query.
_SECRETS: Final = re.compile(r"(?<=://).*@|^(?!\w+://).*@|\?[^#]*")


class TargetError(RouterError):
    """What we were told to connect to, or with, cannot be used."""


class Target(Struct, frozen=True):
    """Whom to talk to.

    Attributes:
        url: `ws://` or `wss://`; without a path it is `/ws`.
        token: The JWT, or gives it, at each connection anew; None: without one.
        ca: A PEM file with the certificates to trust; None: the system's.
    """

    url: str
    token: str | Callable[[], str | None] | None = None
    ca: str | None = None

    def client(self, **options: Any) -> NeurographWSClient:
        """A client that is yet to connect.

        Args:
            options: Others of the client's.

        Raises:
            TargetError: The address, the token or `ca` cannot be used.
        """
        token = self.token() if callable(self.token) else self.token
        if token is not None and (not token.isascii() or not token.isprintable() or " " in token):
            raise TargetError("the token holds characters that no token has")
        options |= {"connect_timeout": _OPEN_S, "close_timeout": _CLOSE_S, "ssl_context": self._tls()}
        try:
            return NeurographWSClient(self.url, self.token, **options)
        except ValueError as error:
            raise TargetError(str(error).replace("url:", f"{_SECRETS.sub('', self.url)!r} is", 1)) from None

    def _tls(self) -> ssl.SSLContext | None:
        if self.ca is None:
            return None
        if not self.url.lower().startswith("wss:"):
            raise TargetError("a CA file is of use with wss:// only")
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise TargetError(f"CA file {self.ca!r} cannot be used: {error.strerror or error}") from None


def explain(error: NeurographError) -> str:
    """Why there is no connection, or no longer one."""
    if isinstance(error, ClosedError):
        return f"connection lost: {error.reason or 'no reason given'} ({error.code})"
    if isinstance(error, ConnectError) and error.code is not None:
        return f"refused: {error.reason} ({error.code})"
    return str(error).replace("by ssl_context", "with --ca")


def wants_token(error: ClosedError | ConnectError) -> bool:
    """Whether another token is needed to be let in."""
    return error.code in (CloseCode.POLICY_VIOLATION, CloseCode.TOKEN_EXPIRED)
