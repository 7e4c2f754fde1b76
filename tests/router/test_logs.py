import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from router import logs

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1LTE3In0.c2lnbmF0dXJl-X_y"
RECONNECTION = "Zk3v9QxR_8fQ2-aBcDeFgHiJkLmNoPqRsTuVwXyZ012"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


BOTH = pytest.mark.parametrize("kind", [io.StringIO, Terminal], ids=["lines", "terminal"])


class Lines(logging.Handler):
    """What a handler of another kind makes of the records it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Put logging back as it was, for it belongs to the whole process."""
    root = logging.getLogger()
    handlers, level, config = root.handlers, root.level, structlog.get_config()
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.configure(**config)


def said(stream: io.StringIO) -> list[dict[str, Any]]:
    """The JSON lines of a stream."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def plain(stream: io.StringIO) -> str:
    """A terminal's text without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())


# Forms


def test_records_are_json_lines_where_nobody_watches() -> None:
    stream = io.StringIO()
    logs.configure("info", stream)
    structlog.get_logger("router.x").info("listening", port=8000, paths=["/ws"])
    logging.getLogger("foreign.library").warning("%d of %s", 3, "seven")
    ours, foreign = said(stream)
    for record in (ours, foreign):
        assert datetime.fromisoformat(record.pop("timestamp")).tzinfo == UTC
    assert ours == {"event": "listening", "level": "info", "logger": "router.x", "port": 8000, "paths": ["/ws"]}
    assert foreign == {"event": "3 of seven", "level": "warning", "logger": "foreign.library"}


def test_records_are_for_people_on_a_terminal() -> None:
    stream = Terminal()
    logs.configure("info", stream)
    structlog.get_logger("router.x").info("listening", port=8000)
    logging.getLogger("foreign.library").warning("%d of %s", 3, "seven")
    ours, foreign = plain(stream).splitlines()
    assert re.search(r"\[info +\] listening +\[router\.x\] port=8000$", ours)
    assert re.search(r"\[warning +\] 3 of seven +\[foreign\.library\]$", foreign)


def test_another_handler_gets_one_line_of_plain_text_for_each_record() -> None:
    stream, handler = io.StringIO(), Lines()
    logs.configure("info", stream, handler)
    structlog.get_logger("router.x").info("listening", port=8000, host="::1")
    structlog.get_logger("router.x").warning("nothing more to say")
    logging.getLogger("foreign.library").error("%d of %s", 3, "seven")
    try:
        raise ValueError("inside")
    except ValueError:
        structlog.get_logger("router.x").exception("failed", where="here")
    assert handler.lines == ["listening port=8000 host=::1", "nothing more to say", "3 of seven", "failed where=here"]
    assert len(said(stream)) == 4


@BOTH
def test_an_exception_is_told_with_its_traceback(kind: type[io.StringIO]) -> None:
    stream = kind()
    logs.configure("info", stream)
    for log in (structlog.get_logger("router.x"), logging.getLogger("foreign")):
        try:
            raise ValueError("what went wrong")
        except ValueError:
            log.exception("failed")
    text = plain(stream).replace("\\n", "\n")
    assert text.count("Traceback (most recent call last):") == 2
    assert text.count("ValueError: what went wrong") == 2
    assert text.count("test_logs.py") == 2


@pytest.mark.parametrize(("level", "shown"), [("debug", 5), ("info", 4), ("warning", 3), ("error", 2), ("critical", 1)])
def test_what_is_below_the_level_is_not_said(level: str, shown: int) -> None:
    stream, handler = io.StringIO(), Lines()
    logs.configure(level, stream, handler)
    for log in (structlog.get_logger("router.x"), logging.getLogger("foreign")):
        for name in ("debug", "info", "warning", "error", "critical"):
            getattr(log, name)("said at %s", name)
    assert [record["event"] for record in said(stream)] == handler.lines
    assert len(handler.lines) == 2 * shown
    assert handler.lines[-1] == "said at critical"


def test_configured_again_nothing_is_said_twice() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure("info", first)
    logs.configure("info", second)
    structlog.get_logger("router.x").info("once")
    assert first.getvalue() == ""
    assert len(said(second)) == 1


# Tokens

