"""The bounded map, and the histogram of the hot path."""

from __future__ import annotations

from collections.abc import Callable

import pytest

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


def test_entries_are_held_up_to_their_weight_and_the_newest_always() -> None:
    cache: LruCache[str, str] = LruCache(5, weigh=len)
    cache.put("a", "xx")
    cache.put("b", "xxx")
    cache.put("b", "xx")
    assert (cache.get("a"), cache.get("b")) == ("xx", "xx")
    cache.put("c", "xx")
    assert (cache.get("a"), len(cache)) == (None, 2)
    cache.put("d", "x" * 9)
    assert (cache.get("d"), len(cache)) == ("x" * 9, 1)
    cache.discard("d")
    cache.put("e", "xxxxx")
    assert cache.get("e") == "xxxxx"


@pytest.mark.parametrize(
    "forget",
    [
        lambda cache: cache.discard("other"),
        lambda cache: cache.discard_where(lambda _: False),
        lambda cache: cache.clear(),
    ],
)
def test_what_was_read_is_not_kept_if_anything_was_discarded_meanwhile(
    forget: Callable[[LruCache[str, int]], None],
) -> None:
    cache: LruCache[str, int] = LruCache(10)
    before = cache.discards
    forget(cache)
    cache.put_read("a", 1, before)
    assert cache.get("a") is None
    cache.put_read("a", 1, cache.discards)
    assert cache.get("a") == 1


def test_a_histogram_counts_up_to_and_including_its_bounds() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert histogram.cumulative() == [("1.0", 2), ("2.0", 3), ("+Inf", 4)]
    assert histogram.total == 12.0
