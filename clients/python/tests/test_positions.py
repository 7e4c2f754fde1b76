"""Whatever is cut wherever: each event is handed out once and in order, or a gap stands in its place."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ws_line import Line, event

TRIMMED = "history_trimmed"


class Stream:
    """A channel at the server: its events, some of which a filter leaves out, and the part of them that is held."""

    def __init__(self) -> None:
        self.epoch = 1
        self.seq = 0
        self.held_from = 1
        self.wanted: set[tuple[int, int]] = set()

    @property
    def name(self) -> str:
        return f"e{self.epoch}"

    def add(self, *, wanted: bool) -> list[dict[str, Any]]:
        self.seq += 1
        if not wanted:
            return []
        self.wanted.add((self.epoch, self.seq))
        return [self.event(self.seq)]

    def event(self, seq: int) -> dict[str, Any]:
        return event("signals", seq, data={"epoch": self.epoch})

    def behind(self, position: dict[str, Any]) -> list[dict[str, Any]]:
        """What `resume` and `recover` give."""
        messages = []
        seq = position["seq"]
        if position["epoch"] != self.name:
            messages.append({"type": "gap", "of": "signals", "epoch": position["epoch"], "from": seq + 1, "to": None,
                             "count": None, "reason": "epoch_changed"})  # fmt: skip
            messages.append({"type": "position", "positions": {"signals": {"epoch": self.name, "seq": 0}}})
            seq = 0
        if seq < self.held_from - 1:
            to = self.held_from - 1
            messages.append({"type": "gap", "of": "signals", "epoch": self.name, "from": seq + 1, "to": to,
                             "count": to - seq, "reason": TRIMMED})  # fmt: skip
            seq = to
        return messages + [self.event(one) for one in range(seq + 1, self.seq + 1) if (self.epoch, one) in self.wanted]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.booleans()),
        st.tuples(st.just("lost event"), st.just(True)),
        st.tuples(st.just("work"), st.just(True)),
        st.tuples(st.just("cut"), st.booleans()),
        st.tuples(st.just("trim"), st.just(True)),
        st.tuples(st.just("restart"), st.just(True)),
        st.tuples(st.just("position"), st.just(True)),
    ),
    max_size=50,
)


@given(STEPS)
def test_each_event_once_and_in_order_or_a_gap(steps: list[tuple[str, bool]]) -> None:
    line, stream = Line(), Stream()
    line.subscribe("signals")
    line.open(epoch=stream.name)
    line.granted("signals", epoch=stream.name)
    for name, flag in [*steps, ("cut", True)]:
        match name:
            case "event":
                line.say(*stream.add(wanted=flag))
            case "lost event":  # it was in flight when the connection died
                stream.add(wanted=True)
                _reconnect(line, stream, resumed=True)
            case "work":
                line.dispatch()
            case "cut":
                _reconnect(line, stream, resumed=flag)
            case "trim":
                stream.held_from = stream.seq + 1
            case "restart":
                stream.epoch, stream.seq, stream.held_from = stream.epoch + 1, 0, 1
                _reconnect(line, stream, resumed=False)
            case "position":
                at = {"epoch": stream.name, "seq": stream.seq}
                line.say({"type": "position", "positions": {"signals": at}})
    line.dispatch()
    got = [(one["data"]["epoch"], one["seq"]) for one in line.delivered]
    assert got == sorted(set(got))
    missing = {
        (epoch, seq)
        for epoch, seq in stream.wanted - set(got)
        if not any(
            gap["epoch"] == f"e{epoch}" and gap["from"] <= seq and (gap["to"] is None or seq <= gap["to"])
            for gap in line.gaps
        )
    }
    assert missing == set()
    assert all(set(got).isdisjoint(_span(gap)) for gap in line.gaps)
    assert line.core.subscriptions.wanted["signals"].done == line.core.subscriptions.wanted["signals"].position
    assert line.errors() == []


def _span(gap: dict[str, Any]) -> set[tuple[int, int]]:
    return {(int(gap["epoch"][1:]), seq) for seq in range(gap["from"], (gap["to"] or 1_000) + 1)}


def _reconnect(line: Line, stream: Stream, *, resumed: bool) -> None:
    line.take()
    line.cut()
    here = {"epoch": stream.name, "seq": stream.seq}
    line.open(epoch=stream.name, reconnected=resumed, channels=["signals"], positions={"signals": here})
    (said,) = line.take()
    if resumed:
        assert said["type"] == "resume"
        line.say(*stream.behind(said["positions"]["signals"]), {"type": "resumed", "id": said["id"], "channels": []})
    else:
        position = said["recover"]["signals"]
        granted = {"type": "subscribed", "id": said["id"], "channels": ["signals"], "positions": {"signals": here}}
        line.say(granted, *stream.behind(position))
