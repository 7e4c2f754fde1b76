"""One WebSocket, without I/O: bytes of the socket in, texts out, and the other way round.

It stands on the core of `websockets` that does no I/O either, and adds what this contract needs: text messages only,
put together from their fragments, and one reason why it ended.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple
from urllib.parse import unquote_plus, urlencode

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidMessage, InvalidStatus, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI, parse_uri

from neurograph_ws_client.codes import CloseCode
from neurograph_ws_client.errors import ConnectError

SUBPROTOCOL: Final = Subprotocol("neurograph.v1")
#: No message of a server is longer: a longer one is a mistake, or an attack.
MAX_INBOUND_BYTES: Final = 16 << 20
#: Of a status that a server or proxy answers while it is starting, or too busy.
_RETRY_STATUS: Final = frozenset({408, 425, 429})
_STATUSES: Final = {
    401: "it wants a token, or a better one",
    403: "it does not serve this origin or role",
    404: "no router is at this path; it is /ws",
    426: "it did not take the request for a WebSocket's",
}
_TEXT, _CONT, _BINARY = Opcode.TEXT, Opcode.CONT, Opcode.BINARY
# The library would log the headers, and with them the token.
_SILENT: Final = logging.Logger("neurograph_ws_client.silent", logging.CRITICAL + 1)

Payload = bytes | bytearray


class Close(NamedTuple):
    """Why a connection ended.

    `ours`: the client found the fault, so the table of codes does not apply.
    """

    code: int
    reason: str
    ours: bool = False


class Address:
    """Where the router is.

    Args:
        url: `ws://` or `wss://`; without a path it is `/ws`.

    Raises:
        ValueError: It is not such a URL.
        TypeError: It is not a string.
    """

    def __init__(self, url: str) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url: it must be a string (got {url!r}), such as ws://127.0.0.1:8000/ws")
        try:
            self.uri = parse_uri(url)
        except (InvalidURI, ValueError) as error:
            # Any other text may repeat a part of the URL, such as half of a password.
            reason = error.msg if isinstance(error, InvalidURI) else "the host or the port cannot be read"
            raise ValueError(
                f"url: not a router's address ({reason}); write it as ws://127.0.0.1:8000/ws or wss://…"
            ) from None
        if self.uri.path in ("", "/"):
            self.uri.path = "/ws"
        fields = [field.partition("=") for field in self.uri.query.split("&")]
        #: The one in the query, which is not sent there: a URL ends up in logs.
        self.token = next((unquote_plus(value) for name, _, value in fields if _is_token(name) and value), None)
        self.uri.query = "&".join("".join(field) for field in fields if not _is_token(field[0]))
        host = f"[{self.uri.host}]" if ":" in self.uri.host else self.uri.host
        #: As people may see it: without user, password and query, in which there may be a token.
        self.shown = f"{'wss' if self.uri.secure else 'ws'}://{host}:{self.uri.port}{self.uri.path}"

    def resuming(self, reconnection_token: str | None) -> WebSocketURI:
        """The URI to open, to resume a session or, with None, to begin one."""
        uri = self.uri
        more = {"reconnection_token": reconnection_token, "resume": "1"} if reconnection_token is not None else {}
        query = "&".join(filter(None, (uri.query, urlencode(more))))
        return WebSocketURI(uri.secure, uri.host, uri.port, uri.path, query, uri.username, uri.password)


def _is_token(name: str) -> bool:
    return unquote_plus(name) == "token"


class Wire:
    """One connection. After each call, `take` what is to be sent.

    Args:
        uri: What to open.
        token: The JWT to come with.
    """

    def __init__(self, uri: WebSocketURI, token: str | None) -> None:
        self._protocol = ClientProtocol(uri, subprotocols=[SUBPROTOCOL], max_size=MAX_INBOUND_BYTES, logger=_SILENT)
        request = self._protocol.connect()
        if token is not None:
            if "Authorization" in request.headers:
                del request.headers["Authorization"]
            request.headers["Authorization"] = f"Bearer {token}"
        self._protocol.send_request(request)
        self._parts: list[Payload] = []
        #: The handshake has succeeded, and no close is under way.
        self.open = False
        #: Why it ended; None: it has not.
        self.ended: Close | None = None

    def receive(self, data: bytes) -> list[Payload]:
        """Take bytes of the socket, as many as there are. Returns the texts that are whole now, not decoded.

        Raises:
            ConnectError: The server does not accept a WebSocket.
        """
        protocol = self._protocol
        protocol.receive_data(data)
        texts: list[Payload] = []
        for event in protocol.events_received():
            if not isinstance(event, Frame):
                continue  # the answer to the handshake, which is looked at below
            opcode = event.opcode
            if opcode is _TEXT and event.fin:
                texts.append(event.data)  # type: ignore[arg-type]  # a parsed frame's data are a bytearray
            elif opcode is _TEXT or opcode is _CONT:
                self._parts.append(event.data)  # type: ignore[arg-type]  # as above
                if event.fin:
                    texts.append(b"".join(self._parts))
                    self._parts.clear()
            elif opcode is _BINARY:
                self.fail(CloseCode.UNSUPPORTED_DATA, "the server sent a binary message")
                break
        if not self.open or protocol.state is not State.OPEN:
            self._look()
        return texts

    def receive_eof(self) -> None:
        """The socket has ended.

        Raises:
            ConnectError: That was before the server accepted a WebSocket.
        """
        self._protocol.receive_eof()
        self._look()
        self._end(CloseCode.ABNORMAL, "the connection was cut")

    def send(self, text: bytes) -> None:
        """Send a text."""
        self._protocol.send_text(text)

    def pong(self) -> None:
        """Send a pong that nobody asked for: a sign of life."""
        self._protocol.send_pong(b"")

    def close(self, reason: str = "") -> None:
        """Begin to close, with 1000; it has ended when the server's close frame comes."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode.NORMAL, reason)
        self.open = False

    def fail(self, code: int, reason: str) -> None:
        """End it because the server broke the rules."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code)
        self._end(code, reason, ours=True)

    def abandon(self, reason: str) -> None:
        """End it without a word to a server that would not hear it."""
        self._end(CloseCode.ABNORMAL, reason, ours=True)

    @property
    def has_output(self) -> bool:
        """There is something to `take`."""
        return bool(self._protocol.writes)

    def take(self) -> bytes:
        """What is to be sent now."""
        return b"".join(self._protocol.data_to_send())

    def _look(self) -> None:
        """See what the protocol makes of what came last."""
        protocol = self._protocol
        if protocol.handshake_exc is not None:
            raise _refusal(protocol.handshake_exc)
        if protocol.state is State.OPEN:
            self.open = True
        elif protocol.close_rcvd is not None:
            self._end(protocol.close_rcvd.code, protocol.close_rcvd.reason)
        elif protocol.parser_exc is not None and not isinstance(protocol.parser_exc, EOFError):
            code = protocol.close_sent.code if protocol.close_sent is not None else CloseCode.PROTOCOL_ERROR
            self._end(code, f"the server broke the rules of WebSocket: {protocol.parser_exc}", ours=True)

    def _end(self, code: int, reason: str, *, ours: bool = False) -> None:
        """It has ended; the first reason counts."""
        self.open = False
        if self.ended is None:
            self.ended = Close(int(code), reason, ours)


def _refusal(error: Exception) -> ConnectError:
    """Say what became of the handshake."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        why = _STATUSES.get(status, error.response.reason_phrase or "no WebSocket")
        reason = f"the server answered HTTP {status}: {why}"
        return ConnectError(reason, status=status, retry=status >= 500 or status in _RETRY_STATUS)
    if isinstance(error, InvalidMessage):
        if isinstance(error.__cause__, EOFError):
            return ConnectError("the server hung up before it answered")
        return ConnectError("it does not answer as a WebSocket server; does it want wss://?", retry=False)
    return ConnectError(f"the server's handshake is not right: {error}", retry=False)
