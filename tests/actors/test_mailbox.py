"""Mailboxes, addresses and questions, without a supervisor."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

from actors import ActorGoneError, MailboxFull, NoReplyError, Reply
from actors.mailbox import Box
from tests.actors.stage import Question


async def ask_into(answers: list[str], box: Box[Any]) -> None:
    """Ask, and write down what became of it."""
    try:
        answers.append(await box.ref.ask(Question))
    except (NoReplyError, ActorGoneError) as error:
        answers.append(type(error).__name__)


def test_a_full_mailbox_names_the_actor_and_leaves_the_message_with_its_sender() -> None:
    box = Box[str]("actor", 2)
    box.ref.tell("first")
    box.ref.tell("second")
    with pytest.raises(MailboxFull, match=r"the mailbox of 'actor' is full \(2 messages\)") as caught:
        box.ref.tell("third")
    assert (caught.value.actor, caught.value.capacity) == ("actor", 2)
    mailbox = box.open()
    assert [mailbox.receive_nowait(), mailbox.receive_nowait()] == ["first", "second"]
    with pytest.raises(trio.WouldBlock):
        mailbox.receive_nowait()


def test_an_address_shows_its_name_and_how_full_the_mailbox_is() -> None:
    box = Box[str]("actor", 3)
    box.ref.tell("one")
    box.ref.tell("two")
    assert (repr(box.ref), box.ref.depth, box.ref.capacity) == ("<ActorRef 'actor'>", 2, 3)


async def test_send_waits_for_room_and_order_is_kept(nursery: trio.Nursery) -> None:
    box = Box[str]("actor", 1)
    await box.ref.send("first")
    nursery.start_soon(box.ref.send, "second")
    await wait_all_tasks_blocked()
    mailbox = box.open()
    assert [await mailbox.receive(), await mailbox.receive()] == ["first", "second"]


async def test_a_cancelled_send_sends_nothing_even_where_there_is_room() -> None:
    box = Box[str]("actor", 1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await box.ref.send("never")
    assert scope.cancelled_caught
    assert box.ref.depth == 0


async def test_a_cancelled_receive_loses_nothing() -> None:
    box = Box[str]("actor", 1)
    box.ref.tell("kept")
    mailbox = box.open()
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.receive()
    assert scope.cancelled_caught
    with assert_checkpoints():
        assert await mailbox.receive() == "kept"


def test_the_backlog_outlives_the_incarnation_that_reads_it() -> None:
    box = Box[int]("actor", 4)
    first = box.open()
    for number in range(4):
        box.ref.tell(number)
    assert first.receive_nowait() == 0
    first.close()
    assert box.ref.depth == 3
    box.ref.tell(4)
    second = box.open()
    assert [second.receive_nowait() for _ in range(4)] == [1, 2, 3, 4]


async def test_a_mailbox_that_takes_no_more_is_read_to_its_end() -> None:
    box = Box[str]("actor", 4)
    box.ref.tell("first")
    box.ref.tell("second")
    box.end_sending()
    with pytest.raises(ActorGoneError, match="actor 'actor' has ended"):
        box.ref.tell("third")
    mailbox = box.open()
    assert [message async for message in mailbox] == ["first", "second"]
    with pytest.raises(trio.EndOfChannel):
        await mailbox.receive()
    with pytest.raises(trio.EndOfChannel):
        mailbox.receive_nowait()


async def test_everybody_who_sends_to_an_ended_actor_is_told(nursery: trio.Nursery) -> None:
    box = Box[Any]("actor", 1)
    box.ref.tell("unread")
    told: list[str] = []

    async def wait_for_room() -> None:
        with pytest.raises(ActorGoneError):
            await box.ref.send("never")
        told.append("the one that waited for room")

    nursery.start_soon(wait_for_room)
    await wait_all_tasks_blocked()
    assert box.close() == 1
    await wait_all_tasks_blocked()
    assert told == ["the one that waited for room"]
    with pytest.raises(ActorGoneError) as caught:
        box.ref.tell("never")
    assert caught.value.actor == "actor"
    with pytest.raises(ActorGoneError):
        await box.ref.send("never")
    with pytest.raises(ActorGoneError):
        await box.ref.ask(Question)


# Questions


async def test_a_question_is_answered(nursery: trio.Nursery) -> None:
    box, answers = Box[Any]("actor", 1), list[str]()
    nursery.start_soon(ask_into, answers, box)
    question = await box.open().receive()
    with assert_no_checkpoints():
        question.reply.send("yes")
    await wait_all_tasks_blocked()
    assert answers == ["yes"]


async def test_an_asker_does_not_hang_when_the_actor_dies_with_the_question_in_hand(nursery: trio.Nursery) -> None:
    box, answers = Box[Any]("actor", 1), list[str]()
    mailbox = box.open()
    nursery.start_soon(ask_into, answers, box)
    await mailbox.receive()
    mailbox.close()
    await wait_all_tasks_blocked()
    assert answers == ["NoReplyError"]


@pytest.mark.parametrize("take", ["receive", "receive_nowait", "__anext__"])
async def test_each_way_to_take_a_question_notes_it(take: str, nursery: trio.Nursery) -> None:
    box, answers = Box[Any]("actor", 1), list[str]()
    mailbox = box.open()
    nursery.start_soon(ask_into, answers, box)
    await wait_all_tasks_blocked()
    taken = getattr(mailbox, take)()
    if take != "receive_nowait":
        await taken
    mailbox.close()
    await wait_all_tasks_blocked()
    assert answers == ["NoReplyError"]


async def test_an_asker_does_not_hang_when_its_question_is_still_in_the_backlog_as_the_actor_is_given_up(
    nursery: trio.Nursery,
) -> None:
    box, answers = Box[Any]("actor", 2), list[str]()
    for _ in range(3):  # the last of them waits for room
        nursery.start_soon(ask_into, answers, box)
        await wait_all_tasks_blocked()
    assert box.close() == 2
    await wait_all_tasks_blocked()
    assert sorted(answers) == ["ActorGoneError", "NoReplyError", "NoReplyError"]


async def test_no_reply_names_the_actor() -> None:
    box = Box[Any]("actor", 1)

    def question(reply: Reply[str]) -> Question:
        reply.abandon()
        return Question(reply)

    with pytest.raises(NoReplyError, match="actor 'actor' ended without answering") as caught:
        await box.ref.ask(question)
    assert caught.value.actor == "actor"


async def test_answering_twice_is_an_error_and_the_first_answer_stands(nursery: trio.Nursery) -> None:
    box, answers = Box[Any]("actor", 1), list[str]()
    nursery.start_soon(ask_into, answers, box)
    question = await box.open().receive()
    question.reply.send("first")
    assert question.reply.answered
    with pytest.raises(RuntimeError, match="once only"):
        question.reply.send("second")
    question.reply.abandon()
    await wait_all_tasks_blocked()
    assert answers == ["first"]


async def test_a_late_reply_to_an_asker_that_waits_no_more_harms_nobody(autojump_clock: trio.abc.Clock) -> None:
    box = Box[Any]("actor", 1)
    with trio.move_on_after(1) as deadline:
        await box.ref.ask(Question)
    assert deadline.cancelled_caught
    question = await box.open().receive()
    question.reply.send("too late")
    assert question.reply.answered


async def test_a_late_reply_after_the_end_of_the_actor_that_took_the_question_harms_nobody(
    nursery: trio.Nursery,
) -> None:
    box, answers = Box[Any]("actor", 1), list[str]()
    mailbox = box.open()
    nursery.start_soon(ask_into, answers, box)
    question = await mailbox.receive()
    mailbox.close()
    question.reply.send("from another actor, to which the first had given it")
    await wait_all_tasks_blocked()
    assert answers == ["NoReplyError"]


async def test_an_incarnation_that_ends_abandons_only_what_it_has_not_answered(nursery: trio.Nursery) -> None:
    box, answers = Box[Any]("actor", 3), list[str]()
    mailbox = box.open()
    for _ in range(3):
        nursery.start_soon(ask_into, answers, box)
    (await mailbox.receive()).reply.send("the first")
    await mailbox.receive()
    (await mailbox.receive()).reply.send("the last")
    mailbox.close()
    await wait_all_tasks_blocked()
    assert sorted(answers) == ["NoReplyError", "the first", "the last"]


async def test_a_mailbox_does_not_keep_what_is_answered(nursery: trio.Nursery) -> None:
    box, answers = Box[Any]("actor", 1), list[str]()
    mailbox = box.open()
    for _ in range(100):
        nursery.start_soon(ask_into, answers, box)
        (await mailbox.receive()).reply.send("yes")
    await wait_all_tasks_blocked()
    assert len(answers) == 100
    assert not mailbox._taken


async def test_a_question_that_is_handed_on_is_the_next_actors_to_answer(nursery: trio.Nursery) -> None:
    first_box, second_box, answers = Box[Any]("first", 2), Box[Any]("second", 2), list[str]()
    first, second = first_box.open(), second_box.open()
    for _ in range(2):
        nursery.start_soon(ask_into, answers, first_box)
        second_box.ref.tell(await first.receive())
    (await second.receive()).reply.send("from the second")
    await second.receive()
    first.close()
    await wait_all_tasks_blocked()
    assert answers == ["from the second"]
    second.close()
    await wait_all_tasks_blocked()
    assert answers == ["from the second", "NoReplyError"]


async def test_a_message_that_is_no_call_cannot_be_asked() -> None:
    """No mailbox would know that somebody waits for the answer, and who does would wait for ever."""
    box = Box[Any]("actor", 1)

    def make(reply: Reply[str]) -> Any:
        return "question", reply

    with pytest.raises(TypeError, match="tuple is not a Call"):
        await box.ref.ask(make)
    assert box.ref.depth == 0
