"""What really happened: the events that were fanned out, the letters that were sent, the requests that were done.

It is written down where the router does it, so it does not depend on what the router makes of it later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from typing import NamedTuple
from unittest import mock

from router.batches import Batch
from router.engine.memory import Stream
from router.hub import actor as hub
from router.hub.actor import Hub
from router.hub.publishing import send_to
from router.hub.state import RouterState
from router.letters import Change, SendTo
from router.sessions import Session
from tests.router.harness import Json

Wants = Callable[[Json], bool]
#: (epoch, seq)
Place = tuple[str, int]


class Event(NamedTuple):
    """One that was fanned out."""

    data: Json
    timestamp: str


class Moment(NamedTuple):
    """When a request was done: the epoch, and the last seq of each channel."""

    epoch: str
    flushed: dict[str, int]


class Truth:
    """All that happened, as far as clients are to be told of it.

    Attributes:
        ids: For requests, each used once.
        epochs: In their order.
        done: By `id`, when a request was done.
        letters: By client and channel, the numbers of the `personal` and `global` events for it, in order.
    """

    def __init__(self, publish_key_s: float) -> None:
        self.ids = count(1)
        self.epochs: list[str] = []
        self.done: dict[object, Moment] = {}
        self.letters: dict[tuple[str, str], list[int]] = {}
        self._events: dict[tuple[str, str], list[Event]] = {}
        self._published: dict[tuple[str, str], float] = {}
        self._publish_key_s = publish_key_s

    def begin(self, epoch: str) -> None:
        """Know an epoch."""
        if epoch not in self.epochs:
            self.epochs.append(epoch)

    def order(self, place: Place) -> tuple[int, int]:
        """Places in the order of time."""
        epoch, seq = place
        return self.epochs.index(epoch), seq

    def events(self, epoch: str, channel: str) -> list[Event]:
        """All of an epoch; the first has seq 1."""
        return self._events.get((epoch, channel), [])

    def event(self, epoch: str, channel: str, seq: int) -> Event:
        """The one at a position."""
        return self._events[epoch, channel][seq - 1]

    def between(self, epoch: str, channel: str, after: int, to: int) -> Iterator[tuple[int, Json]]:
        """Seq and data of these events."""
        known = self.events(epoch, channel)
        return ((seq, known[seq - 1].data) for seq in range(after + 1, min(to, len(known)) + 1))

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write down what happens."""
        flush, change = Stream.flush, Hub._change

        def flushing(stream: Stream, epoch: str) -> Batch | None:
            batch = flush(stream, epoch)
            if batch is not None:
                self._take(stream.name, batch)
            return batch

        def sending(state: RouterState, message: SendTo) -> int:
            channel = "global" if message.client_id is None else "personal"
            for session in state.sessions:
                if message.client_id in (None, session.client_id):
                    self.letters.setdefault((session.client_id, channel), []).append(json.loads(message.data)["n"])
            return send_to(state, message)

        def changing(actor: Hub, session: Session, item: Change) -> bytes | None:
            state = actor._state
            self.begin(state.epoch)
            flushed = {stream.name: stream.flushed_seq for stream in state.streams}
            self.done[getattr(item, "id", None)] = Moment(state.epoch, flushed)
            return change(actor, session, item)

        with (
            mock.patch.object(Stream, "flush", flushing),
            mock.patch.object(hub, "send_to", sending),
            mock.patch.object(Hub, "_change", changing),
        ):
            yield

    def _take(self, channel: str, batch: Batch) -> None:
        self.begin(batch.epoch)
        known = self._events.setdefault((batch.epoch, channel), [])
        assert batch.seqs is not None
        assert list(batch.seqs) == [len(known) + 1 + n for n in range(len(batch))], "a position means one event"
        for index in range(len(batch)):
            message = json.loads(bytes(batch.payload(index)))
            event = Event(message["data"], message["timestamp"])
            assert not known or known[-1].timestamp <= event.timestamp
            known.append(event)
            if "once" in event.data:
                self._once(batch.epoch, event)

    def _once(self, epoch: str, event: Event) -> None:
        """A publish with a key was not done before in this epoch, or so long ago that nobody remembers."""
        what, now = json.dumps(event.data["once"]), datetime.fromisoformat(event.timestamp).timestamp()
        before = self._published.get((epoch, what))
        assert before is None or now - before >= self._publish_key_s, f"{what} was published twice"
        self._published[epoch, what] = now
