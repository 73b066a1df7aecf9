"""The state resolution algorithm of room version 1 (rooms/v1#state-resolution)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from homeserver.protocol.auth_rules import auth_event_keys, check_event
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.room_versions import RoomVersion
from homeserver.protocol.state_resolution.conflict import Conflict
from homeserver.protocol.state_resolution.source import Source

_PASSES = ("m.room.power_levels", "m.room.join_rules", "m.room.member")


def resolve(rules: RoomVersion, conflict: Conflict, source: Source) -> dict[StateKey, str]:
    """The event that wins, for each conflicted key."""
    resolution = _Resolution(rules, conflict, source)
    conflicted = {
        key: _sorted([source.event(id_) for id_ in set(ids) if id_ is not None])
        for key, ids in conflict.conflicted.items()
        if any(ids)
    }
    # "First we resolve conflicts between m.room.power_levels events. [...] Repeat the above process
    # for conflicts between m.room.join_rules events. Repeat [...] m.room.member events."
    for event_type in _PASSES:
        chosen = {
            key: resolution.last_allowed(events)
            for key, events in conflicted.items()
            if key[0] == event_type and (key[1] == "" or event_type != "m.room.power_levels")
        }
        resolution.resolved.update(chosen)
    # "No other events affect the authorisation rules"
    rest = {
        key: resolution.best_allowed(events)
        for key, events in conflicted.items()
        if key not in resolution.resolved
    }
    resolution.resolved.update(rest)
    return {key: event.event_id for key, event in resolution.resolved.items()}


def _sorted(events: list[Event]) -> list[Event]:
    """ "Sort the list by ascending depth then descending sha1(event_id)." """
    events.sort(key=lambda event: hashlib.sha1(event.event_id.encode()).digest(), reverse=True)  # noqa: S324
    events.sort(key=lambda event: event.depth)
    return events


class _Resolution:
    """*R*, "the results of the resolution so far", over the unconflicted state."""

    def __init__(self, rules: RoomVersion, conflict: Conflict, source: Source) -> None:
        self.resolved: dict[StateKey, Event] = {}
        self._rules = rules
        self._conflict = conflict
        self._source = source

    def last_allowed(self, events: list[Event]) -> Event:
        """ "Add the first event in the list to R. For each subsequent event in the list, check that
        the event would be allowed by the authorisation rules for a room in state R. If the event
        would be allowed, then update R with the event and continue with the next event in the
        list. If it would not be allowed, stop."
        """
        chosen = events[0]
        for event in events[1:]:
            if not self._is_allowed(event, [chosen]):
                break
            chosen = event
        return chosen

    def best_allowed(self, events: list[Event]) -> Event:
        """ "For all other conflicts, just pick the event with the highest depth and lowest
        sha1(event_id) that passes authentication in R." If none passes, the lowest stays.
        """
        for event in reversed(events):
            if self._is_allowed(event, []):
                return event
        return events[0]

    def _is_allowed(self, event: Event, chosen: Iterable[Event]) -> bool:
        state = {e.key: e for e in chosen}
        rules = self._rules
        for key in auth_event_keys(rules, event.type, event.sender, event.state_key, event.content):
            if key in state:
                continue
            if key in self.resolved:
                state[key] = self.resolved[key]
            elif (event_id := self._conflict.unconflicted(key)) is not None:
                state[key] = self._source.event(event_id)
        try:
            check_event(rules, event, state)
        except Rejected:
            return False
        return True
