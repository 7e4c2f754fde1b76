"""Watches all connections: heartbeats, with positions, silence, unfinished messages, expiring tokens.

One task looks at every connection once a second. A task, or a cancel scope, for each would cost more than all
else that a connection has.
"""

from __future__ import annotations

import trio

from actors import Mailbox, MailboxFull
from router.auth.identity import Identity
from router.connection import Connection, Services
from router.errors import CloseCode
from router.frames import PING_FRAME
from router.protocol import reply

LOOK_EVERY_S = 1.0
#: A token's end is announced this long ahead, or at half its life where that is shorter.
EXPIRY_NOTICE_S = 60.0
_CONNECTIONS_BETWEEN_YIELDS = 64


class Liveness:
    """The actor that watches. It has no state: what it looks at belongs to the connections."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._config = services.state.config
        self._clock = services.state.clock

    async def run(self, mailbox: Mailbox[None], *, task_status: trio.TaskStatus[None]) -> None:
        """Look once a second, until the mailbox ends."""
        task_status.started()
        look_at = trio.current_time()
        while True:
            look_at = max(look_at + LOOK_EVERY_S, trio.current_time())
            with trio.move_on_at(look_at):
                async for _ in mailbox:
                    pass
                return
            await self._look()

    async def _look(self) -> None:
        try:
            self._services.router.tell("tick")
        except MailboxFull:
            pass  # it is awake
        heartbeat = reply("ping", timestamp=self._clock.timestamp())
        for index, connection in enumerate(tuple(self._services.connections), 1):
            self._look_at(connection, heartbeat)
            if index % _CONNECTIONS_BETWEEN_YIELDS == 0:
                await trio.lowlevel.checkpoint()

    def _look_at(self, connection: Connection, heartbeat: bytes) -> None:
        lane, config, now = connection.lane, self._config, trio.current_time()
        if lane.ended or lane.closing or connection.session is None:
            return  # its own task sees to it, under deadlines of its own
        if lane.handing_over:
            lane.heard_at = now  # it is we who do not listen
        if now - lane.heard_at > config.silence_s:
            lane.close(CloseCode.HEARTBEAT_MISSED, f"nothing heard for {config.silence_s:g} s")
        elif lane.begun_at is not None and now - lane.begun_at > config.message_s:
            lane.close(CloseCode.POLICY_VIOLATION, f"message not whole within {config.message_s:g} s")
        else:
            self._look_at_token(connection)
            if now >= connection.heartbeat_at:
                connection.heartbeat_at = now + config.heartbeat_s
                lane.send_control(heartbeat if connection.text_heartbeat else PING_FRAME)
                positions = self._services.state.untold_positions(connection.session)
                if positions:
                    lane.send_control(reply("position", positions=positions))

    def _look_at_token(self, connection: Connection) -> None:
        identity = connection.identity
        if identity is None or identity.expires_at is None:
            return
        left = identity.expires_at - self._clock.unix_s()
        if left <= 0:
            connection.lane.close(CloseCode.TOKEN_EXPIRED, "the token has expired")
        elif not connection.expiry_announced and left <= _notice_s(identity, identity.expires_at):
            connection.expiry_announced = True
            expires_at = self._clock.timestamp(int(identity.expires_at * 1000))
            connection.lane.send_control(reply("token_expiring", expires_at=expires_at))


def _notice_s(identity: Identity, expires_at: float) -> float:
    if identity.issued_at is None:
        return EXPIRY_NOTICE_S
    return min(EXPIRY_NOTICE_S, (expires_at - identity.issued_at) / 2)
