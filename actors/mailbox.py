"""Mailboxes: a bounded memory channel that outlives the incarnations which read it.

The supervisor owns the channel (`Box`); an incarnation reads a clone of its receive end (`Mailbox`), so that the
backlog survives a restart; everybody else holds the send end (`ActorRef`) and nothing more.

A question (`Call`) carries the only send end of a one-slot reply channel. The mailbox remembers which questions
its incarnation has taken: when that ends, their askers are told instead of waiting for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import trio

from actors.errors import ActorGoneError, MailboxFull, NoReplyError

M = TypeVar("M")
R = TypeVar("R")
#: Who takes messages or answers of a type takes those of its subtypes.
M_contra = TypeVar("M_contra", contravariant=True)
R_contra = TypeVar("R_contra", contravariant=True)


class Reply(Generic[R_contra]):
    """The one place for the answer to one question.

    The mutable state is whether it was answered, and which mailbox's reader has the question in hand.
    """

    __slots__ = ("_channel", "_holder", "answered")

    def __init__(self, channel: trio.MemorySendChannel[R_contra]) -> None:
        self._channel = channel
        self._holder: dict[Reply[Any], None] | None = None
        #: True once it was answered.
        self.answered = False

    def send(self, answer: R_contra) -> None:
        """Answer the question. An asker that no longer waits is normal and not an error.

        Raises:
            RuntimeError: The question has been answered before.
        """
        if self.answered:
            raise RuntimeError("a question can be answered once only")
        self.answered = True
        self._move_to(None)
        try:
            self._channel.send_nowait(answer)
        except trio.BrokenResourceError:
            pass  # the asker was cancelled or timed out
        except trio.ClosedResourceError:
            pass  # the actor that took the question ended, and its asker has `NoReplyError`

    def abandon(self) -> None:
        """End the question without an answer: the asker gets `NoReplyError`. An answered one stays answered."""
        self._move_to(None)
        self._channel.close()

    def _move_to(self, holder: dict[Reply[Any], None] | None) -> None:
        if self._holder is not None:
            self._holder.pop(self, None)
        self._holder = holder
        if holder is not None:
            holder[self] = None


class Call(Generic[R]):
    """Base of messages that want an answer of type `R`; made by `ActorRef.ask`."""

    reply: Reply[R]

    def __init__(self, reply: Reply[R]) -> None:
        self.reply = reply


class Mailbox(Generic[M]):
    """What one incarnation of an actor reads; an async iterator that ends when all is read and nobody can send.

    The mutable state is the questions taken and not yet answered, in order; a `Reply` takes itself out of them.
    """

    __slots__ = ("_channel", "_taken")

    def __init__(self, channel: trio.MemoryReceiveChannel[M]) -> None:
        self._channel = channel
        self._taken: dict[Reply[Any], None] = {}

    def __aiter__(self) -> Mailbox[M]:
        return self

    async def __anext__(self) -> M:
        try:
            return self._note(await self._channel.receive())  # not by `receive`: a frame less for each actor
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def receive(self) -> M:
        """Wait for the next message.

        Raises:
            trio.EndOfChannel: Nothing is left and nobody can send any more.

        Cancellation: safe, no message is lost.
        """
        return self._note(await self._channel.receive())

    def receive_nowait(self) -> M:
        """Take the next message if there is one.

        Raises:
            trio.WouldBlock: The mailbox is empty.
            trio.EndOfChannel: Nothing is left and nobody can send any more.
        """
        return self._note(self._channel.receive_nowait())

    def _note(self, message: M) -> M:
        if isinstance(message, Call):
            message.reply._move_to(self._taken)
        return message

    def close(self) -> None:
        """End this incarnation's reading; whoever still waits for an answer from it is told."""
        self._channel.close()
        for reply in tuple(self._taken):
            reply.abandon()


class ActorRef(Generic[M_contra]):
    """An actor's address, and all that others may hold of it. Stays the same over restarts."""

    __slots__ = ("_channel", "name")

    def __init__(self, name: str, channel: trio.MemorySendChannel[M_contra]) -> None:
        self.name = name
        self._channel = channel

    def __repr__(self) -> str:
        return f"<ActorRef {self.name!r}>"

    def tell(self, message: M_contra) -> None:
        """Put a message into the mailbox, now or not at all.

        Raises:
            MailboxFull: There is no room; the message stays the caller's.
            ActorGoneError: The actor has ended for good.
        """
        try:
            self._channel.send_nowait(message)
        except trio.WouldBlock:
            raise MailboxFull(self.name, self.capacity) from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ActorGoneError(self.name) from None

    async def send(self, message: M_contra) -> None:
        """Put a message into the mailbox, waiting for room: this wait is the back-pressure on a reader.

        Raises:
            ActorGoneError: The actor has ended for good.

        Cancellation: safe, the message was not sent. An expired scope cancels even where there is room.
        """
        try:
            await self._channel.send(message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ActorGoneError(self.name) from None

    async def ask(self, question: Callable[[Reply[R]], M_contra]) -> R:
        """Send the message that `question` makes of a `Reply`, and wait for the answer.

        Ask down the tree only: two actors that ask one another wait for ever. A deadline is the caller's
        (`trio.fail_after`).

        Raises:
            ActorGoneError: The actor has ended for good.
            NoReplyError: It ended, or was restarted, while it held the question; or it ended for good before that.
            TypeError: The message is not a `Call`: a mailbox would not know that somebody waits for the answer.

        Cancellation: safe; an answer that comes later harms nobody.
        """
        send, receive = trio.open_memory_channel[R](1)
        with receive:
            # The message holds the only send end: a callee that dies with it ends the wait below.
            message = question(Reply(send))
            if not isinstance(message, Call):
                raise TypeError(f"{type(message).__name__} is not a Call")
            await self.send(message)
            try:
                return await receive.receive()
            except trio.EndOfChannel:
                raise NoReplyError(self.name) from None

    @property
    def capacity(self) -> int:
        """How many messages the mailbox holds."""
        return int(self._channel.statistics().max_buffer_size)

    @property
    def depth(self) -> int:
        """How many messages wait in the mailbox now."""
        return self._channel.statistics().current_buffer_used


class Box(Generic[M]):
    """Both ends of a mailbox, in the supervisor's hand. Closing the last receive end would delete the backlog."""

    __slots__ = ("_receive", "_send", "ref")

    def __init__(self, name: str, capacity: int) -> None:
        self._send, self._receive = trio.open_memory_channel[M](capacity)
        self.ref: ActorRef[M] = ActorRef(name, self._send)

    def open(self) -> Mailbox[M]:
        """A mailbox for the next incarnation."""
        return Mailbox(self._receive.clone())

    def end_sending(self) -> None:
        """Refuse new messages; what has come can still be read, then the mailbox ends."""
        self._send.close()

    def close(self) -> int:
        """The actor is gone for good: senders get `ActorGoneError`, questions in the backlog are given up.

        Returns:
            How many messages nobody has read.
        """
        self._send.close()
        backlog, unread = Mailbox(self._receive), 0
        try:
            while True:
                backlog.receive_nowait()
                unread += 1
        except trio.EndOfChannel:
            backlog.close()
        return unread
