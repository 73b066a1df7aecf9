"""Which state came of which: two of one room are compared by what changed since they were one.

A fork of a big room is compared a few times with each event. Looking at all of its entries costs
the event loop tens of milliseconds, looking at the steps that led here next to nothing.
Rules of this file: it is a cache. What it has forgotten is compared entry by entry.
"""

from __future__ import annotations

from collections.abc import Collection

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
    """The states are held here, so that their ids stay theirs."""

    child: State
    parent: State
    keys: Collection[StateKey]


class Lineage:
    """The newest steps; states are known by their identity."""

    def __init__(self, size: int) -> None:
        self._steps: LruCache[int, _Step] = LruCache(size)

    def note(self, child: State, parent: State, keys: Collection[StateKey]) -> None:
        """A state was made of another one by changing these keys."""
        if child is not parent and len(keys) <= MAX_KEYS:
            self._steps.put(id(child), _Step(child, parent, keys))

    def differing(self, one: State, other: State) -> set[StateKey]:
        """The keys in which two states differ."""
        changed = self._changed_since_one(one, other)
        if changed is None:
            return differing_keys(one, [other])
        return {key for key in changed if one.get(key) != other.get(key)}

    def _changed_since_one(self, one: State, other: State) -> set[StateKey] | None:
        """What was changed on the ways to both from the state that both came of."""
        way: list[_Step] = []
        passed = {id(one): 0}
        state = one
        while (step := self._step_to(state)) is not None and len(way) < MAX_STEPS:
            way.append(step)
            state = step.parent
            passed.setdefault(id(state), len(way))
        changed: set[StateKey] = set()
        state = other
        for _ in range(MAX_STEPS):
            if (steps := passed.get(id(state))) is not None:
                return changed.union(*(step.keys for step in way[:steps]))
            if (step := self._step_to(state)) is None:
                return None
            changed.update(step.keys)
            state = step.parent
        return None

    def _step_to(self, state: State) -> _Step | None:
        step = self._steps.get(id(state))
        return step if step is not None and step.child is state else None


LINEAGE = Lineage(5000)
"""Of all rooms."""
