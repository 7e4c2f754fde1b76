"""A router's channels in a terminal: its figures, the latest events, what was lost, and how the connection is.

Beside a router (`make run`):

    python examples/terminal_monitor.py             # the whole screen, until Ctrl-C
    python examples/terminal_monitor.py --once      # what there is now
    python examples/terminal_monitor.py | grep log  # a line for each event

The router is `NEUROGRAPH_URL`, or the argument; `NEUROGRAPH_TOKEN` is the token to sign in with.
"""

import argparse
import asyncio
import os
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from neurograph_ws_client import Channel, Event, Gap, MetricsEvent, NeurographError, NeurographWSClient, State
from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

#: Shown with their latest events, from the top.
CHANNELS = (Channel.SIGNALS, Channel.ACTIONS, Channel.LOGS)
#: Events kept of each, and points of each curve.
KEPT = 40
REDRAW_S = 0.25
COLOURS = {State.OPEN: "green", State.CLOSED: "red"}
LEVELS = {"debug": "dim", "info": "cyan", "warning": "yellow", "error": "red", "critical": "bold red"}
BARS = "▁▂▃▄▅▆▇█"

Line = tuple[str, str, str, str]


class Monitor:
    """What is known of a router, and how it looks.

    Attributes:
        over: There is nothing more to show.
    """

    def __init__(self, client: NeurographWSClient, *, piped: bool, once: bool) -> None:
        self.over = False
        self._client = client
        self._piped = piped
        self._once = once
        self._metrics: deque[Mapping[str, Any]] = deque(maxlen=KEPT)
        self._lines: dict[str, deque[Line]] = {channel: deque(maxlen=KEPT) for channel in CHANNELS}
        self._lost = 0
        self._said = "connecting"
        client.on("connected", self._connected)
        client.on("reconnecting", self._reconnecting)
        client.on("error", self._failed)
        client.on("gap", self._gap)
        client.subscribe(Channel.METRICS, self._figures)
        client.subscribe_multiple(CHANNELS, self._event, last=KEPT)

    # What the client tells

    def _figures(self, event: MetricsEvent) -> None:
        self._metrics.append(event["data"])
        if self._piped:
            self._add("metrics", event["timestamp"], event["event_type"], _summary(event["data"]))
        self.over = self.over or self._once

    def _event(self, event: Event) -> None:
        data, style = event["data"], ""
        summary = _summary(data)
        if event["channel"] == Channel.LOGS:
            style = LEVELS.get(str(data.get("level")).lower(), "")
            summary = f"{data.get('service', '')} {data.get('message', '')}".strip()
        self._add(event["channel"], event["timestamp"], event["event_type"], summary, style)

    def _gap(self, gap: Gap) -> None:
        """It is told at its place among the events."""
        self._lost += gap["count"] or 0
        count = "some" if gap["count"] is None else f"{gap['count']:,}"
        self._add(gap["of"], "", f"{count} events lost", gap["reason"], "bold magenta")

    def _connected(self, info: Mapping[str, Any]) -> None:
        self._tell(f"as {info['user_id'] or 'nobody'} ({info['role']})")

    def _reconnecting(self, info: Mapping[str, Any]) -> None:
        self._tell(f"attempt {info['attempt']} in {info['delay']:.1f} s: {info['error']}")

    def _failed(self, error: NeurographError) -> None:
        self._tell(str(error))

    def _tell(self, text: str) -> None:
        self._said = text
        if self._piped:
            self._add("connection", "", str(self._client.state), text)

    def _add(self, channel: str, timestamp: str, kind: str, text: str, style: str = "") -> None:
        clock, kind, text = _clock(timestamp), _printable(kind), _printable(text)
        if channel in self._lines:
            self._lines[channel].append((clock, kind, text, style))
        if self._piped and not self.over:
            try:
                print(clock, channel, kind, text, sep="\t", flush=True)
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                self.over = True

    # How it looks

    def screen(self) -> RenderableType:
        """All of it, in the size of the terminal."""
        layout = Layout()
        layout.split_column(
            Layout(self._connection(), size=3), Layout(self._curves(), size=7),
            *(Layout(Panel(_Tail(lines), title=name, title_align="left"), name=name)
              for name, lines in self._lines.items()),
        )  # fmt: skip
        return layout

    def page(self) -> RenderableType:
        """All of it, as long as it is."""
        events = (
            Panel(_table(list(lines)[-8:]), title=name, title_align="left") for name, lines in self._lines.items()
        )
        return Group(self._connection(), self._curves(), *events)

    def _connection(self) -> RenderableType:
        info = self._client.get_connection_info()
        text = Text.assemble(
            ("● ", COLOURS.get(info["state"], "yellow")), (f"{info['state']}", "bold"), f"  {_printable(self._said)}",
            (f"   reconnects {info['reconnects']}", "dim"),
            (f"   lost {self._lost:,}", "bold magenta" if self._lost else "dim"),
            no_wrap=True, overflow="ellipsis",
        )  # fmt: skip
        return Panel(text, title=info["url"], title_align="left")

    def _curves(self) -> RenderableType:
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, style="cyan")
        for name, field, unit in (
            ("CPU", "cpu_percent", "%"), ("memory", "memory_mb", "MB"), ("events", "events_per_sec", "/s"),
            ("deliveries", "deliveries_per_sec", "/s"), ("connections", "total_connections", ""),
        ):  # fmt: skip
            values = [float(figures.get(field) or 0) for figures in self._metrics]
            table.add_row(name, f"{values[-1]:,.5g} {unit}" if values else "–", _curve(values))
        return Panel(table, title="metrics", title_align="left")


