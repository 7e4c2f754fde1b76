"""Request heads, the first thing on a connection: read under a deadline, parsed, refused where they are bad."""

from __future__ import annotations

import base64
import binascii
import re
from http import HTTPStatus

import h11
import trio

from router.rest.problems import ProblemError

READ_BYTES = 64 * 1024
_HEAD_END = b"\r\n\r\n"
#: What begins HTTP/2 (RFC 9113 section 3.4), as far as it looks like a request.
_HTTP2_PREFACE = (b"PRI", b"*", b"2.0")
#: The one request that has no path (RFC 9112 section 3.2.4).
_ASTERISK = (b"OPTIONS", b"*")
_KEY_BYTES = 16
#: A target as proxies are sent it (RFC 9112 section 3.2.2): authority, and what an origin server is sent.
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL).fullmatch
#: A path as an origin server is sent it. What begins with two slashes is to others a host.
_PATH = re.compile(rb"/(?!/)").match
#: What the HTTP library says of bytes, as Python writes them.
_BYTES = re.compile(r":? (bytearray\()?b['\"].*", re.DOTALL)


class Refused(Exception):
    """A request that is answered at the front door, by a problem document and a close."""

    def __init__(self, status: HTTPStatus, code: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}


async def read_head(stream: trio.abc.ReceiveStream, max_bytes: int, within_s: float, begun: bytes = b"") -> bytes:
    """Read a request head, and what came with it.

    Args:
        stream: The connection.
        max_bytes: Of the head alone.
        within_s: How long it may take to be whole.
        begun: What was read of it already.

    Returns:
        The bytes; empty where the peer left before its head was whole.

    Raises:
        Refused: It is too large, not whole in time, or no HTTP, as that of TLS.

    Cancellation: what was read is lost; the stream is to be closed.
    """
    head = bytearray(begun)
    look_from = 0
    with trio.move_on_after(within_s):
        while True:
            if head.startswith((b"\r", b"\n")):
                head = head.lstrip(b"\r\n")  # some clients end a body by an empty line (RFC 9112 section 2.2)
            if head and not _may_be_http(head):
                raise _bad_request(
                    "this is not an HTTP request; if it was meant for TLS, that is spoken here only where "
                    "tls_certificate_file and tls_key_file are set"
                )
            end = head.find(_HEAD_END, look_from)
            if (end if end >= 0 else len(head)) > max_bytes:
                detail = f"the request head is over {max_bytes} bytes"
                raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "payload_too_large", detail)
            if end >= 0:
                return bytes(head)
            look_from = max(0, len(head) - len(_HEAD_END) + 1)
            data = await stream.receive_some(READ_BYTES)
            if not data:
                return b""
            head += data
    detail = f"the request head was not whole within {within_s:g} s"
    raise Refused(HTTPStatus.REQUEST_TIMEOUT, "timeout", detail)


def _may_be_http(head: bytearray) -> bool:
    line, line_end, _ = head.partition(b"\r\n")
    return line[:1].isalpha() and (not line_end or b" HTTP/" in line)


def end_of(head: bytes) -> int:
    """Where a head ends, and what came with it begins."""
    return head.index(_HEAD_END) + len(_HEAD_END)


def parse_head(head: bytes) -> h11.Request:
    """The request of a head.

    Raises:
        Refused: It is none of HTTP/1.0 or 1.1, nor HTTP/2's preface; or it is not clear what it asks for, or who asks.
    """
    head = head[: end_of(head)]
    if head.count(b"\n") != head.count(b"\r\n"):
        raise _bad_request("a line of the head ends without a carriage return")  # others may see its end elsewhere
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError as error:
        detail = f"bad request: {_BYTES.sub('', str(error))}"
        raise Refused(HTTPStatus(error.error_status_hint), "invalid_message", detail) from None
    assert isinstance(request, h11.Request), "a whole head is a request or an error"
    if not begins_http2(request):
        _check(request)
    return request


def _check(request: h11.Request) -> None:
    if request.http_version not in (b"1.0", b"1.1"):
        raise not_spoken(request.http_version.decode())
    if request.method == b"CONNECT":
        text = "this server is not a proxy: CONNECT is not possible"
        raise Refused(HTTPStatus.NOT_IMPLEMENTED, "invalid_message", text)
    if not (_PATH(request.target) or _ABSOLUTE(request.target) or (request.method, request.target) == _ASTERISK):
        target = request.target[:64].decode()
        raise _bad_request(f"the target must be a path that begins with one slash, or a URL, not {target!r}")
    if values(request, b"transfer-encoding") and values(request, b"content-length"):
        raise _bad_request("Transfer-Encoding and Content-Length do not go together")  # who is behind may choose
    if len(values(request, b"authorization")) > 1:
        raise _bad_request("Authorization must be given once")


