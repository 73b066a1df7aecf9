"""A map of bounded size that forgets what was not asked for the longest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class LruCache(Generic[Key, Value]):
    """At most `size` entries; if they are weighed, entries of that weight together, or one.

    `discards`: how often something was discarded. Who reads from Postgres what belongs here notes
    it before, and gives it to `put_read` with what was read.
    """

    __slots__ = ("_entries", "_held", "_size", "_weigh", "discards")

    def __init__(self, size: int, weigh: Callable[[Value], int] | None = None) -> None:
        self._size = size
        self._weigh = weigh
        self._held = 0
        self._entries: OrderedDict[Key, Value] = OrderedDict()
        self.discards = 0

    def get(self, key: Key) -> Value | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> None:
        if self._weigh is not None:
            self._pop(key)
            self._held += self._weigh(value)
        self._entries[key] = value
        self._entries.move_to_end(key)
        if self._weigh is None:
            if len(self._entries) > self._size:
                self._entries.popitem(last=False)
            return
        while self._held > self._size and len(self._entries) > 1:
            self._held -= self._weigh(self._entries.popitem(last=False)[1])

    def put_read(self, key: Key, value: Value, discards: int) -> None:
        """Keep what was read, unless something was discarded since `discards`: that may be older
        than what was discarded for being old."""
        if discards == self.discards:
            self.put(key, value)

    def values(self) -> Iterable[Value]:
        return self._entries.values()

    def discard(self, key: Key) -> None:
        self.discards += 1
        self._pop(key)

    def discard_where(self, matches: Callable[[Value], bool]) -> None:
        """Forget all entries whose value matches: looks at every entry."""
        self.discards += 1
        for key in [key for key, value in self._entries.items() if matches(value)]:
            self._pop(key)

    def clear(self) -> None:
        """Forget everything."""
        self.discards += 1
        self._entries.clear()
        self._held = 0

    def _pop(self, key: Key) -> None:
        value = self._entries.pop(key, None)
        if value is not None and self._weigh is not None:
            self._held -= self._weigh(value)

    def __len__(self) -> int:
        return len(self._entries)
