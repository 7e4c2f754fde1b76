"""Who may call from a browser: the rules for `Origin` and `Host`; no I/O.

Any page a person has open can make that person's browser connect here, with their address and, in development
mode, with all rights. What tells such a request apart is its `Origin`, which the page cannot forge. A `Host` that
is no loopback name gives away a name that was bent to 127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from router.config import Config, is_loopback


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
    if config.development and (host is None or not is_loopback(_host_name(host))):
        raise ForeignRequest(f"in development mode the Host must be a loopback name, not {host!r}")
    if origin is None or origin in config.allowed_origins:
        return
    if origin != "null":
        if host is not None and origin.lower() == f"{scheme}://{host}".lower():
            return
        if config.development and _is_local_page(origin):
            return
    raise ForeignRequest(f"origin {origin!r} is not allowed; list it in allowed_origins")


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_local_page(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return False
    return parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1") and parts.path == ""
