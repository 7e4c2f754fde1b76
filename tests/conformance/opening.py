"""The opening handshake as a client sees it: its request, and the check of the answer, section 4."""

import base64
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

KEY: Final = base64.b64encode(os.urandom(16)).decode()
KEY_SUFFIX: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True)
class Response:
    """The head of the server's answer to an opening handshake; the names of its fields in lower case."""

    status: int
    fields: Mapping[str, str]


def handshake(
    port: int,
    *,
    line: str = "GET /ws HTTP/1.1",
    without: str | None = None,
    **changed: str,
) -> bytes:
    """Build a client's request: right, but for what the caller changes, adds or leaves out.

    Fields are named as in Python, `Sec_WebSocket_Version="8"`; they replace the usual ones or come after.
    """
    fields = {
        "Host": f"127.0.0.1:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    fields |= {name.replace("_", "-"): value for name, value in changed.items()}
    lines = [line, *(f"{name}: {value}" for name, value in fields.items() if name != without)]
    return "\r\n".join([*lines, "", ""]).encode()


def parse_response(head: bytes) -> Response:
    status_line, *lines = head.decode("ascii").split("\r\n")
    version, status, *_ = status_line.split(" ")
    assert version == "HTTP/1.1", status_line
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip()
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return Response(int(status), fields)


def assert_accepts(response: Response) -> None:
    """Check an answer that opens the connection, as section 4.1 has every client do."""
    assert response.status == 101, response
    assert response.fields["upgrade"].lower() == "websocket"
    tokens = [token.strip().lower() for token in response.fields["connection"].split(",")]
    assert "upgrade" in tokens, response
    digest = hashlib.sha1(KEY.encode() + KEY_SUFFIX).digest()
    assert response.fields["sec-websocket-accept"] == base64.b64encode(digest).decode()
    assert "sec-websocket-extensions" not in response.fields, "an extension nobody can have agreed to"
    assert "sec-websocket-protocol" not in response.fields, "a subprotocol nobody can have agreed to"