def to_origin_form(head: bytes, request: h11.Request) -> tuple[bytes, h11.Request]:
    """A head and its request, the target made a path where it came in a proxy's form: `http://host/path`.

    Raises:
        Refused: The target names another host than the header: it is not clear who is meant.
    """
    absolute = _ABSOLUTE(request.target)
    if absolute is None:
        return head, request
    authority, path = absolute.groups()
    if [authority.lower()] != [host.lower() for host in values(request, b"host")]:
        raise _bad_request("the target's host and the header Host must be the same")
    path = path if path.startswith(b"/") else b"/" + path
    head = head.replace(b" " + request.target + b" ", b" " + path + b" ", 1)
    return head, parse_head(head)


def begins_http2(request: h11.Request) -> bool:
    """Whether HTTP/2 follows: the request is its preface. An upgrade is not offered, for a proxy may let it pass."""
    return (request.method, request.target, request.http_version) == _HTTP2_PREFACE


def not_spoken(version: str, where: str = "here") -> Refused:
    """The refusal of a version of HTTP."""
    return Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "invalid_message", f"HTTP/{version} is not spoken {where}")


def _has_body(request: h11.Request) -> bool:
    return bool(values(request, b"transfer-encoding")) or values(request, b"content-length") not in ([], [b"0"])


def wants_websocket(request: h11.Request) -> bool:
    """Whether a request asks for the upgrade to a WebSocket, rightly or not."""
    return any(b"websocket" in value.lower() for value in values(request, b"upgrade"))


def values(request: h11.Request, name: bytes) -> list[bytes]:
    """The values of a header, `name` in lower case; it may stand in a request more than once."""
    return [value for each, value in request.headers if each == name]


def check_upgrade(request: h11.Request) -> None:
    """Check what RFC 6455 section 4.2.1 asks of a handshake, and what the WebSocket library cannot handle.

    Raises:
        Refused: It is not valid.
    """
    if request.http_version != b"1.1":
        detail = "a WebSocket needs HTTP/1.1"
        raise Refused(HTTPStatus.UPGRADE_REQUIRED, "upgrade_required", detail, {"Upgrade": "websocket"})
    if request.method != b"GET":
        detail = "a WebSocket is opened by GET"
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", detail, {"Allow": "GET"})
    if [value.lower() for value in values(request, b"upgrade")] != [b"websocket"]:
        raise _bad_request("Upgrade must be websocket and nothing else")
    if b"upgrade" not in _tokens(values(request, b"connection")):
        raise _bad_request("Connection: Upgrade is missing; a proxy on the way may have dropped it")
    version = values(request, b"sec-websocket-version")
    if version != [b"13"]:
        status = HTTPStatus.UPGRADE_REQUIRED if version else HTTPStatus.BAD_REQUEST
        headers = {"Sec-WebSocket-Version": "13"}
        raise Refused(status, "invalid_message", "Sec-WebSocket-Version must be 13", headers)
    if not _is_key(values(request, b"sec-websocket-key")):
        raise _bad_request("Sec-WebSocket-Key must be 16 bytes in base64, once")
    if _has_body(request):
        raise _bad_request("a handshake has no body")
    _check_text(request)


def _check_text(request: h11.Request) -> None:
    for name, value in request.headers:
        if not value.isascii() and (name in (b"connection", b"host") or name.startswith(b"sec-websocket-")):
            raise _bad_request(f"{name.decode()} must be ASCII")
    try:
        values(request, b"host")[0].decode("idna")
    except UnicodeError:
        raise _bad_request("invalid Host") from None


def _tokens(listed: list[bytes]) -> set[bytes]:
    return {token.strip().lower() for value in listed for token in value.split(b",")}


def _is_key(keys: list[bytes]) -> bool:
    try:
        return len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def _bad_request(detail: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "invalid_message", detail)


async def refuse(stream: trio.abc.HalfCloseableStream, refused: Refused, linger_s: float) -> None:
    """Answer a request by a problem document and say that no other will be answered.

    The peer may be gone or not read: after `linger_s` seconds this ends without it. Cancellation: safe.
    """
    problem = ProblemError(refused.status, refused.detail, code=refused.code, headers=refused.headers)
    body = problem.body()
    lines = [
        f"HTTP/1.1 {refused.status.value} {refused.status.phrase}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in problem.headers.items()),
    ]
    with trio.move_on_after(linger_s):
        try:
            await stream.send_all("\r\n".join(lines).encode("latin-1") + _HEAD_END + body)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        await linger(stream, linger_s)


async def linger(stream: trio.abc.HalfCloseableStream, within_s: float) -> None:
    """Say that no more comes, then read on and discard for a while: unread input would turn the close into a reset.

    The answer would be lost with it. Cancellation: safe, nothing is lost.
    """
    with trio.move_on_after(within_s):
        try:
            await stream.send_eof()
            while await stream.receive_some(READ_BYTES):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