class _Tail:
    """The last lines, as many as there is room for."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = list(lines)

    def __rich_console__(self, console: Console, options: Any) -> Any:
        yield _table(self._lines[-(options.height or KEPT) :])


def _table(lines: Iterable[Line]) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(style="dim", no_wrap=True, width=8)
    table.add_column(no_wrap=True, max_width=32)
    table.add_column(no_wrap=True, ratio=1)
    for *cells, style in lines:
        table.add_row(*(Text(cell, overflow="ellipsis", style=style) for cell in cells))
    return table


def _curve(values: list[float]) -> str:
    most = max(values, default=0) or 1
    return "".join(BARS[round(value / most * (len(BARS) - 1))] for value in values)


def _summary(data: Mapping[str, Any]) -> str:
    return "  ".join(f"{name}={value}" for name, value in data.items())


def _clock(timestamp: str) -> str:
    return (datetime.fromisoformat(timestamp) if timestamp else datetime.now()).astimezone().strftime("%H:%M:%S")


def _printable(text: str) -> str:
    """Without what would move a terminal's cursor: events come from strangers."""
    return "".join(character if character.isprintable() else "�" for character in text)


async def watch(url: str, token: str | None, *, once: bool) -> None:
    """Show it until it is over."""
    console = Console()
    piped = not once and not console.is_terminal
    client = NeurographWSClient(url, token)
    monitor = Monitor(client, piped=piped, once=once)
    if once:
        await client.connect()  # rather than trying again and again
    running = asyncio.create_task(client.run_forever())
    with Live(console=console, screen=True, auto_refresh=False) if not (once or piped) else console as shown:
        while not running.done():
            if isinstance(shown, Live):
                shown.update(monitor.screen(), refresh=True)
            if monitor.over:
                if once:
                    console.print(monitor.page())
                await client.disconnect()
            await asyncio.wait([running], timeout=REDRAW_S)
    await running


def main() -> int:
    """Read the arguments, and show the router."""
    parser = argparse.ArgumentParser(description="Show a router's channels.")
    parser.add_argument("url", nargs="?", default=os.environ.get("NEUROGRAPH_URL") or "ws://127.0.0.1:8000/ws")
    parser.add_argument("--once", action="store_true", help="show what there is now, and end")
    arguments = parser.parse_args()
    try:
        asyncio.run(watch(arguments.url, os.environ.get("NEUROGRAPH_TOKEN") or None, once=arguments.once))
    except (NeurographError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
