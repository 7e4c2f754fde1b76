"""`/healthz` and `/readyz`: whether the process lives, and whether it should be sent clients."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

from msgspec import Struct
from quart import Quart, Response

from router.letters import Broadcast, Receipt
from router.protocol import Refusal
from router.rest.admission import Context, ask
from router.rest.answers import Ok, answered
from router.rest.operations import operation

#: Who asks often wants to know soon.
READY_WITHIN_S = 2.0


class Healthy(Struct):
    """The process lives."""

    status: Ok = "ok"


class Ready(Struct):
    """The server takes clients."""

    status: Literal["ready"] = "ready"


def add_health(app: Quart, context: Context) -> None:
    """Add the resources."""

    @app.get("/healthz")
    @operation("Health", Healthy, secured=False)
    def healthz() -> Response:
        """Whether the process lives.

        Needs no token, and is not counted against the rate limit.
        """
        return answered(Healthy())

    @app.get("/readyz")
    @operation("Health", Ready, secured=False, problems=[HTTPStatus.SERVICE_UNAVAILABLE])
    async def readyz() -> Response:
        """Whether the server takes clients.

        503 while it is going down, or where its router does not answer. Needs no token, and is not counted against
        the rate limit.
        """
        _: list[Receipt | Refusal] = await ask(context, lambda reply: Broadcast(reply, []), READY_WITHIN_S)
        return answered(Ready())
