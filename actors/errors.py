"""What can go wrong between actors, by whose fault it is.

ActorError
├── MailboxFull         the receiver is behind: the sender decides what becomes of its message
├── ActorGoneError      the receiver has ended for good, or is about to: it was told to stop
├── NoReplyError        the receiver had the question and ended without an answer
├── StartTimeoutError   a child did not call `started()` in time
└── RestartLimitError   a supervisor gave up; its `__cause__` is the child's last error
"""


class ActorError(Exception):
    """Base of all errors of this package."""


class MailboxFull(ActorError):
    """`tell` found no room.

    Attributes:
        actor: The receiver's name.
        capacity: How many messages its mailbox holds.
    """

    def __init__(self, actor: str, capacity: int) -> None:
        super().__init__(f"the mailbox of {actor!r} is full ({capacity} messages)")
        self.actor = actor
        self.capacity = capacity


class ActorGoneError(ActorError):
    """The actor has ended and will not be restarted, or was told to stop and takes no more.

    Attributes:
        actor: The receiver's name.
    """

    def __init__(self, actor: str) -> None:
        super().__init__(f"actor {actor!r} has ended")
        self.actor = actor


class NoReplyError(ActorError):
    """The actor ended without an answer: it held the question as it ended or was restarted, or never came to it.

    Attributes:
        actor: The name of the actor that was asked.
    """

    def __init__(self, actor: str) -> None:
        super().__init__(f"actor {actor!r} ended without answering")
        self.actor = actor


class StartTimeoutError(ActorError):
    """A child did not say that it has started within its `start_timeout_s`.

    Attributes:
        child: Its name.
        timeout_s: The seconds it had.
    """

    def __init__(self, child: str, timeout_s: float) -> None:
        super().__init__(f"child {child!r} did not call started() within {timeout_s:g} s")
        self.child = child
        self.timeout_s = timeout_s


class RestartLimitError(ActorError):
    """A child ended more often than its supervisor allows; `__cause__` is its last error, if it ended by one.

    Attributes:
        supervisor: The name of the supervisor that gave up.
        child: The name of the child that ended last.
    """

    def __init__(self, supervisor: str, child: str, max_restarts: int, period_s: float) -> None:
        super().__init__(
            f"supervisor {supervisor!r} gives up: child {child!r} needed more than "
            f"{max_restarts} restarts within {period_s:g} s"
        )
        self.supervisor = supervisor
        self.child = child
