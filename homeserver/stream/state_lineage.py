"""Which state came of which: two of one room are compared by what changed since they were one.

A fork of a big room is compared a few times with each event. Looking at all of its entries costs
the event loop tens of milliseconds, looking at the steps that led here next to nothing.
Rules of this file: it is a cache. What it has forgotten is compared entry by entry.
"""

from __future__ import annotations

from collections.abc import Collection
from weakref import ref

from immutables import Map
from msgspec import Struct

from homeserver.lru_cache import LruCache
from homeserver.protocol.state_resolution.differences import differing_keys
from homeserver.store.state import StateKey

State = Map[StateKey, str]
MAX_KEYS = 500
"""A step of more keys isn't kept: comparing everything costs little more."""
MAX_STEPS = 300


class _Step(Struct, frozen=True, eq=False):
    """How a state was made: by changing keys of what the step `before` made.

    The states are not held: that would keep those of rooms that were let go from memory.
    """

    state: ref[State]
    keys: Collection[StateKey]
    before: _Step | None
    depth: int


class Lineage:
    """The newest steps; states are known by their identity."""

    def __init__(self, size: int) -> None:
        self._steps: LruCache[int, _Step] = LruCache(size)

    def note(self, child: State, parent: State, keys: Collection[StateKey]) -> None:
        """A state was made of another one by changing these keys."""
        if child is parent or len(keys) > MAX_KEYS:
            return
        before = self._step_to(parent)
        if before is None or before.depth == MAX_STEPS:
            before = _Step(ref(parent), (), None, 0)
            self._steps.put(id(parent), before)
        self._steps.put(id(child), _Step(ref(child), keys, before, before.depth + 1))

    def differing(self, one: State, other: State) -> set[StateKey]:
        """The keys in which two states differ."""
        changed = self._changed(self._step_to(one), self._step_to(other))
        if changed is None:
            return differing_keys(one, [other])
        return {key for key in changed if one.get(key) != other.get(key)}

    def _changed(self, one: _Step | None, other: _Step | None) -> set[StateKey] | None:
        """What was changed on the ways to both from where both came from; None: nobody knows."""
        changed: set[StateKey] = set()
        while one is not other:
            if one is None or other is None:
                return None
            if one.depth >= other.depth:
                changed.update(one.keys)
                one = one.before
            else:
                changed.update(other.keys)
                other = other.before
        return changed if one is not None else None

    def _step_to(self, state: State) -> _Step | None:
        step = self._steps.get(id(state))
        return step if step is not None and step.state() is state else None


LINEAGE = Lineage(5000)
"""Of all rooms."""
