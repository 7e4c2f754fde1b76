"""The router: events in by WebSocket, fanned out to whoever subscribed, on one port with REST.

The data goes one way:

    socket → front door → connection (inbound lane → protocol) → router's mailbox
    router → channel (seq, encode once) → subscriptions → each session's outbox → outbound lane → socket

A module imports only from rooms above it in this list (`tests/test_rooms.py` enforces it):

    errors, clock, limits, permissions, config, events, frames, protocol, origin, auth,
    outbox, engine, subscriptions, sessions, lanes, metrics, hub, connection, liveness, feeds, rest, logs,
    server, cli
"""

__version__ = "0.61.0"
