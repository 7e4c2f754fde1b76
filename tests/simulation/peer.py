"""One client over all its connections: what it asks, what it is told, and whether that was promised."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from router.config import Config
from tests.router.harness import Client, Json
from tests.simulation.account import Account
from tests.simulation.post import Post
from tests.simulation.truth import Place, Truth


@dataclass
class Publish:
    """One publish, until nobody asks about it any more.

    Attributes:
        channel: On which channel.
        data: Of its events.
        key: To be repeated with; None: it is not to be.
    """

    channel: str
    data: list[Json]
    key: str | None


class Peer:
    """One client.

    Attributes:
        client: Its connection now; None: it has none.
        token: To come back with; None: it is new.
        accounts: By channel.
        posts: Of `personal` and `global`.
        marks: Where the server would go on while it waits for the client to say so.
        publishes: Those that may be repeated.
        in_doubt: Of what the server takes for sent on its last connection, a part may not have come.
    """

    def __init__(self, truth: Truth, config: Config) -> None:
        self._truth = truth
        self._config = config
        self.client: Client | None = None
        self.client_id = ""
        self.token: str | None = None
        self.accounts: dict[str, Account] = {}
        self.posts: dict[str, Post] = {}
        self.marks: dict[str, Place] | None = None
        self.publishes: list[Publish] = []
        self._epoch = ""
        # What its connection has not answered: of resumes the last one, of publishes what they are, of all the order.
        self._order: deque[int] = deque()
        self._publishes: dict[int, tuple[Publish, str]] = {}
        self._answers: list[tuple[Publish, str, int, int]] = []
        self._resume: int | None = None
        self._heard = False
        self._said: dict[str, Place] = {}
        self._marks_before: dict[str, Place] | None = None
        self._replayed = 0
        self._replaying: list[str] = []
        self.in_doubt = False

    @property
    def reads(self) -> bool:
        """Whether it has a connection and reads all that comes."""
        return self.client is not None and self.client.wire.room is None and not self.client.gone

    @property
    def all_answered(self) -> bool:
        """Whether all that its connection was asked is answered."""
        return not self._order and self._resume is None

    # Coming and going

    def forget(self) -> None:
        """Be new."""
        self.client, self.token, self.marks = None, None, None
        self.accounts, self.posts = {}, {}
        self.in_doubt = False

    def welcome(self, client: Client, *, speaks: bool) -> None:
        """Go on with another connection, which has been told `connected`."""
        connected = client.connected
        assert self.client is None
        self.client, self.client_id, self.token = client, connected["client_id"], connected["reconnection_token"]
        self._epoch = connected["epoch"]
        self._order.clear()
        self._publishes.clear()
        self._resume = None
        if connected["reconnected"]:
            marks = {name: (mark["epoch"], mark["seq"]) for name, mark in connected["positions"].items()}
            assert connected["channels"] == list(marks) == sorted(self.accounts)
            for name, mark in marks.items():
                self.accounts[name].welcome(mark, in_doubt=self.in_doubt)
            self.marks = marks
        else:
            self.accounts, self.marks = {}, None
            self.posts = {name: Post(self._truth, self.client_id, name) for name in ("personal", "global")}
        self.in_doubt = False
        if not speaks:
            self.go_on()

    def go_on(self) -> None:
        """The server goes on from its marks, but where the client has said otherwise."""
        for name, mark in (self.marks or {}).items():
            if name in self.accounts:
                self.accounts[name].go_on_from(*mark)
        self.marks = None

    def lose(self, *, taken_over: bool = False) -> None:
        """Its connection is gone.

        What the server takes for sent has come, unless there was no close frame behind it and it may be that a part
        was still to be written: of what `send_all` was given, or of a frame at a takeover.
        """
        assert self.client is not None
        if self.client.closed in (None, (1006, "")) and (self.client.plain or taken_over):
            self.doubt()
        self.client = None

    def doubt(self) -> None:
        """Of what the server takes for sent, a part may not have come."""
        self.in_doubt = True
        for account in self.accounts.values():
            account.unsure = True
        for post in self.posts.values():
            post.unsure = True

    def hear_out(self, *, taken_over: bool = False) -> None:
        """Take what came up to the end of its connection, which it has closed, or which was taken over."""
        assert self.client is not None
        for message in self.client.take():
            self._take(message)
        self.lose(taken_over=taken_over)

    # What it says

    def send(self, kind: str, **fields: object) -> int:
        """Send a message that wants an answer."""
        assert self.client is not None
        number = next(self._truth.ids)
        self.client.send(kind, id=number, **fields)
        if kind != "resume":
            self._order.append(number)
        return number

    async def answer(self, number: int) -> Json | None:
        """Take all that comes up to the answer to a message; None: the connection ended first."""
        assert self.client is not None
        while (message := await self.client.receive_or_end()) is not None:
            if message.get("id") == number:
                self._hear_back()
                self._in_order(message)
                if message["type"] == "error":
                    assert message["code"] == "internal", message
                return message
            self._take(message)
        self.listen()
        return None

    def publish(self, publish: Publish, epoch: str) -> None:
        """Publish, perhaps not for the first time."""
        keyed = {} if publish.key is None else {"key": publish.key}
        batch = [{"event_type": "x", "data": data} for data in publish.data]
        self._publishes[self.send("publish", channel=publish.channel, events=batch, **keyed)] = publish, epoch
        if publish.key is not None and publish not in self.publishes:
            self.publishes.append(publish)

    def resume(self, positions: dict[str, Place]) -> None:
        """Say where it goes on; channels that are left out go on from the server's mark."""
        wire = {name: {"epoch": epoch, "seq": seq} for name, (epoch, seq) in positions.items()}
        self._said = {name: account.place for name, account in self.accounts.items()}
        self._marks_before = self.marks
        assert self.marks is not None
        self.marks = {name: mark for name, mark in self.marks.items() if name not in positions}
        self.go_on()
        for name, place in positions.items():
            self.accounts[name].claim(place)
        self._resume, self._heard, self._replayed = self.send("resume", positions=wire), False, 0

    # What it is told

    def listen(self) -> None:
        """Take what came."""
        if self.client is None:
            return
        for message in self.client.take():
            self._take(message)
        if self.client.closed is not None:
            assert self.client.closed[0] in (1006, 1011, 4001), self.client.closed
            self.lose()

    def _take(self, message: Json) -> None:
        kind = message.get("type")
        self._hear_back()
        if kind is None or kind == "gap":
            channel = message.get("of") or message["channel"]
            if kind is None and "seq" in message:
                self._replayed += 1
            self._about(channel, message)
        elif kind == "position":
            for name in message["positions"]:
                self._about(name, message)
        elif kind == "resumed":
            self._resumed(message)
        elif kind == "error" and message["id"] == self._resume:  # the router died of something else than the message
            assert message["code"] == "internal", message
            self._unsay()
        elif "id" in message:
            self._in_order(message)
            publish = self._publishes.pop(message["id"], None)
            if message["type"] == "error":
                assert message["code"] == "internal", message
            elif publish is not None:
                self._answers.append((*publish, *message["seq"]))
        else:
            raise AssertionError(f"the server sent {message}")

    def _about(self, channel: str, message: Json) -> None:
        if self.marks is not None:  # its time to speak is over
            self.go_on()
        if channel in self.posts:
            self.posts[channel].take(message)
        else:
            self.accounts[channel].take(message, self._epoch)

    def _in_order(self, message: Json) -> None:
        assert self._order.popleft() == message["id"], "one reply each, in the order of the requests"

    def check_published(self) -> None:
        """The positions that were answered are those of its events; nothing is under way."""
        for publish, epoch, first, last in self._answers:
            if epoch == self._truth.epochs[-1]:  # else it was answered before the change, and may be lost
                events = self._truth.between(epoch, publish.channel, first - 1, last)
                assert [data for _, data in events] == publish.data, (first, last, publish)
        self._answers.clear()

    # A resume

    def _hear_back(self) -> None:
        """What comes next comes after the resume was done, if it was."""
        done = None if self._heard else self._truth.done.get(self._resume)
        if done is None:
            return
        self._heard, self._replaying = True, sorted(self.accounts)
        for name, account in self.accounts.items():
            account.begin_replay(done.epoch, done.flushed[name], self._config.history_events)

    def _resumed(self, message: Json) -> None:
        assert message["id"] == self._resume
        assert message["channels"] == self._replaying
        replays = [self.accounts[name] for name in self._replaying if name in self.accounts]
        cut = [account.end_replay() for account in replays if account.replay is not None]
        if len(cut) == len(self._replaying):
            assert message["replayed"] == self._replayed
            assert not any(cut) or self._replayed == self._config.max_replay, message
        else:  # some have ended meanwhile, and what they waited for did not come
            assert message["replayed"] >= self._replayed
        self._resume = None

    def _unsay(self) -> None:
        """The server has not heard where the client goes on, and will go on from its marks."""
        for name, place in self._said.items():
            self.accounts[name].place, self.accounts[name].honest = place, None
        self.marks, self._resume = self._marks_before, None
