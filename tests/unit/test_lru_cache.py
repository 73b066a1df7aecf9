"""The bounded map, and the histogram of the hot path."""

from __future__ import annotations

from homeserver.histogram import Histogram
from homeserver.lru_cache import LruCache


def test_the_longest_unused_is_forgotten() -> None:
    cache: LruCache[str, int] = LruCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)


def test_entries_are_discarded_by_value() -> None:
    cache: LruCache[str, int] = LruCache(10)
    for number in range(6):
        cache.put(str(number), number)
    cache.discard_where(lambda value: value % 2 == 0)
    cache.discard("1")
    cache.discard("unknown")
    assert [cache.get(str(number)) for number in range(6)] == [None, None, None, 3, None, 5]
    assert len(cache) == 2


def test_a_histogram_counts_up_to_and_including_its_bounds() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert histogram.cumulative() == [("1.0", 2), ("2.0", 3), ("+Inf", 4)]
    assert histogram.total == 12.0
