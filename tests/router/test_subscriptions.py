from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from router.batches import Batch, Slice
from router.outbox import Outbox
from router.queues import Gap, Queue
from router.subscriptions import Group, Subscription, Subscriptions

CHANNELS = ("metrics", "signals", "logs")


class Taker:
    """An outlet that keeps what it is offered."""

    draining: Outbox | None = None

    def __init__(self) -> None:
        self.taken: list[tuple[Queue, Batch]] = []

    def offer(self, queue: Queue, batch: Batch) -> None:
        self.taken.append((queue, batch))

    def waiting_for(self, queue: Queue) -> tuple[int, int]:
        return 0, 0

    def entries_of(self, queue: Queue) -> Iterator[Slice | Gap]:
        return iter(queue.entries)


def subscription(channel: str = "signals") -> Subscription:
    return Subscription(channel, Taker())


def test_a_subscription_has_an_empty_queue_for_its_channel_and_an_outlet() -> None:
    outlet = Taker()
    made = Subscription("logs", outlet)
    assert made.channel == made.queue.channel == "logs"
    assert made.outlet is outlet
    assert not made.queue.entries


def test_a_table_is_empty_at_first() -> None:
    table = Subscriptions()
    assert table.total == 0
    assert all(not list(table.readers(name)) for name in CHANNELS)
    assert table.is_sound()


def test_readers_stand_in_the_order_in_which_they_came() -> None:
    table, readers = Subscriptions(), [subscription() for _ in range(5)]
    for reader in readers:
        table.add(reader)
    table.remove(readers[1])
    table.add(readers[1])
    assert list(table.readers("signals")) == [readers[0], *readers[2:], readers[1]]


def test_to_enter_twice_or_take_out_twice_changes_nothing() -> None:
    table, reader = Subscriptions(), subscription()
    table.add(reader)
    table.add(reader)
    assert (table.total, list(table.readers("signals"))) == (1, [reader])
    table.remove(reader)
    table.remove(reader)
    assert (table.total, list(table.readers("signals"))) == (0, [])
    assert table.is_sound()


def test_a_channel_has_a_place_as_long_as_it_is_read() -> None:
    table, first, second = Subscriptions(), subscription("orders.1"), subscription("orders.1")
    table.remove(first)
    assert not table.is_read("orders.1")
    table.add(first)
    table.add(second)
    table.remove(first)
    assert table.is_read("orders.1")
    table.remove(second)
    assert not table.is_read("orders.1")
    assert table._groups == {}
    assert table.is_sound()


def test_rebuilt_it_has_the_subscriptions_given_and_no_others() -> None:
    table, old, new = Subscriptions(), subscription(), [subscription(), subscription("logs")]
    table.add(old)
    table.total = 99
    assert not table.is_sound()
    table.rebuild(iter(new))
    assert (table.total, list(table.readers("signals")), list(table.readers("logs"))) == (2, new[:1], new[1:])
    assert table.is_sound()


def miscount(table: Subscriptions) -> None:
    table.total -= 1


def lose_a_reader(table: Subscriptions) -> None:
    table._groups["signals"][None].readers.popitem()


def leave_an_empty_group(table: Subscriptions) -> None:
    table._groups["logs"] = {None: Group("logs", None)}


def take_a_group_from_a_reader(table: Subscriptions) -> None:
    next(iter(table.readers("signals"))).group = None


def misplace_a_reader(table: Subscriptions) -> None:
    table._groups["logs"] = table._groups.pop("signals")


@pytest.mark.parametrize(
    "tamper", [miscount, lose_a_reader, misplace_a_reader, leave_an_empty_group, take_a_group_from_a_reader]
)
def test_parts_that_do_not_agree_are_found(tamper: Any) -> None:
    table = Subscriptions()
    table.add(subscription())
    table.add(subscription())
    tamper(table)
    assert not table.is_sound()


class Table(RuleBasedStateMachine):
    """The table beside one list of all that is in it."""

    known = Bundle("known")

    @initialize()
    def begin(self) -> None:
        self.table = Subscriptions()
        self.entered: list[Subscription] = []

    @rule(target=known, channel=st.sampled_from(CHANNELS))
    def make(self, channel: str) -> Subscription:
        return subscription(channel)

    @rule(reader=known)
    def add(self, reader: Subscription) -> None:
        self.table.add(reader)
        if reader not in self.entered:
            self.entered.append(reader)

    @rule(reader=known)
    def remove(self, reader: Subscription) -> None:
        self.table.remove(reader)
        if reader in self.entered:
            self.entered.remove(reader)

    @rule(readers=st.lists(known, unique=True))
    def rebuild(self, readers: list[Subscription]) -> None:
        self.table.rebuild(reader for reader in readers)
        self.entered = list(readers)

    @rule(channel=st.sampled_from(CHANNELS))
    def offer_to_all(self, channel: str) -> None:
        batch = Batch(b"", (), range(1, 1), "e")
        for reader in self.table.readers(channel):
            reader.outlet.offer(reader.queue, batch)
        for reader in self.entered:
            assert isinstance(reader.outlet, Taker)
            got = [queue for queue, offered in reader.outlet.taken if offered is batch]
            assert got == ([reader.queue] if reader.channel == channel else [])

    @invariant()
    def agrees(self) -> None:
        assert self.table.is_sound()
        assert self.table.total == len(self.entered)
        for channel in CHANNELS:
            assert list(self.table.readers(channel)) == [each for each in self.entered if each.channel == channel]


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=50, stateful_step_count=25)
