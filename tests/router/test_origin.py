from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import Config
from router.origin import ForeignRequest, check

DEVELOPMENT = Config(allowed_origins=("https://app.example.com",))
PRODUCTION = Config(jwt_keys=("k" * 32,), allowed_origins=("https://app.example.com", "http://tools.example.com:8080"))

HERE = "127.0.0.1:8000"


def is_served(config: Config, *, origin: str | None = None, host: str | None = HERE, **more: Any) -> bool:
    try:
        check(config, origin=origin, host=host, **more)
    except ForeignRequest:
        return False
    return True


BOTH = pytest.mark.parametrize("config", [DEVELOPMENT, PRODUCTION], ids=["development", "production"])


@BOTH
def test_without_an_origin_it_is_no_browser_and_passes(config: Config) -> None:
    assert is_served(config)


@BOTH
@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("localhost:8000", "http://localhost:8000"),
        ("LOCALHOST:8000", "http://localhost:8000"),
        ("localhost:8000", "HTTP://LocalHost:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("127.0.0.2", "http://127.0.0.2"),
    ],
)
def test_the_servers_own_origin_passes(config: Config, host: str, own: str) -> None:
    assert is_served(config, origin=own, host=host)


@pytest.mark.parametrize(
    "origin",
    [
        "https://127.0.0.1:8000",
        "http://127.0.0.1",
        "http://127.0.0.1:8001",
        "http://127.0.0.1:80000",
        "http://localhost:8000",
        "ws://127.0.0.1:8000",
        "http://127.0.0.1:8000/",
    ],
)
def test_scheme_name_and_port_make_an_origin(origin: str) -> None:
    assert not is_served(PRODUCTION, origin=origin)


def test_the_scheme_is_the_one_that_the_server_is_reached_by() -> None:
    assert is_served(PRODUCTION, origin="https://router.example.com", host="router.example.com", scheme="https")
    assert not is_served(PRODUCTION, origin="http://router.example.com", host="router.example.com", scheme="https")


@pytest.mark.parametrize("origin", PRODUCTION.allowed_origins)
def test_a_listed_origin_passes(origin: str) -> None:
    assert is_served(PRODUCTION, origin=origin)
    assert is_served(PRODUCTION, origin=origin.upper())


def test_a_listed_origin_passes_as_it_is_written_in_the_list() -> None:
    assert is_served(
        Config(jwt_keys=("k",), allowed_origins=("https://App.Example.com",)), origin="https://app.example.com"
    )


@BOTH
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.com",
        "https://app.example.com.evil.com",
        "https://app.example.com:8443",
        "http://app.example.com",
        "app.example.com",
        "https://app.example.com/",
        "https://app.example.com, https://evil.example.com",
        "chrome-extension://abcdefgh",
        "file://",
        "",
        " ",
        "*",
        "http://",
        "http://[::1",
        "://",
        "\0",
        "ünï",
    ],
)
def test_any_other_origin_is_refused(config: Config, origin: str) -> None:
    assert not is_served(config, origin=origin)


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "http://localhost:3000",
        "http://LOCALHOST:3000",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "http://[::1]",
        "http://[::1]:65535",
    ],
)
def test_in_development_a_page_of_this_machine_passes(origin: str) -> None:
    assert is_served(DEVELOPMENT, origin=origin)
    assert not is_served(PRODUCTION, origin=origin)


@pytest.mark.parametrize(
    "origin",
    [
        "https://localhost:3000",
        "http://localhost:",
        "http://localhost:x",
        "http://localhost:3000/",
        "http://localhost/page",
        "http://localhost?x",
        "http://localhost#x",
        "http://localhost.evil.com",
        "http://localhost@evil.com",
        "http://me@localhost",
        "http://evil.com:80@localhost",
        "http://127.0.0.2",
        "http://127.1",
        "http://127.0.0.1.evil.com",
        "http://127x0x0x1",
        "http://::1",
        "http://[::2]",
        "http://[::1].evil.com",
        "http://0.0.0.0",
        "xhttp://localhost",
        "http://localhost\n",
    ],
)
def test_in_development_what_only_looks_like_this_machine_is_refused(origin: str) -> None:
    assert not is_served(DEVELOPMENT, origin=origin)


@BOTH
def test_null_counts_only_where_it_is_listed(config: Config) -> None:
    assert not is_served(config, origin="null")
    assert is_served(Config(jwt_keys=config.jwt_keys, allowed_origins=("null",)), origin="null")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LocalHost",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.255.255.254:8000",
        "[::1]",
        "[::1]:8000",
        "[0:0:0:0:0:0:0:1]:8000",
        "localhost:",
    ],
)
def test_in_development_a_loopback_host_is_served(host: str) -> None:
    assert is_served(DEVELOPMENT, host=host)


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        ":8000",
        "evil.com",
        "evil.com:8000",
        "127.0.0.1.evil.com",
        "127.evil.com",
        "127.1",
        "localhost.evil.com",
        "localhost.",
        "localhost@evil.com",
        "evil.com@localhost",
        "localhost/x",
        "localhost:8000:8000",
        "localhost:x",
        "0.0.0.0:8000",
        "192.168.0.1",
        "[::2]:8000",
        "[::1",
        "[::1]8000",
        "[localhost.evil]",
        "::1",
        "router.example.com",
        "localhost\n",
    ],
)
def test_in_development_any_other_host_is_refused_as_a_bent_name(host: str | None) -> None:
    assert not is_served(DEVELOPMENT, host=host)
    assert not is_served(DEVELOPMENT, host=host, origin=f"http://{host}")


@pytest.mark.parametrize("host", ["router.example.com", "router.example.com:8000", None, "", "10.0.0.1"])
def test_in_production_the_host_is_free(host: str | None) -> None:
    assert is_served(PRODUCTION, host=host)


@pytest.mark.parametrize("origin", ["http://none", "http://None", "http://"])
def test_where_there_is_no_host_no_origin_is_the_servers_own(origin: str) -> None:
    assert not is_served(PRODUCTION, host=None, origin=origin)


def test_insecure_is_not_development() -> None:
    insecure = Config(insecure=True)
    assert is_served(insecure, host="10.0.0.1:8000", origin="http://10.0.0.1:8000")
    assert not is_served(insecure, host="10.0.0.1:8000", origin="http://localhost:3000")


def test_a_refusal_says_what_was_wrong_and_what_to_do() -> None:
    with pytest.raises(ForeignRequest, match=r"'https://evil\.com' is not allowed; list it in allowed_origins"):
        check(PRODUCTION, origin="https://evil.com", host=HERE)
    with pytest.raises(ForeignRequest, match=r"the Host must be a loopback name, not 'evil\.com'"):
        check(DEVELOPMENT, origin=None, host="evil.com")


@given(origin=st.text(), host=st.none() | st.text())
def test_no_text_does_anything_but_pass_or_be_refused(origin: str, host: str | None) -> None:
    if is_served(PRODUCTION, origin=origin, host=host):
        assert origin.lower() == f"http://{host}".lower() or origin in PRODUCTION.allowed_origins
    is_served(DEVELOPMENT, origin=origin, host=host)