#: What a secret may stand in, wherever it comes from; `{}` is its place.
PLACES = {
    "jwt": [
        "{}",
        "the token {} is bad",
        "({})",
        '{{"sub": "{}"}}',
        "x={};y=1",
    ],
    "any": [
        "GET /ws?token={} HTTP/1.1",
        "GET /ws?heartbeat=message&token={}&resume=1",
        "/ws?reconnection_token={}",
        "/ws?RECONNECTION_TOKEN={}",
        "token={}",
        "token='{}'",
        'token="{}"',
        "Handshake(token='{}', text_heartbeat=False)",
        '{{"type":"authenticate","token":"{}"}}',
        '{{"type": "authenticate", "token" : "{}"}}',
        "{{'reconnection_token': '{}'}}",
        'b\'{{"token":"{}"}}\'',
        '"{{\\"token\\":\\"{}\\"}}"',
        '"\\"{{\\\\\\"token\\\\\\": \\\\\\"{}\\\\\\"}}\\""',
        "Authorization: Bearer {}",
        "authorization: bearer {}",
        "('authorization', 'Bearer {}')",
        "Authorization=Bearer%20{}",
        "Sec-WebSocket-Protocol: neurograph.v1, bearer.{}",
        "['neurograph.v1', 'bearer.{}']",
    ],
}
STATEMENTS = [(JWT, place) for places in PLACES.values() for place in places]
STATEMENTS += [(RECONNECTION, place) for place in PLACES["any"]]


@pytest.mark.parametrize(("secret", "place"), STATEMENTS)
def test_a_token_is_taken_out_wherever_it_stands(secret: str, place: str) -> None:
    text = place.format(secret)
    shown = logs.redact(text)
    assert secret not in shown
    assert not any(part in shown for part in secret.split("."))
    assert shown == place.format("[redacted]")
    assert logs.redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "token ignored: no key is configured",
        "the token has expired",
        "invalid token: the claim exp is missing",
        "offer the subprotocol neurograph.v1 beside bearer.<token>",
        "total_tokens=5",
        '{"total_tokens": 5, "tokens": "many"}',
        "a token is needed: Authorization: Bearer <jwt>",
        "listening port=8000 websocket=ws://127.0.0.1:8000/ws",
        "eyJ is how they begin",
    ],
)
def test_what_is_no_token_stays(text: str) -> None:
    assert logs.redact(text) == text


@pytest.mark.parametrize("more", ["", ".", ".a", ".a.b", ".a.b.c"])
def test_all_parts_of_a_token_go(more: str) -> None:
    assert logs.redact(f"<{JWT}{more}>") == "<[redacted]>"


@given(secret=st.from_regex(r"[A-Za-z0-9_-]{8,60}", fullmatch=True), place=st.sampled_from(PLACES["any"]))
def test_any_random_token_is_taken_out(secret: str, place: str) -> None:
    assert logs.redact(place.format(secret)) == place.format("[redacted]")


@given(
    st.text()
    | st.lists(st.sampled_from(["token", "=", ":", " ", '"', "'", "\\", "eyJ", ".", "bearer", "a" * 9])).map("".join)
)
def test_what_is_redacted_is_redacted(text: str) -> None:
    once = logs.redact(text)
    assert logs.redact(once) == once


@BOTH
@pytest.mark.parametrize("secret", [JWT, RECONNECTION])
def test_no_record_shows_a_token_however_it_came_into_it(kind: type[io.StringIO], secret: str) -> None:
    stream, handler = kind(), Lines()
    logs.configure("debug", stream, handler)
    message = json.dumps({"type": "authenticate", "token": secret})
    ours = structlog.get_logger("router.x")
    for log in (ours, logging.getLogger("foreign.library")):
        log.info("GET /ws?token=%s HTTP/1.1", secret)
        log.info(f"offered: bearer.{secret}")
        log.warning("got %r", message.encode())
        try:
            raise ValueError(message)
        except ValueError:
            log.exception("cannot read it")
        try:
            raise LookupError(f"session of token={secret!r}") from ValueError(f"/ws?reconnection_token={secret}")
        except LookupError as error:
            log.error("chained", exc_info=error)
    ours.info("as a value", token=secret, reconnection_token=secret)
    ours.info("inside of one", headers=[("authorization", f"Bearer {secret}")], query={"token": secret}, raw=message)
    ours.bind(token=secret).info("bound")
    text = stream.getvalue() + "\n".join(handler.lines)
    assert text.count("[redacted]") > 20
    assert secret not in text
    assert not any(part in text for part in secret.split("."))
    assert len(handler.lines) == 13


@BOTH
def test_an_exception_does_not_show_the_variables_around_it(kind: type[io.StringIO]) -> None:
    stream = kind()
    logs.configure("info", stream)
    keys = ["a-secret-that-only-a-variable-holds"]
    try:
        raise ValueError(len(keys))
    except ValueError:
        structlog.get_logger("router.x").exception("failed")
    assert keys[0] not in stream.getvalue()
