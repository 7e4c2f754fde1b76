"""The HTTP side: a Quart-Trio app under Hypercorn, on the same port as the WebSocket; one module a resource."""
