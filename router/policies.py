"""The policies of a subscription: a name on the wire and in the configuration, so it stands by itself."""

from __future__ import annotations

import enum


class Policy(enum.StrEnum):
    """What a subscription gives up where its client is too slow."""

    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"
    LATEST = "latest"
    DISCONNECT = "disconnect"
