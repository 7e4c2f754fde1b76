"""Client of the NeuroGraph event router over WebSocket, for asyncio and Trio.

One screen of it:

    from neurograph_ws_client import Channel, NeurographWSClient

    async with NeurographWSClient("ws://127.0.0.1:8000/ws") as client:
        async for event in client.events(Channel.METRICS):
            print(event["data"])

All that there is to call belongs to `NeurographWSClient`.
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
)
from neurograph_ws_client.iterating import EventStream

__version__ = "0.61.0"

__all__ = [
    "ActionsData",
    "ActionsEvent",
    "Authenticated",
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
]
