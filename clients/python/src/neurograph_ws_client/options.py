"""The options of a subscription, as users give them; no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from neurograph_ws_client.events import Policy
from neurograph_ws_client.messages import At, encode_exactly

_SHAPE: Final = ("filter", "policy", "key")
_PAST: Final = ("last", "since")
_NAMES: Final = (*_SHAPE, "recover", *_PAST)


class Options(NamedTuple):
    """How a channel is subscribed to. `past` is `last` or `since`, for a subscription that has no position yet."""

    shape: Mapping[str, Any] = {}
    past: Mapping[str, Any] = {}


def read_options(**options: Any) -> Options | None:
    """Options as the user gives them; None: none were given. `recover` is read by `read_positions`.

    Raises:
        ValueError: They cannot stand together, or one is none of the contract's.
        TypeError: There is no such option, or a filter holds what JSON has no kind for.
    """
    for name in options:
        if name not in _NAMES:
            raise TypeError(f"{name!r} is not an option of a subscription; they are {', '.join(_NAMES)}")
    given = {name: value for name, value in options.items() if value is not None}
    if len(given.keys() & {"recover", "last", "since"}) > 1:
        raise ValueError("recover, last, since: only one of them; each says where a stream begins")
    policy = given.get("policy")
    if policy is not None and policy not in list(Policy):
        raise ValueError(f"policy: {policy!r} is not one; they are {', '.join(Policy)}")
    if "key" in given and policy != Policy.LATEST:
        raise ValueError("key: it goes with policy='latest' only")
    shape = {name: value for name, value in given.items() if name in _SHAPE}
    past = {name: value for name, value in given.items() if name in _PAST}
    try:
        encode_exactly((shape, past))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise TypeError(f"filter, last, since: not JSON ({error})") from None
    return Options(shape, past) if shape or past else None


def read_positions(recover: object, channels: Sequence[str]) -> dict[str, At]:
    """Where to go on, by channel, as the user gives it; None: nowhere in particular.

    Raises:
        TypeError: It is no position for each channel that has one.
    """
    if recover is None:
        return {}
    if not isinstance(recover, Mapping):
        raise TypeError(f"recover: positions by channel (got {recover!r})")
    for channel in recover:
        if channel not in channels:
            raise TypeError(f"recover: {channel!r} is not among the channels {', '.join(channels)}")
    return {channel: read_position("recover", at) for channel, at in recover.items()}


def read_position(name: str, at: object) -> At:
    """A position, as the user gives it.

    Raises:
        TypeError: It is none; the message begins with the argument's name.
    """
    match at:
        case {"epoch": str(epoch), "seq": int(seq)}:
            return At(epoch, seq)
    raise TypeError(f"{name}: a position is {{'epoch': '…', 'seq': 41}} (got {at!r})")
