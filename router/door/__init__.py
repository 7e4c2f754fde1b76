"""The one port: connections accepted, the head of each request read, and led to a WebSocket or to HTTP.

In layers, as the modules of `router` are:

    heads, tls, streams, exchange, http, listening, visitors, front_door
"""
