"""Addresses: who is believed about whose request it is."""

import pytest

from router.addresses import Caller, Peer, client_address, is_trusted, networks

PROXIES = networks(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"])


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.7"], "198.51.100.7"),
        ("10.1.2.3", ["198.51.100.7, 10.9.9.9"], "198.51.100.7"),
        ("10.1.2.3", ["198.51.100.7", "192.0.2.1"], "198.51.100.7"),
        ("10.1.2.3", ["1.1.1.1, 198.51.100.7, 10.9.9.9"], "198.51.100.7"),  # what a stranger says counts for nothing
        ("10.1.2.3", ["192.0.2.1,10.9.9.9"], "192.0.2.1"),  # nobody stands before the last of them
        ("198.51.100.7", ["1.1.1.1"], "198.51.100.7"),
        ("10.1.2.3", ["unknown"], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.7, _hidden, 10.9.9.9"], "10.9.9.9"),
        ("10.1.2.3", [""], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.7:4711"], "198.51.100.7"),
        ("10.1.2.3", ["[2001:db9::1]:4711"], "2001:db9::1"),
        ("10.1.2.3", ["2001:DB9:0::1"], "2001:db9::1"),
        ("2001:db8::1%eth0", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("::ffff:10.1.2.3", ["198.51.100.7"], "198.51.100.7"),
        ("local", ["198.51.100.7"], "local"),
    ],
)
def test_the_nearest_stranger_is_the_client(peer: str, forwarded_for: list[str], client: str) -> None:
    assert client_address(peer, forwarded_for, PROXIES) == client


def test_nobody_is_believed_where_nobody_is_trusted() -> None:
    assert client_address("10.1.2.3", ["198.51.100.7"], networks([])) == "10.1.2.3"
    assert not is_trusted("10.1.2.3", networks([]))


@pytest.mark.parametrize("listed", ["10.0.0.0/33", "localhost", "", "10.0.0"])
def test_what_is_no_network_is_an_error(listed: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        networks([listed])


def test_a_network_may_be_written_by_an_address_of_it() -> None:
    assert is_trusted("10.255.0.1", networks(["10.1.2.3/8"]))


FOR, PROTO = b"x-forwarded-for", b"x-forwarded-proto"


@pytest.mark.parametrize(
    ("peer", "headers", "caller"),
    [
        (Peer("10.1.2.3", "http", PROXIES), [(FOR, b"198.51.100.7"), (PROTO, b"https")], ("198.51.100.7", "https")),
        (Peer("10.1.2.3", "https", PROXIES), [(PROTO, b"HTTP")], ("10.1.2.3", "http")),
        (Peer("10.1.2.3", "http", PROXIES), [(PROTO, b"http"), (PROTO, b"http, https")], ("10.1.2.3", "https")),
        (Peer("10.1.2.3", "http", PROXIES), [(PROTO, b"gopher")], ("10.1.2.3", "http")),
        (Peer("10.1.2.3", "https", PROXIES), [(b"host", b"a")], ("10.1.2.3", "https")),
        (Peer("198.51.100.7", "http", PROXIES), [(FOR, b"1.1.1.1"), (PROTO, b"https")], ("198.51.100.7", "http")),
        (Peer("198.51.100.7", "https"), [(FOR, b"1.1.1.1"), (PROTO, b"http")], ("198.51.100.7", "https")),
    ],
)
def test_a_trusted_proxy_says_whose_request_it_is_and_how_it_came(
    peer: Peer, headers: list[tuple[bytes, bytes]], caller: tuple[str, str]
) -> None:
    assert peer.caller(headers) == Caller(*caller)
