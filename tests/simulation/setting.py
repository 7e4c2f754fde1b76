"""What is served, within bounds that are reached, and what clients ask for."""

from __future__ import annotations

from router.config import ChannelSettings, Config
from router.limits import Rate
from tests.router.harness import Json
from tests.simulation.truth import Wants

CHANNELS = ("signals", "actions")
_OFTEN = Rate(burst=100_000, per_s=100_000)
#: Bounds that are reached, and a channel whose publishers wait for room.
SMALL = Config(
    channels={"actions": ChannelSettings(block=True, block_timeout_ms=500)},
    outbox_events=25,
    outbox_bytes=6_000,
    detached_events=15,
    max_detached_sessions=4,
    session_ttl_s=20,
    history_events=40,
    max_replay=30,
    heartbeat_s=10,
    silence_s=100_000,
    publish_key_s=40,
    router_mailbox=5,
    rate_subscribe=_OFTEN,
    rate_unsubscribe=_OFTEN,
    rate_get_subscriptions=_OFTEN,
    rate_other=_OFTEN,
)
FILTERS: list[tuple[Json | None, Wants]] = [
    (None, lambda data: True),
    ({"data.p": {"$lt": 3}}, lambda data: data["p"] < 3),
    ({"data.p": 0}, lambda data: data["p"] == 0),
    ({"data.p": {"$gte": 3}}, lambda data: data["p"] >= 3),
]
POLICIES = ["drop_oldest", "drop_oldest", "drop_newest", "latest", "disconnect"]
