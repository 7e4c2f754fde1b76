"""The server's own events: actors that turn what happens in it into events of the system's channels."""
