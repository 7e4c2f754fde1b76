"""The smallest whole program: a counter under a supervisor, which is told two numbers and asked for the sum."""

from dataclasses import dataclass

import trio

from actors import ActorRef, Call, ChildSpec, Mailbox, Supervisor


@dataclass(frozen=True)
class Add:
    """Add to the total."""

    amount: int


class Total(Call[int]):
    """Asks for the total."""


class Counter:
    """The actor: it alone has the total."""

    def __init__(self) -> None:
        self.total = 0

    async def run(self, mailbox: Mailbox[Add | Total], *, task_status: trio.TaskStatus[None]) -> None:
        """Work until the mailbox ends."""
        task_status.started()
        async for message in mailbox:
            match message:
                case Add():
                    self.total += message.amount
                case Total():
                    message.reply.send(self.total)


async def main() -> None:
    """Start, tell, ask, stop."""
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
