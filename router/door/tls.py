"""TLS on the port: its certificate, and a stream that speaks it.

Only HTTP/1.1 is offered: Hypercorn's HTTP/2 announces WebSockets inside it, so browsers would open `/ws` past the
front door.
"""

from __future__ import annotations

import socket
import ssl
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import TypeAlias

import structlog
import trio
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from router.config import Config, ConfigError
from router.door.heads import Refused

log = structlog.get_logger("router.tls")


class TlsStream(trio.abc.HalfCloseableStream):
    """A connection under TLS, its handshake done. The mutable state is whether our side has ended."""

    def __init__(self, tls: trio.SSLStream[trio.SocketStream]) -> None:
        self._tls = tls
        self._transport = tls.transport_stream
        self._ended = False

    @property
    def socket(self) -> trio.socket.SocketType:
        """For the addresses."""
        return self._transport.socket

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """What comes; after `send_eof` only fit to be thrown away, for it is not decrypted any more.

        Cancellation: safe, nothing is lost.
        """
        return await (self._transport if self._ended else self._tls).receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send. Cancellation: what is out is not known; the stream is to be closed."""
        await self._tls.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As the socket says."""
        await self._tls.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Say that no more comes. A peer that says the same is waited for, so this stands under a deadline.

        Cancellation: it may be unsaid.
        """
        self._ended = True
        try:
            await self._tls.unwrap()
        except trio.BrokenResourceError:
            pass  # the peer has left, or is sending on
        await self._transport.send_eof()

    async def aclose(self) -> None:
        """Close the socket, without a word: who has something to say says it by `send_eof`."""
        await self._transport.aclose()


#: A client's connection, as the front door leads it on.
ClientStream: TypeAlias = trio.SocketStream | TlsStream


class Tls:
    """A certificate and its key. The mutable state is which: `adopt` changes it for handshakes to come."""

    def __init__(self, certificate_file: str, key_file: str) -> None:
        """Read them.

        Args:
            certificate_file: The chain, PEM, the server's own certificate first.
            key_file: Its private key, PEM, without a passphrase.

        Raises:
            ConfigError: One of them is missing or no good, or they do not belong together.
        """
        self._file = certificate_file
        self._context, self._expires = _context(certificate_file, key_file)

    def tell(self) -> None:
        """Say in the log which certificate is in use from now on."""
        log.info("TLS certificate read", file=self._file, expires=self._expires.isoformat())

    def adopt(self, other: Tls) -> None:
        """Use another one's certificate and key from now on; existing connections keep theirs."""
        self._file, self._context, self._expires = other._file, other._context, other._expires
        self.tell()

    async def shake_hands(self, stream: trio.SocketStream, within_s: float) -> TlsStream:
        """Begin TLS on a connection.

        Raises:
            Refused: The peer speaks plain HTTP; the answer to it is plain, too.
            trio.BrokenResourceError: The handshake failed, or took longer than `within_s` seconds.

        Cancellation: the stream is to be closed.
        """
        tls = trio.SSLStream(stream, self._context, server_side=True, https_compatible=True)
        with trio.move_on_after(within_s):
            if (await stream.socket.recv(1, socket.MSG_PEEK)).isalpha():
                detail = "this port speaks TLS: use https:// or wss://"
                raise Refused(HTTPStatus.BAD_REQUEST, "invalid_message", detail)
            try:
                await tls.do_handshake()
            except trio.BrokenResourceError as error:
                log.debug("a TLS handshake failed", reason=str(error.__cause__ or error))
                raise
            log.debug("a TLS handshake is done", version=tls.version(), application=tls.selected_alpn_protocol())
            return TlsStream(tls)
        raise trio.BrokenResourceError("the TLS handshake took too long")


def make_tls(config: Config) -> Tls | None:
    """TLS as configured; None: the port speaks plain HTTP.

    Raises:
        ConfigError: It cannot be used.
    """
    if config.tls_certificate_file is None and config.tls_key_file is None:
        return None
    if config.tls_certificate_file is None or config.tls_key_file is None:
        raise ConfigError("tls_certificate_file and tls_key_file go together: set both, or neither")
    return Tls(config.tls_certificate_file, config.tls_key_file)


def _context(certificate_file: str, key_file: str) -> tuple[ssl.SSLContext, datetime]:
    certificate, key = f"tls_certificate_file {certificate_file!r}", f"tls_key_file {key_file!r}"
    chain, private = _read(certificate, certificate_file), _read(key, key_file)
    try:
        own, *_ = x509.load_pem_x509_certificates(chain)
    except ValueError:
        raise ConfigError(f"{certificate} cannot be used: it holds no PEM certificate, or a broken one") from None
    try:
        load_pem_private_key(private, password=None)
    except TypeError:
        raise ConfigError(f"{key} cannot be used: it has a passphrase; store it without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{key} cannot be used: it holds no PEM private key, or a broken one") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate_file, key_file)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise ConfigError(f"{certificate} and {key} cannot be used together: {reason}") from None
    return context, own.not_valid_after_utc


def _read(label: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{label} cannot be read: {reason}") from None
