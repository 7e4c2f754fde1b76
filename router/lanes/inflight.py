"""What was taken for writing and is not wholly out; no I/O."""

from __future__ import annotations

from itertools import islice

from router.batches import Slice
from router.outbox import Piece

#: Pieces shorter than this are joined for one write.
_JOIN_BELOW_BYTES = 16 * 1024
_JOINED_BYTES = 64 * 1024


class InFlight(list[Piece]):
    """Pieces in the order of their writing. The first may be partly out, even amid a frame; the others are whole.

    A list, though it is read from the front: it is short, and an empty deque weighs ten times as much.
    """

    __slots__ = ()

    def front(self) -> bytes | memoryview:
        """What to write next; short pieces as one."""
        first = self[0]
        rest = memoryview(first.buffer)[first.sent :] if first.sent else first.buffer
        if len(self) == 1 or len(rest) >= _JOIN_BELOW_BYTES:
            return rest
        joined, size = [rest], len(rest)
        for piece in islice(self, 1, None):
            joined.append(piece.buffer)
            size += len(piece.buffer)
            if size >= _JOINED_BYTES:
                break
        return b"".join(joined)

    def advance(self, sent: int) -> None:
        """So many bytes more are out."""
        whole = 0
        for piece in self:
            left = len(piece.buffer) - piece.sent
            if sent < left:
                piece.sent += sent
                break
            sent -= left
            whole += 1
        del self[:whole]

    def claim_frame(self) -> None:
        """Have the rest of a frame that is partly out go out here, whatever becomes of what follows it."""
        first = self[0] if self else None
        if first is None or _is_own(first) or not (frame := first.rest_of_frame()):
            return
        first.sent += len(frame)
        left = first.rest()
        self[:1] = [Piece(frame)]
        if isinstance(left, Slice):
            self.insert(1, Piece(left.buffer, first.queue, left, past=first.past))

    def release(self) -> list[Piece]:
        """Let go of all that came from an outbox. Returns it, for the outbox to take back what is not out."""
        pieces = [piece for piece in self if not _is_own(piece)]
        self[:] = [piece for piece in self if _is_own(piece)]
        return pieces


def _is_own(piece: Piece) -> bool:
    """Whether it is the connection's: neither a queue's nor of a replay."""
    return piece.queue is None and piece.past is None
