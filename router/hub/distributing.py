"""The fan-out of what has been appended, in slices of time: it lets others run amid a long one."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from router.engine.memory import FULL_BATCH_BYTES, Stream
from router.fanning import FanOut
from router.filters import Candidate, Filter
from router.hub.state import RouterState

#: After this long at one go whoever works lets others run, so that reading goes on.
YIELD_AFTER_S = 0.002
#: The clock is looked at once for this many readers.
_READERS_BETWEEN_LOOKS = 64
#: Likewise for this many events that a filter is asked about: a pattern may take long for a long text.
_EVENTS_BETWEEN_LOOKS = 16


class Distributor:
    """Fans out the events of a `RouterState`, for the router actor alone.

    The mutable state is when it next lets others run. A cancellation, or a crash, amid a fan-out leaves it in
    `state.fan_out`: some readers have not got the events.
    """

    def __init__(self, state: RouterState) -> None:
        self._state = state
        self._yield_at = 0.0

    def begin_turn(self, now: float) -> None:
        """From now on measure how long the router works at one go; `now` in seconds, on Trio's clock."""
        self._yield_at = now + YIELD_AFTER_S

    async def flush(self) -> None:
        """Fan out what has been appended."""
        touched = self._state.touched
        while touched:
            await self.fan_out(touched.popitem()[1])

    def full(self, channel: str) -> Stream | None:
        """A channel's stream, if it has enough for a fan-out."""
        stream = self._state.touched.get(channel)
        return stream if stream is not None and stream.pending_bytes >= FULL_BATCH_BYTES else None

    async def fan_out(self, stream: Stream) -> None:
        """Fan out what one channel has pending."""
        state = self._state
        fan_out = state.fan_out = FanOut(stream)
        batch = stream.flush(state.epoch)
        if batch is not None:
            # Nobody else changes the table, so it may be walked over a checkpoint.
            candidates: list[Candidate] = []
            for group in state.subscriptions.groups(stream.name):
                if group.filter is None:
                    fan_out.add(group, batch)
                    continue
                if not candidates:
                    candidates = [batch.candidate(index) for index in range(len(batch))]
                selected = batch.select(await self._ask(group.filter, candidates), group.last_seq)
                if selected is not None:
                    fan_out.add(group, selected)
            state.counters.matched += fan_out.begin()
            until_look = _READERS_BETWEEN_LOOKS
            for selected, left in fan_out.walk():
                for reader in left:
                    reader.outlet.offer(reader.queue, selected)
                    until_look -= 1
                    if not until_look:
                        until_look = _READERS_BETWEEN_LOOKS
                        fan_out.paused = True
                        await self._yield_if_due()
                        fan_out.paused = False
        state.fan_out = None

    async def _ask(self, wanted: Filter, candidates: Sequence[Candidate]) -> list[int]:
        """Which events a filter lets through, by their indices."""
        chosen: list[int] = []
        for start in range(0, len(candidates), _EVENTS_BETWEEN_LOOKS):
            asked = enumerate(candidates[start : start + _EVENTS_BETWEEN_LOOKS], start)
            chosen += [index for index, event in asked if wanted.matches(event)]
            await self._yield_if_due()
        return chosen

    async def _yield_if_due(self) -> None:
        if trio.current_time() >= self._yield_at:
            await trio.lowlevel.checkpoint()
            self._yield_at = trio.current_time() + YIELD_AFTER_S
