"""The two fast lanes over a byte stream.

`inbound` lifts whole messages out of what a client sends, `outbound` writes what goes to it, `lane` joins them into
the stream that the WebSocket library is given in place of the socket, and `websocket` is that library.
"""

from router.lanes.lane import Lane as Lane
from router.lanes.sockets import socket_writer as socket_writer
from router.lanes.websocket import WebSocket as WebSocket
