"""Token buckets."""

from __future__ import annotations

import pytest

from homeserver.config import RateLimit
from homeserver.config import RateLimits as Rates
from homeserver.errors import LimitExceeded
from homeserver.http import rate_limits
from homeserver.http.rate_limits import Limit, RateLimits


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


RATES = Rates(message=RateLimit(per_second=2, burst=3))


def test_a_burst_is_served_and_the_next_one_told_when_to_come_back() -> None:
    limits = RateLimits(RATES, Clock())
    for _ in range(3):
        limits.take(Limit.MESSAGE, "@a:x")
    with pytest.raises(LimitExceeded) as refusal:
        limits.take(Limit.MESSAGE, "@a:x")
    assert refusal.value.fields == {"retry_after_ms": 501}
    assert refusal.value.headers == {"Retry-After": "1"}
    limits.take(Limit.MESSAGE, "@b:x")
    limits.take(Limit.ROOM, "@a:x")


def test_waiting_as_long_as_told_is_enough() -> None:
    clock = Clock()
    limits = RateLimits(RATES, clock)
    for _ in range(3):
        limits.take(Limit.MESSAGE, "@a:x")
    clock.now += 0.501
    limits.take(Limit.MESSAGE, "@a:x")
    with pytest.raises(LimitExceeded):
        limits.take(Limit.MESSAGE, "@a:x")


def test_switched_off_nothing_is_limited() -> None:
    limits = RateLimits(Rates(enabled=False), Clock())
    for _ in range(1000):
        limits.take(Limit.REGISTRATION, "@a:x")


def test_memory_is_bounded_and_the_busiest_stay_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_BUCKETS", 100)
    limits = RateLimits(RATES, Clock())
    for _ in range(3):
        limits.take(Limit.MESSAGE, "busy")
    for n in range(1000):
        limits.take(Limit.MESSAGE, str(n))
    assert len(limits._buckets[Limit.MESSAGE]._full_at) <= 100
    with pytest.raises(LimitExceeded):
        limits.take(Limit.MESSAGE, "busy")
