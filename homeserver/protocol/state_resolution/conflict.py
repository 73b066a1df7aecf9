"""Which keys of some states are in conflict (rooms/v2#definitions, rooms/v1#state-resolution)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from homeserver.protocol.events import StateKey
from homeserver.protocol.room_versions import RoomVersion, StateResolution
from homeserver.protocol.state_resolution.differences import StateIds, differing_keys


class Conflict:
    """States that differ: `base` is one of them, `conflicted` has each fork's event id by key.

    `agreed` holds unconflicted entries in which `base` lags behind the forks.
    """

    __slots__ = ("agreed", "base", "conflicted", "forks")

    def __init__(
        self,
        base: StateIds,
        agreed: dict[StateKey, str],
        conflicted: dict[StateKey, tuple[str | None, ...]],
        forks: int,
    ) -> None:
        self.base = base
        self.agreed = agreed
        self.conflicted = conflicted
        self.forks = forks

    def unconflicted(self, key: StateKey) -> str | None:
        """The event id that the unconflicted state map has for a key."""
        if key in self.conflicted:
            return None
        return self.agreed.get(key) or self.base.get(key)

    @property
    def event_ids(self) -> set[str]:
        """The conflicted state set."""
        return {id_ for ids in self.conflicted.values() for id_ in ids if id_ is not None}

    def fork_events(self, fork: int) -> list[str]:
        """The conflicted events of one fork's state."""
        ids = (ids[fork] for ids in self.conflicted.values())
        return [id_ for id_ in ids if id_ is not None]

    def changes(self, resolved: StateIds) -> dict[StateKey, str | None]:
        """What the resolved state differs in from `base`; None removes a key.

        "Update the result by replacing any event with the event with the same key from the
        unconflicted state map"
        """
        changes: dict[StateKey, str | None] = dict.fromkeys(self.conflicted)
        changes.update(
            (key, id_) for key, id_ in resolved.items() if self.unconflicted(key) is None
        )
        changes.update(self.agreed)
        get = self.base.get
        return {key: id_ for key, id_ in changes.items() if get(key) != id_}

    def applied(self, resolved: StateIds) -> dict[StateKey, str]:
        """The whole resolved state."""
        state = dict(self.base)
        for key, id_ in self.changes(resolved).items():
            if id_ is None:
                del state[key]
            else:
                state[key] = id_
        return state


def find_conflict(rules: RoomVersion, state_maps: Sequence[StateIds]) -> Conflict:
    """Compares whole states, the first of which becomes the base."""
    base, *others = state_maps
    keys = differing_keys(base, others)
    values = {key: tuple(state.get(key) for state in state_maps) for key in keys}
    return _conflict(rules, base, values, len(state_maps))


def find_conflict_in_deltas(
    rules: RoomVersion, base: StateIds, deltas: Sequence[Mapping[StateKey, str | None]]
) -> Conflict:
    """Compares forks that are known by what they changed since a common state (None: removed).

    Its cost grows with the deltas; the size of the state plays no part.
    """
    keys = {key for delta in deltas for key in delta}
    values = {key: tuple(delta.get(key, base.get(key)) for delta in deltas) for key in keys}
    return _conflict(rules, base, values, len(deltas))


def _conflict(
    rules: RoomVersion,
    base: StateIds,
    values: Mapping[StateKey, tuple[str | None, ...]],
    forks: int,
) -> Conflict:
    """Divides the keys in which not every fork is like the base.

    (v2+) "If a given key K is present in every S_i with the same value V in each state map, then
    the pair (K, V) belongs to the unconflicted state map. Otherwise, V belongs to the conflicted
    state set." (v1) "A conflict occurs between states where those states have different event_ids
    for the same (event_type, state_key)": absence is no conflict.
    """
    absence_conflicts = rules.state_resolution is not StateResolution.V1
    agreed: dict[StateKey, str] = {}
    conflicted: dict[StateKey, tuple[str | None, ...]] = {}
    for key, ids in values.items():
        different = set(ids)
        if not absence_conflicts:
            different.discard(None)
        if len(different) > 1:
            conflicted[key] = ids
        elif (id_ := next(iter(different), None)) is not None:
            agreed[key] = id_
        elif base.get(key) is not None:
            # Every fork has removed it: nothing speaks for it, so that it is left out.
            conflicted[key] = ids
    return Conflict(base, agreed, conflicted, forks)
