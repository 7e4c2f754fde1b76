"""A router beside a FastAPI application, which tells of what its handlers do, async or not.

uvicorn --app-dir examples fastapi_app:app --port 9000
curl localhost:9000                   # where the events are: {"events":"ws://127.0.0.1:8000/ws"}
curl -X POST localhost:9000/orders/7
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from router.embed import Router
from router.integrations import broadcast_action_event, broadcast_signal_event
from router.loading import load


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The router runs in a thread of its own for as long as the application does."""
    async with Router(load().config) as router:
        app.state.router = router
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
def index() -> dict[str, str]:
    """Where to listen."""
    return {"events": app.state.router.url}


@app.post("/orders/{order}")
async def take_order(order: str) -> dict[str, bool]:
    """An async handler: a broadcast never waits, so it holds nobody up."""
    await asyncio.sleep(0.01)  # what the order takes
    return {"told": broadcast_action_event(action_id=order, action_type="order", status="done")}


@app.post("/signals/{kind}")
def take_signal(kind: str, priority: int = 100) -> dict[str, bool]:
    """A sync handler, which FastAPI calls in a thread."""
    return {"told": broadcast_signal_event(f"signal.{kind}", priority=priority)}
