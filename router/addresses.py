"""Whose request it is: the peer's address or, where a trusted proxy speaks for others, the address that it gives.

A proxy appends the address it was called from to `X-Forwarded-For`, so the list is read from its end, for as long as
those who wrote it are trusted: what stands before the first stranger is that stranger's word and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]


def networks(listed: Iterable[str]) -> Networks:
    """Parse addresses and networks.

    Raises:
        ValueError: One of them is neither.
    """
    return tuple(ip_network(each, strict=False) for each in listed)


def client_address(peer: str, forwarded_for: Iterable[str], trusted: Networks) -> str:
    """The address that a request came from.

    Args:
        peer: The other end of the connection.
        forwarded_for: The request's `X-Forwarded-For` headers, in order.
        trusted: The proxies that are believed.
    """
    address = peer
    given = [item.strip() for value in forwarded_for for item in value.split(",")]
    while given and _is_in(address, trusted):
        parsed = _parse(given.pop())
        if parsed is None:
            break  # a name for something that has no address: the proxy is the nearest that is known
        address = str(parsed)
    return address


def host_in_url(host: str) -> str:
    """A host name or address as a URL has it: an IPv6 address stands in brackets."""
    return f"[{host}]" if ":" in host else host


def is_trusted(peer: str, trusted: Networks) -> bool:
    """Whether the other end of a connection is a proxy that is believed."""
    return _is_in(peer, trusted)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request.

    Attributes:
        address: Where it comes from.
        scheme: `https` or `http`: how it left there.
    """

    address: str
    scheme: str


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection: a caller, or a proxy that speaks for many.

    Attributes:
        address: Its own.
        scheme: How it is connected.
        trusted: The proxies that are believed.
    """

    address: str
    scheme: str
    trusted: Networks = ()

    def caller(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """Who makes a request with these headers; their names in lower case."""
        if not is_trusted(self.address, self.trusted):
            return Caller(self.address, self.scheme)
        given = [(name, value.decode("latin-1")) for name, value in headers if name.startswith(b"x-forwarded-")]
        address = client_address(self.address, _values(given, b"x-forwarded-for"), self.trusted)
        scheme = ",".join(_values(given, b"x-forwarded-proto")).rpartition(",")[2].strip().lower()
        return Caller(address, scheme if scheme in ("http", "https") else self.scheme)


def _values(headers: Iterable[tuple[bytes, str]], wanted: bytes) -> list[str]:
    return [value for name, value in headers if name == wanted]


def _is_in(address: str, trusted: Networks) -> bool:
    parsed = _parse(address) if trusted else None
    return parsed is not None and any(parsed in network for network in trusted)


def _parse(text: str) -> _Address | None:
    """An address, with or without brackets, port or zone; an IPv4-mapped IPv6 address becomes the IPv4 one."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
