"""Whom a client talks to: the address, the token, the certificates it trusts; no I/O but for reading those."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import SplitResult, urlencode, urlsplit, urlunsplit

from msgspec import Struct

from router.errors import RouterError

#: From the first packet to `connected`; a server that wants a client to sign in first gives it 10 s.
OPEN_S: Final = 15.0
#: How long the server's close frame is waited for.
CLOSE_S: Final = 1.0
#: The library's own pings show the server that we live though we read nothing, because our output waits.
_PING_S: Final = 20.0
_MAX_MESSAGE_BYTES: Final = 16 << 20
_USER, _QUERY = re.compile("^([a-z]+://)?.*@"), re.compile(r"\?[^#]*")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class TalkError(RouterError):
    """What we were told to connect to, or with, cannot be used."""


class Target(Struct, frozen=True):
    """Whom to talk to.

    Attributes:
        url: `ws://` or `wss://`; without a path it is `/ws`.
        token: Gives the JWT, at each connection anew; None: without one.
        ca: A PEM file with the certificates to trust; None: the system's.
    """

    url: str
    token: Callable[[], str | None] = lambda: None
    ca: str | None = None

    @property
    def shown(self) -> str:
        """The URL as people may see it: without user, password and query, in which there may be a token."""
        return _USER.sub(r"\1", _QUERY.sub("", self.url))

    def address(self, reconnection_token: str | None = None) -> str:
        """The URL to open.

        Raises:
            TalkError: `url` is none that can be opened.
        """
        parts = self._parts()
        more = {} if reconnection_token is None else {"reconnection_token": reconnection_token}
        query = "&".join(filter(None, (parts.query, urlencode(more))))
        return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") or "/ws", query, ""))

    def options(self, token: str | None) -> dict[str, Any]:
        """How to open it.

        Raises:
            TalkError: The token or `ca` cannot be used.
        """
        options: dict[str, Any] = {"compression": None, "max_size": _MAX_MESSAGE_BYTES, "open_timeout": OPEN_S}
        options |= {"ping_interval": _PING_S, "ping_timeout": None, "close_timeout": CLOSE_S}
        parts = self._parts()
        if parts.hostname in _LOOPBACK:
            options["proxy"] = None
        if token is not None:
            if not token.isascii() or not token.isprintable() or " " in token:
                raise TalkError("the token holds characters that no token has")
            options["additional_headers"] = {"Authorization": f"Bearer {token}"}
        if self.ca is not None:
            if parts.scheme != "wss":
                raise TalkError(f"a CA file is of use with wss:// only, not with {self.shown}")
            try:
                options["ssl"] = ssl.create_default_context(cafile=self.ca)
            except OSError as error:
                raise TalkError(f"CA file {self.ca!r} cannot be used: {error.strerror or error}") from None
        return options

    def _parts(self) -> SplitResult:
        try:
            self.url.encode()  # arguments and variables may hold bytes that are no text
            parts = urlsplit(self.url)
            whole = parts.username is None or parts.password is not None  # the library takes no user without one
            if parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0 and not parts.fragment and whole:
                return parts
        except ValueError:
            pass
        raise TalkError(f"{self.shown!r} is no router's address; write it as ws://127.0.0.1:8000/ws or wss://…")
