"""The router: events in by WebSocket, fanned out to whoever subscribed, on one port with REST.

The data goes one way:

    socket → front door → connection (inbound lane → protocol → intake) → router's mailbox
    router (hub) → engine (seq, encode once) → subscriptions → each session's outbox → outbound lane → socket

A module imports only from rooms above it in this list (`tests/test_rooms.py` enforces it):

    errors, clock, nursery, limits, permissions, policies, addresses, config, events, schemas, channels, filters, paths,
    toml, values, checks, loading, settings, effective, reference,
    frames, batches, queues, handshake, protocol, origin,
    identity, access, revocations, jwks, auth,
    outbox, history, engine, subscriptions, fanning, lanes,
    recovery, sessions, letters, intake, blocking, ledger, accounts, state, attachment, administration, replays,
    publishing, subscribing, hub, connection, liveness, logs, feeds, payloads, broadcaster, integrations,
    rest, heads, tls, requests, exchange, http, listening, visitors, front_door, reloading, server, trio_thread, embed,
    cli, __main__
"""

__version__ = "0.61.0"
