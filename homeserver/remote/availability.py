"""Which servers don't answer, and when they are asked again.

Each failure doubles the time until the next attempt; one success, or a request from that server,
ends it. Kept in memory; `changed` is what the federation sender's task writes to Postgres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from homeserver.backoff import Backoff
from homeserver.clock import Clock

BACKOFF_MS = Backoff(2_000, 6 * 3600 * 1000)
MAX_OUTAGES = 20_000
"""So many failing servers are remembered: anybody can name servers that there are not."""


class Outage(Struct, frozen=True):
    """`failing_since` and `retry_at` in milliseconds since the epoch; `failures` in a row."""

    destination: str
    failing_since: int
    failures: int
    retry_at: int


class Availability:
    """The servers that fail at present."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._outages: dict[str, Outage] = {}
        self._changed: set[str] = set()
        self._on_return: list[Callable[[str], None]] = []

    def restore(self, outages: Iterable[Outage]) -> None:
        """What was known before the start."""
        self._outages = {outage.destination: outage for outage in outages}

    def on_return(self, tell: Callable[[str], None]) -> None:
        """`tell` is called with each server that is there again."""
        self._on_return.append(tell)

    def retry_at(self, destination: str) -> int:
        """From when on it may be asked again: 0 for a server that isn't failing."""
        outage = self._outages.get(destination)
        return outage.retry_at if outage else 0

    def is_backing_off(self, destination: str) -> bool:
        outage = self._outages.get(destination)
        return outage is not None and outage.retry_at > self._clock()

    def failed(self, destination: str) -> None:
        """An attempt failed. Attempts that overlap count as one."""
        now = self._clock()
        old = self._outages.get(destination)
        if old is not None and old.retry_at > now:
            return
        failures = old.failures + 1 if old else 1
        since = old.failing_since if old else now
        retry_at = now + int(BACKOFF_MS.after(failures))
        self._outages.pop(destination, None)
        self._outages[destination] = Outage(destination, since, failures, retry_at)
        self._changed.add(destination)
        if len(self._outages) > MAX_OUTAGES:
            forgotten = next(iter(self._outages))  # the one that was asked for the longest ago
            del self._outages[forgotten]
            self._changed.add(forgotten)

    def is_there(self, destination: str) -> None:
        """It answered, or called us."""
        if self._outages.pop(destination, None) is None:
            return
        self._changed.add(destination)
        for tell in self._on_return:
            tell(destination)

    def take_changes(self) -> tuple[list[Outage], list[str]]:
        """The outages to write and the servers whose outage is over, since the last call."""
        changed, self._changed = self._changed, set()
        outages = [self._outages[name] for name in changed if name in self._outages]
        return outages, [name for name in changed if name not in self._outages]

    def note_changed(self, destinations: Iterable[str]) -> None:
        """What was taken of these could not be written."""
        self._changed.update(destinations)
