"""Who may call from a browser: the rules for `Origin` and `Host`; no I/O.

Any page a person has open can make that person's browser connect here, with their address and, in development
mode, with all rights. What tells such a request apart is its `Origin`, which the page cannot forge. A `Host` that
is not a loopback name gives away a name that was bent to 127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

import re

from router.config import Config, is_loopback

_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:[0-9]*)?").fullmatch
_LOCAL_PAGE = re.compile(r"http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?").fullmatch


class ForeignRequest(Exception):
    """A request to be answered by 403; its text says why and what to do."""


def check(config: Config, *, origin: str | None, host: str | None, scheme: str = "http") -> None:
    """Judge a request by its headers.

    Args:
        config: Allowed origins, and whether the server is in development mode.
        origin: The `Origin` header; None: not a browser's script.
        host: The `Host` header, or HTTP/2's `:authority`.
        scheme: How the server itself is reached.

    Raises:
        ForeignRequest: It is not to be served.
    """
    if config.development and not _is_loopback_host(host):
        raise ForeignRequest(f"in development mode the Host must be a loopback name, not {host!r}")
    own = None if host is None else f"{scheme}://{host}".lower()
    if origin is not None and not _is_allowed(config, origin.lower(), own):
        raise ForeignRequest(f"origin {origin!r} is not allowed; list it in allowed_origins")


def _is_loopback_host(host: str | None) -> bool:
    parts = _HOST(host or "")
    return parts is not None and is_loopback(parts[1])


def _is_allowed(config: Config, origin: str, own: str | None) -> bool:
    return (
        origin == own
        or any(origin == allowed.lower() for allowed in config.allowed_origins)
        or (config.development and _LOCAL_PAGE(origin) is not None)
    )
