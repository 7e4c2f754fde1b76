"""Where a JWK set comes from: a file or an http(s) address, read within limits of time and size."""

import time
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Final, Protocol
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import structlog

from router.auth.jwk_set import parse
from router.auth.keys import KeyConfigError, VerifyKey

MAX_BYTES: Final = 1024 * 1024  # of one JWK set; a large provider's is about 10 KiB
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_log = structlog.get_logger("router.auth")


class _Readable(Protocol):
    def read1(self, size: int, /) -> bytes: ...


def read_limited(stream: _Readable, *, within_s: float, clock: Callable[[], float] = time.monotonic) -> bytes:
    """Read a stream to its end, but no more than `MAX_BYTES` and no longer than `within_s` seconds.

    The time is looked at after each piece: a socket's own timeout counts from the last byte, and a byte now and
    then would hold the thread for ever.

    Raises:
        ValueError: It is larger.
        TimeoutError: It takes longer.
    """
    deadline = clock() + within_s
    content = bytearray()
    while piece := stream.read1(64 * 1024):
        content += piece
        if len(content) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        if clock() > deadline:
            raise TimeoutError(f"not whole after {within_s:g} s")
    return bytes(content)


class SameSchemeRedirects(HTTPRedirectHandler):
    """Follows a redirect within its scheme or up to https, and no other.

    urllib would follow one to `ftp:`, and one from https down to http, where anyone on the way can put in keys.
    """

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """See `urllib.request.HTTPRedirectHandler`; raises HTTPError where the new address is refused."""
        if urlsplit(newurl).scheme not in ("https", req.type):
            raise HTTPError(req.full_url, code, "a redirect to another scheme is refused", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def load(
    location: str, name: str, timeout_s: float, allowed: tuple[str, ...]
) -> tuple[tuple[VerifyKey, ...], tuple[str, ...]]:
    """Fetch and read a JWK set from a file or an address; blocks, call it in a thread.

    Args:
        location: A file path or an http(s) URL.
        name: What messages call it.
        timeout_s: For the connection, for each wait for bytes, and for the whole answer.
        allowed: See `router.auth.jwk_set.parse`.

    Raises:
        KeyConfigError: It cannot be had or used.
    """
    try:
        if "://" in location:
            # Only http and https get here, and a redirect leads to nothing else.
            request = Request(location, headers={"Accept": "application/jwk-set+json, application/json"})  # noqa: S310
            with build_opener(SameSchemeRedirects).open(request, timeout=timeout_s) as response:
                document = read_limited(response, within_s=timeout_s)
        else:
            with Path(location).open("rb") as file:
                document = read_limited(file, within_s=timeout_s)
        return parse(document, allowed)
    except (OSError, HTTPException, ValueError) as exc:
        raise KeyConfigError(f"jwks: {name}: {_why(exc)}; check the setting and that this host can read it") from None


def _why(exc: Exception) -> str:
    """Say what went wrong without the address, which may hold an API key in its query."""
    if isinstance(exc, HTTPError):
        with exc:  # it holds the connection
            return f"HTTP status {exc.code} ({exc.reason})"
    if isinstance(exc, HTTPException):
        return type(exc).__name__
    return str(getattr(exc, "reason", None) or getattr(exc, "strerror", None) or exc)


def checked_name(location: str) -> str:
    """Check where a set is to come from; return its name for messages: the address without its query.

    Raises:
        KeyConfigError: It is neither a path nor an http(s) address without a password.
    """
    if not location:
        raise KeyConfigError("jwks: empty; give a file path or an http(s) address, or leave it out")
    if "://" not in location:
        return location
    try:
        parts = urlsplit(location)
    except ValueError:
        raise KeyConfigError("jwks: not an address; give a file path or an http(s) address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise KeyConfigError("jwks: only http:// and https:// addresses and file paths can be read")
    if "@" in parts.netloc:
        raise KeyConfigError("jwks: an address with a user name or password cannot be used; remove it")
    name = f"{parts.scheme}://{parts.netloc}{parts.path}"
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        _log.warning("jwks is fetched without TLS", source=name, advice="use https: anyone on the way can put in keys")
    return name
