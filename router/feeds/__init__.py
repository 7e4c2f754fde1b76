"""What the server itself has to say: actors that turn its own life into events of the system's channels."""
