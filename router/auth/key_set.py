"""Public keys that change while the server runs: a JWK set, cached and rotated.

An identity provider publishes its public keys as one JSON document (RFC 7517) and changes them when it likes.
`KeySet` holds the last good copy. It asks for a new one when the copy is old or when a token names a key that is
not in it; it never asks more often than a fixed interval, whatever tokens arrive, and it keeps what it holds when
the answer is bad. Fetching blocks, so it happens in a thread; everything else happens in the event loop.
"""

from collections.abc import Callable

import structlog
import trio

from router.auth.jwks_fetch import checked_name, load
from router.auth.keys import KeyConfigError, VerifyKey

_log = structlog.get_logger("router.auth")


class KeySet:
    """The keys of one JWK set, kept fresh.

    The mutable state is the last good copy (`_keys`, `_loaded_at`), when a fetch was last begun (`_tried_at`),
    how many refreshes have ended (`_ended`), and what was last reported as left out (`_ignored`). It changes only
    under `_lock`.
    """

    def __init__(
        self,
        location: str,
        *,
        allowed: tuple[str, ...],
        cache_s: float,
        min_refresh_s: float,
        timeout_s: float,
        now: Callable[[], float],
    ) -> None:
        """See `router.auth.tokens.JwtSettings` for the times, in seconds; raises KeyConfigError for the location."""
        self._name = checked_name(location)
        self._location = location
        self._allowed = allowed
        self._cache_s = cache_s
        self._min_refresh_s = min_refresh_s
        self._timeout_s = timeout_s
        self._now = now
        self._lock = trio.Lock()
        # A thread that was given up on goes on till its timeouts; until then no other is started.
        self._one_thread = trio.CapacityLimiter(1)
        self._keys: tuple[VerifyKey, ...] = ()
        self._ignored: tuple[str, ...] = ()
        self._loaded_at: float | None = None
        self._tried_at: float | None = None
        self._ended = 0

    async def start(self) -> None:
        """Load the set for the first time.

        Raises:
            KeyConfigError: It cannot be had or used.

        Cancellation: safe; nothing has changed then, except that the next fetch may have to wait.
        """
        async with self._lock:
            await self._fetch()

    async def find(self, kid: str | None) -> tuple[VerifyKey, ...]:
        """The keys that a token may mean: those named `kid`, or all where it names none.

        A key that is held never waits for a fetch that another call has under way. One that is not held does, and
        begins a fetch itself if the last one was begun long enough ago. No key at all is an answer, not an error.

        Cancellation: safe, also for others that wait for the fetch this call has under way: one of them begins
        it anew.
        """
        keys = self._held(kid)
        fetching = self._lock.locked()
        wanted = not keys or (not fetching and not self._within(self._loaded_at, self._cache_s))
        if wanted and (fetching or not self._within(self._tried_at, self._min_refresh_s)):
            await self._refresh()
            keys = self._held(kid)
        return keys

    def _held(self, kid: str | None) -> tuple[VerifyKey, ...]:
        return tuple(key for key in self._keys if kid is None or key.kid == kid)

    def _within(self, moment: float | None, seconds: float) -> bool:
        """Whether a moment is less than so long ago; a clock that was set back counts as long ago."""
        return moment is not None and 0 <= self._now() - moment < seconds

    async def _refresh(self) -> None:
        """Fetch once, or take what another call's fetch brings; a failure is logged and changes nothing."""
        before = self._ended
        async with self._lock:
            if self._ended != before:
                return  # the fetch that was waited for has ended, well or badly; a cancelled one has not
            try:
                await self._fetch()
            except KeyConfigError as exc:
                _log.warning("jwks could not be fetched again", error=str(exc), keys_held=len(self._keys))
            self._ended += 1

    async def _fetch(self) -> None:
        """Replace the keys held by those of a new copy; KeyConfigError and cancellation leave them."""
        self._tried_at = self._now()
        try:
            # Twice the time: the thread's own limits come first and say more. This one is for what they do not
            # cover: name resolution, and a thread that was given up on and is not done.
            with trio.fail_after(2 * self._timeout_s):
                keys, ignored = await trio.to_thread.run_sync(
                    load,
                    self._location,
                    self._name,
                    self._timeout_s,
                    self._allowed,
                    abandon_on_cancel=True,
                    limiter=self._one_thread,
                )
        except trio.TooSlowError:
            why = f"no answer within {2 * self._timeout_s:g} s; check the setting and the network"
            raise KeyConfigError(f"jwks: {self._name}: {why}") from None
        self._keys = keys
        self._loaded_at = self._now()
        if ignored != self._ignored:  # a set is fetched again and again, and mostly it is the same
            self._ignored = ignored
            _log.warning("jwks has keys that are ignored", source=self._name, keys=list(ignored))
