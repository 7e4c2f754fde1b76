"""The router: events in by WebSocket, fanned out to whoever subscribed, on one port with REST.

The data goes one way:

    socket → front door → connection (inbound lane → protocol → intake) → router's mailbox
    router (hub) → engine (seq, encode once) → subscriptions → each session's outbox → outbound lane → socket

In layers: a module imports only from those above it in this list (`tests/test_layers.py` enforces it):

    errors, clock, nursery, limits, permissions, policies, addresses, config, events, schemas, channels, filters, paths,
    loading,
    frames, batches, queues, handshake, protocol, origin,
    auth,
    outbox, history, engine, subscriptions, fanning, lanes,
    recovery, sessions, letters, intake, blocking, ledger, accounts,
    hub,
    connection, liveness, logs, feeds, payloads, broadcaster, integrations,
    rest, door, reloading, server, trio_thread, embed,
    cli, __main__
"""

__version__ = "0.61.0"
