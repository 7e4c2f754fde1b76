"""Client of the NeuroGraph event router over WebSocket, for asyncio and Trio.

One screen of it:

    from neurograph_ws_client import Channel, NeurographWSClient

    async with NeurographWSClient("ws://127.0.0.1:8000/ws") as client:
        async for event in client.events(Channel.METRICS):
            print(event["data"])

All that there is to call belongs to `NeurographWSClient`. Where things are, from the outside in:

- client: `NeurographWSClient`: connecting and closing. Its other calls: subscribing (`subscribe`, `events`, `on`) and
  asking (`publish`, `history`, `ping` …); calls is what the three share. iterating: the stream that `events` gives.
- events, errors, codes: the types, the exceptions, the server's codes.
- driver: the tasks and the socket, on a backend: _asyncio or _trio. dispatching: calls handlers and callbacks.
- core: the state machine, without I/O. What it stands on: wire (one WebSocket), messages (the contract's), receiving
  (what the server says), subscriptions and options, publishing (the queue), requests (replies that are waited for),
  inbox (events that wait for handlers), notices (what callbacks are to be told), returning and backoff (whether and
  when to reconnect), liveness (heartbeats), settings.
"""

from neurograph_ws_client.asking import Publication
from neurograph_ws_client.client import NeurographWSClient
from neurograph_ws_client.codes import ErrorCode
from neurograph_ws_client.errors import (
    ClosedError,
    ConnectError,
    ConnectionLostError,
    HandlerError,
    MessageTooLargeError,
    NeurographError,
    NotConnectedError,
    ProtocolError,
    PublishUncertainError,
    QueueFullError,
    RequestRefusedError,
    RequestTimeoutError,
    SubscriptionDeniedError,
)
from neurograph_ws_client.events import (
    ActionsData,
    ActionsEvent,
    Authenticated,
    Callback,
    Channel,
    ConnectionInfo,
    ConnectionsData,
    ConnectionsEvent,
    Event,
    EventToPublish,
    Gap,
    History,
    LogsData,
    LogsEvent,
    MetricsData,
    MetricsEvent,
    Policy,
    Position,
    Published,
    SignalsData,
    SignalsEvent,
    State,
    StatusData,
    StatusEvent,
    SubscribeMultipleOptions,
    SubscribeOptions,
    TextEvent,
    Token,
)
from neurograph_ws_client.iterating import EventStream

__version__ = "0.61.0"

__all__ = [
    "ActionsData",
    "ActionsEvent",
    "Authenticated",
    "Callback",
    "Channel",
    "ClosedError",
    "ConnectError",
    "ConnectionInfo",
    "ConnectionLostError",
    "ConnectionsData",
    "ConnectionsEvent",
    "ErrorCode",
    "Event",
    "EventStream",
    "EventToPublish",
    "Gap",
    "HandlerError",
    "History",
    "LogsData",
    "LogsEvent",
    "MessageTooLargeError",
    "MetricsData",
    "MetricsEvent",
    "NeurographError",
    "NeurographWSClient",
    "NotConnectedError",
    "Policy",
    "Position",
    "ProtocolError",
    "Publication",
    "PublishUncertainError",
    "Published",
    "QueueFullError",
    "RequestRefusedError",
    "RequestTimeoutError",
    "SignalsData",
    "SignalsEvent",
    "State",
    "StatusData",
    "StatusEvent",
    "SubscribeMultipleOptions",
    "SubscribeOptions",
    "SubscriptionDeniedError",
    "TextEvent",
    "Token",
]
