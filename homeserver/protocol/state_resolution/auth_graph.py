"""The graph of a room's auth events: who cites whom, as small integers.

Rules of this file: a graph only grows. An event may be cited before it is added; one that never is
counts as unknown. Besides `add`, nothing here depends on the size of the room, but for `_children`,
which is built once, when the first conflict needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.state_resolution.conflict import Conflict


class AuthGraph:
    """For each state event of a room: its key, and what it cites in `auth_events`.

    `unknown`: the events that are cited, but were not added (yet).
    """

    __slots__ = ("_children", "_ids", "_keys", "_numbers", "_parents", "unknown")

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._numbers: dict[str, int] = {}
        self._ids: list[str] = []
        self._keys: list[StateKey | None] = []
        self._parents: list[tuple[int, ...]] = []
        self._children: list[list[int]] | None = None
        self.unknown: set[str] = set()
        for event in events:
            if event.is_state:
                self.add(event.event_id, event.key, event.auth_events)

    def add(self, event_id: str, key: StateKey, auth_events: Sequence[str]) -> None:
        """Adds a state event; adding it again changes nothing."""
        number = self._number(event_id)
        if self._keys[number] is not None:
            return
        self._keys[number] = key
        self.unknown.discard(event_id)
        parents = tuple(self._number(parent) for parent in auth_events)
        self._parents[number] = parents
        if self._children is not None:
            for parent in parents:
                self._children[parent].append(number)

    def _number(self, event_id: str) -> int:
        number = self._numbers.get(event_id)
        if number is None:
            number = self._numbers[event_id] = len(self._ids)
            self._ids.append(event_id)
            self.unknown.add(event_id)
            self._keys.append(None)
            self._parents.append(())
            if self._children is not None:
                self._children.append([])
        return number

    def __contains__(self, event_id: str) -> bool:
        number = self._numbers.get(event_id)
        return number is not None and self._keys[number] is not None

    def __len__(self) -> int:
        return len(self._ids)

    def key(self, event_id: str) -> StateKey | None:
        """The type and state key of an event; None if it is unknown."""
        number = self._numbers.get(event_id)
        return None if number is None else self._keys[number]

    def keys(self, event_ids: Iterable[str]) -> set[StateKey]:
        """The keys of those events that are known."""
        keys = (self.key(event_id) for event_id in event_ids)
        return {key for key in keys if key is not None}

    def cited(self, event_id: str, key: StateKey) -> str | None:
        """The event with that key among an event's auth events."""
        number = self._numbers.get(event_id)
        for parent in () if number is None else self._parents[number]:
            if self._keys[parent] == key:
                return self._ids[parent]
        return None

    def with_auth_events(self, event_ids: Iterable[str]) -> set[str]:
        """The events and the auth events of each."""
        result = set(event_ids)
        for event_id in list(result):
            number = self._numbers.get(event_id)
            if number is not None:
                result.update(self._ids[parent] for parent in self._parents[number])
        return result

    def auth_chain(self, event_ids: Iterable[str]) -> set[str]:
        """The events and everything that is reached from them by `auth_events`."""
        return {self._ids[n] for n in self._descendants_first(self._known(event_ids))}

    def full_conflicted_set(self, conflict: Conflict, *, with_subgraph: bool) -> set[str]:
        """The union of the conflicted state set, the auth difference and, with `with_subgraph`
        (v2.1), the conflicted state subgraph (rooms/v12#definitions).
        """
        forks = [self._known(conflict.fork_events(fork)) for fork in range(conflict.forks)]
        conflicted = {number for fork in forks for number in fork}
        order = self._descendants_first(conflicted)
        full = conflicted | self._auth_difference(conflict, forks, order)
        if with_subgraph:
            full |= self._conflicted_subgraph(conflicted, order)
        return {self._ids[number] for number in full if self._keys[number] is not None}

    def _known(self, event_ids: Iterable[str]) -> list[int]:
        numbers = (self._numbers.get(event_id) for event_id in event_ids)
        return [number for number in numbers if number is not None]

    def _descendants_first(self, starts: Iterable[int]) -> list[int]:
        """The starts and their auth chains, each event before those that it cites."""
        order: list[int] = []
        seen: set[int] = set()
        stack = list(starts)
        while stack:
            number = stack.pop()
            if number < 0:  # ~number: all that it cites is in the order already
                order.append(~number)
            elif number not in seen:
                seen.add(number)
                stack.append(~number)
                stack.extend(parent for parent in self._parents[number] if parent not in seen)
        order.reverse()
        return order

    def _auth_difference(
        self, conflict: Conflict, forks: list[list[int]], order: list[int]
    ) -> set[int]:
        """ "If C_i is the full auth chain of S_i, then the auth difference is the union of all C_i
        minus their intersection."

        The unconflicted events and their auth chains are in every C_i. So it is enough to look at
        the auth chains of the conflicted events: what isn't reached from all forks, nor from an
        unconflicted event. (As elsewhere in the field, a state event counts to its own chain.)
        """
        reached_by = dict.fromkeys(order, 0)  # a bit for each fork
        for fork, numbers in enumerate(forks):
            for number in numbers:
                reached_by[number] |= 1 << fork
        for number in order:
            for parent in self._parents[number]:
                reached_by[parent] |= reached_by[number]
        everywhere = (1 << len(forks)) - 1
        partly = [number for number in order if reached_by[number] != everywhere]
        return set(partly) - self._cited_by_unconflicted(conflict, partly)

    def _cited_by_unconflicted(self, conflict: Conflict, candidates: list[int]) -> set[int]:
        """Those that are unconflicted state events or in the auth chain of one."""
        cited: set[int] = set()
        dead_ends: set[int] = set()
        for candidate in candidates:
            cited.update(self._path_to_unconflicted(conflict, candidate, cited, dead_ends))
        return cited

    def _path_to_unconflicted(
        self, conflict: Conflict, start: int, cited: set[int], dead_ends: set[int]
    ) -> list[int]:
        """A way from an event along those that cite it, until one is unconflicted or is `cited`.

        Depth first, the newest first: mostly it is found at once. Empty if there is none; what was
        visited in vain is added to `dead_ends`.
        """
        children = self._children_lists()
        path = [start]
        open_children = [iter([start])]
        while open_children:
            for number in open_children[-1]:
                if number in cited or self._is_unconflicted(number, conflict):
                    dead_ends.difference_update(path)
                    return [*path, number]
                if number not in dead_ends:
                    dead_ends.add(number)
                    path.append(number)
                    open_children.append(reversed(children[number]))
                    break
            else:
                open_children.pop()
                path.pop()
        return []

    def _is_unconflicted(self, number: int, conflict: Conflict) -> bool:
        key = self._keys[number]
        return key is not None and conflict.unconflicted(key) == self._ids[number]

    def _children_lists(self) -> list[list[int]]:
        if self._children is None:
            self._children = [[] for _ in self._ids]
            for number, parents in enumerate(self._parents):
                for parent in parents:
                    self._children[parent].append(number)
        return self._children

    def _conflicted_subgraph(self, conflicted: set[int], order: list[int]) -> set[int]:
        """ "Starting from an event in the conflicted state set and following auth_events edges may
        lead to another event in the conflicted state set. The union of all such paths between any
        pair of events in the conflicted state set (including endpoints)."

        All of `order` is reached from a conflicted event; this is what also leads to one.
        """
        leading = set(conflicted)
        for number in reversed(order):
            if any(parent in leading for parent in self._parents[number]):
                leading.add(number)
        return leading
