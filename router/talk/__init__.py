"""The client's side of the wire contract, as much of it as `sub` and `pub` need.

`connect` is one connection. `keep_talking` comes back by the rules for close codes and resumes its session. What the
server says comes out as the structs of `router.talk.said`, in the order it came.
"""

from router.talk.conversation import Conversation, Lost, Return, connect, may_return
from router.talk.returning import keep_talking
from router.talk.target import TalkError, Target

__all__ = ["Conversation", "Lost", "Return", "TalkError", "Target", "connect", "keep_talking", "may_return"]
