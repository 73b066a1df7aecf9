"""Servers of which we have no key yet: anybody can make up their names, and asking takes a while.

So only so many are asked at a time, few for one address, and a name that turned out to be nobody's
isn't asked about again at once. Servers that we know never wait for any of this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from homeserver.clock import Clock
from homeserver.errors import LimitExceeded, Unauthorized
from homeserver.lru_cache import LruCache

AT_ONCE = 100
PER_ADDRESS = 10
AGAIN_MS = 60_000
REMEMBERED = 10_000


class Strangers:
    """Gives out the places."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open = Counter[str]()
        self._nobody: LruCache[str, int] = LruCache(REMEMBERED)

    @contextmanager
    def place(self, server_name: str, address: str) -> Iterator[None]:
        """Held while a server is asked for its keys on behalf of an address.

        Raises LimitExceeded, or Unauthorized for a name that was nobody's a moment ago.
        """
        if self._clock() - (self._nobody.get(server_name) or 0) < AGAIN_MS:
            raise Unauthorized(f"The keys of {server_name} can't be had")
        if self._open.total() >= AT_ONCE or self._open[address] >= PER_ADDRESS:
            raise LimitExceeded(2_000, "Too many servers that we don't know yet. Try again soon.")
        self._open[address] += 1
        try:
            yield
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    def is_nobody(self, server_name: str) -> None:
        """It has no keys to show."""
        self._nobody.put(server_name, self._clock())
