"""Supervised actors on Trio: state with one owner, bounded mailboxes, failures that are told.

An actor is a plain object with one coroutine, `run`, that reads a bounded mailbox. A supervisor owns its task
and its mailbox, restarts it by a policy and gives up aloud. Others hold only an `ActorRef`.

The layers, each importing only those before it:

    errors → mailbox → actor → supervisor → tree

A whole program (it is also `examples/counter.py`, and a test runs it):

    import trio
    from actors import Call, ChildSpec, Mailbox, Reply, Supervisor

    class Add(int): ...

    class Total(Call[int]): ...

    class Counter:
        def __init__(self) -> None:
            self.total = 0

        async def run(self, mailbox, *, task_status) -> None:
            task_status.started()
            async for message in mailbox:
                match message:
                    case Add():
                        self.total += message
                    case Total():
                        message.reply.send(self.total)

    async def main() -> None:
        supervisor = Supervisor("example", [ChildSpec("counter", Counter)])
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            counter = supervisor.ref("counter")
            counter.tell(Add(2))
            counter.tell(Add(40))
            print(await counter.ask(Total))
            supervisor.stop()

    trio.run(main)
"""

from actors.actor import Actor as Actor
from actors.actor import ChildSpec as ChildSpec
from actors.actor import Restart as Restart
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
from actors.supervisor import Strategy as Strategy
from actors.supervisor import Supervisor as Supervisor
from actors.tree import ActorNode as ActorNode
