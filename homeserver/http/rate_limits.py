"""How often a user, or an address, may do what a route declares with `limit=`.

Each `Limit` is a bucket that refills at `per_second` and holds `burst` requests. A bucket is one
number, the time at which it will be full again (GCRA), so a full bucket needs no memory.
client-server-api#rate-limiting
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable

from homeserver.config import RateLimit
from homeserver.config import RateLimits as Rates
from homeserver.errors import LimitExceeded

MAX_BUCKETS = 20_000


class Limit(enum.Enum):
    """What is counted together. The values are the keys of `rate_limits` in the config."""

    NONE = "none"
    DEFAULT = "default"
    MESSAGE = "message"
    LOGIN = "login"
    REGISTRATION = "registration"
    MEDIA = "media"
    ROOM = "room"
    FEDERATION = "federation"


class _Buckets:
    """The buckets of one limit, by key."""

    __slots__ = ("_full_at", "_interval", "_window")

    def __init__(self, rate: RateLimit) -> None:
        self._interval = 1 / rate.per_second
        self._window = self._interval * rate.burst
        self._full_at: dict[str, float] = {}

    def take(self, key: str, now: float) -> float:
        """Take one from the bucket of `key`; seconds to wait where it is empty, else 0."""
        full_at = max(self._full_at.get(key, 0.0), now) + self._interval
        wait = full_at - now - self._window
        if wait > 1e-9:
            return wait
        if key not in self._full_at and len(self._full_at) >= MAX_BUCKETS:
            self._make_room(now)
        self._full_at[key] = full_at
        return 0.0

    def _make_room(self, now: float) -> None:
        """Forget the full buckets, and if there are none, the tenth that will be full first."""
        kept = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        if len(kept) >= MAX_BUCKETS:
            latest = sorted(kept.items(), key=lambda item: item[1])[MAX_BUCKETS // 10 :]
            kept = dict(latest)
        self._full_at = kept


class RateLimits:
    """All the buckets of this process. Switched off, every limit is unlimited."""

    def __init__(self, rates: Rates, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets: dict[Limit, _Buckets] = {}
        if rates.enabled:
            limited = set(Limit) - {Limit.NONE}
            self._buckets = {limit: _Buckets(getattr(rates, limit.value)) for limit in limited}
        self._clock = clock

    def take(self, limit: Limit, key: str) -> None:
        """Count one request of `key` (a user id or an address). Raises `LimitExceeded`."""
        buckets = self._buckets.get(limit)
        if buckets is None:
            return
        wait = buckets.take(key, self._clock())
        if wait:
            raise LimitExceeded(int(wait * 1000) + 1)
