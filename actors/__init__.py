"""Supervised actors on Trio: state with one owner, bounded mailboxes, failures that are told.

An actor is a plain object with one coroutine, `run`, that reads a bounded mailbox. A supervisor owns its task
and its mailbox, restarts it by a policy and gives up aloud. Others hold only an `ActorRef`.

The layers, each importing only those before it:

    errors → mailbox → actor → child → tree → supervisor

A whole program, which is also `examples/counter.py`:

    from dataclasses import dataclass

    import trio

    from actors import ActorRef, Call, ChildSpec, Mailbox, Supervisor

    @dataclass(frozen=True)
    class Add:
        amount: int

    class Total(Call[int]):
        pass

    class Counter:
        def __init__(self) -> None:
            self.total = 0

        async def run(self, mailbox: Mailbox[Add | Total], *, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            async for message in mailbox:
                match message:
                    case Add():
                        self.total += message.amount
                    case Total():
                        message.reply.send(self.total)

    async def main() -> None:
        supervisor = Supervisor("example", [ChildSpec("counter", Counter)])
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            counter: ActorRef[Add | Total] = supervisor.ref("counter")
            counter.tell(Add(2))
            counter.tell(Add(40))
            print(await counter.ask(Total))
            supervisor.stop()

    if __name__ == "__main__":
        trio.run(main)
"""

from actors.actor import Actor as Actor
from actors.actor import ChildSpec as ChildSpec
from actors.actor import Restart as Restart
from actors.actor import Strategy as Strategy
from actors.errors import ActorError as ActorError
from actors.errors import ActorGoneError as ActorGoneError
from actors.errors import MailboxFull as MailboxFull
from actors.errors import NoReplyError as NoReplyError
from actors.errors import RestartLimitError as RestartLimitError
from actors.errors import StartTimeoutError as StartTimeoutError
from actors.mailbox import ActorRef as ActorRef
from actors.mailbox import Call as Call
from actors.mailbox import Mailbox as Mailbox
from actors.mailbox import Reply as Reply
from actors.supervisor import Supervisor as Supervisor
from actors.tree import ActorNode as ActorNode
