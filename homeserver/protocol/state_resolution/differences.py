"""Which keys two states differ in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import compress, count
from operator import ne

import immutables

from homeserver.protocol.events import StateKey

StateIds = Mapping[StateKey, str]
_Listed = tuple[list[StateKey], list[str]]
_CHUNK = 128
_WINDOW = 16
_MAX_STEPS = 1024


def differing_keys(one: StateIds, others: Iterable[StateIds]) -> set[StateKey]:
    """The keys in which any of the others has another value, or that just one of the two has."""
    differing: set[StateKey] = set()
    listed: _Listed | None = None
    for other in others:
        if other is one:
            continue
        found = None
        if type(one) is dict and type(other) is dict:
            found = {key for key, _ in one.items() ^ other.items()}
        elif isinstance(one, immutables.Map) and isinstance(other, immutables.Map):
            listed = listed or _listed(one)
            found = _in_step(one, listed, other)
        differing |= _by_look_up(one, other) if found is None else found
    return differing


def _listed(state: StateIds) -> _Listed:
    """Its keys and its event ids, in the same order."""
    return list(state), list(state.values())


def _by_look_up(one: StateIds, other: StateIds) -> set[StateKey]:
    get = one.get
    differing = {key for key, id_ in other.items() if get(key) != id_}
    differing.update(key for key in one if key not in other)
    return differing


def _in_step(one: StateIds, listed: _Listed, other: StateIds) -> set[StateKey] | None:
    """Walks through two maps at once, chunk by chunk; None if they are too different for it.

    An immutable map iterates in the order of its keys' hashes. So two that have most keys in common
    go in step, and where they don't, a few entries are missing in one of them. What is reported too
    often is taken out at the end, so that the result is right whatever the order.
    """
    keys, ids = listed
    other_keys, other_ids = _listed(other)
    suspects: list[StateKey] = []
    at = other_at = 0
    for _ in range(_MAX_STEPS):
        run = _common_run(keys, at, other_keys, other_at)
        for start in range(0, run, _CHUNK):
            chunk = slice(at + start, at + min(start + _CHUNK, run))
            mine, others = ids[chunk], other_ids[_moved(chunk, other_at - at)]
            if mine != others:
                suspects.extend(compress(keys[chunk], map(ne, mine, others)))
        end, other_end = at + run, other_at + run
        if end == len(keys) or other_end == len(other_keys):
            suspects += keys[end:] + other_keys[other_end:]
            return {key for key in suspects if one.get(key) != other.get(key)}
        at, other_at = _next_common(keys, end, other_keys, other_end)
        suspects += keys[end:at] + other_keys[other_end:other_at]
    return None


def _moved(chunk: slice, by: int) -> slice:
    return slice(chunk.start + by, chunk.stop + by)


def _common_run(keys: list[StateKey], at: int, others: list[StateKey], other_at: int) -> int:
    """For how many entries two lists agree. Comparing chunks is what Python does fastest."""
    length = min(len(keys) - at, len(others) - other_at)
    for start in range(0, length, _CHUNK):
        stop = min(start + _CHUNK, length)
        mine, theirs = keys[at + start : at + stop], others[other_at + start : other_at + stop]
        if mine != theirs:
            return start + next(compress(count(), map(ne, mine, theirs)))
    return length


def _next_common(
    keys: list[StateKey], at: int, others: list[StateKey], other_at: int
) -> tuple[int, int]:
    """Where two lists agree again; if that isn't near, one further in both."""
    if (found := _find(keys[at], others, other_at)) is not None:
        return at, found
    if (found := _find(others[other_at], keys, at)) is not None:
        return found, other_at
    return at + 1, other_at + 1


def _find(key: StateKey, keys: list[StateKey], start: int) -> int | None:
    try:
        return keys.index(key, start, start + _WINDOW)
    except ValueError:
        return None
