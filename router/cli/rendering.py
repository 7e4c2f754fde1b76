"""How an event looks on standard output: as it came, on one line for people, or spread out."""

from __future__ import annotations

import re
from collections.abc import Callable

import click
import msgspec
from msgspec import Raw, Struct

from router.cli.terminal import printable

#: Makes what is printed out of an event as it came.
Renderer = Callable[[bytes], bytes]

#: Between JSON's tokens only: within a string they are escaped.
_BREAKS = re.compile(rb"[\r\n\t]+")
_KEY = re.compile(r'^(\s*)("(?:[^"\\]|\\.)*")(?=:)', re.MULTILINE)


class Event(Struct):
    """An event, with its data as they came."""

    channel: str
    event_type: str
    timestamp: str = ""
    data: Raw = Raw(b"{}")
    seq: int | None = None


_decode = msgspec.json.Decoder(Event).decode


def as_json(text: bytes) -> bytes:
    """The event as it came, on one line."""
    return _BREAKS.sub(b" ", text) + b"\n"


def as_compact(text: bytes) -> bytes:
    """Time, channel, seq, type, data: four words without spaces, then JSON."""
    event = _decode(text)
    seq = "-" if event.seq is None else event.seq
    data = _BREAKS.sub(b" ", bytes(event.data)).decode()
    return f"{event.timestamp} {event.channel} {seq} {event.event_type} {data}\n".encode()


def as_pretty(text: bytes, colour: bool) -> bytes:
    """A head line, and the data spread out; fit for a terminal, whatever the event holds."""
    event = _decode(text)
    time = event.timestamp.partition("T")[2] or event.timestamp
    words = [time, event.channel, event.event_type]
    if event.seq is not None:
        words.append(f"#{event.seq}")
    words = [printable(word) for word in words]
    data = printable(msgspec.json.format(bytes(event.data), indent=2).decode())
    if colour:
        styles = ({"dim": True}, {"fg": "cyan", "bold": True}, {"bold": True}, {"dim": True})
        words = [click.style(word, **style) for word, style in zip(words, styles, strict=False)]  # type: ignore[arg-type]
        data = _KEY.sub(lambda found: found[1] + click.style(found[2], fg="blue"), data)
    return f"{' '.join(words)}\n{data}\n".encode()


def renderer(name: str, *, colour: bool) -> Renderer:
    """The way to show events that has this name: `json`, `compact` or `pretty`."""
    if name == "pretty":
        return lambda text: as_pretty(text, colour)
    return as_json if name == "json" else as_compact
