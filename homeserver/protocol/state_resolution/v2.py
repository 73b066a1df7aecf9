"""The state resolution algorithm of room versions 2 to 11, and v2.1 of version 12.

rooms/v2#state-resolution, rooms/v12#state-resolution
"""

from __future__ import annotations

from collections.abc import Iterable

from homeserver.protocol.auth_rules import auth_event_keys, check_event
from homeserver.protocol.auth_rules.selection import CREATE, JOIN_RULES, POWER_LEVELS
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.room_versions import RoomVersion, StateResolution
from homeserver.protocol.state_resolution.conflict import Conflict
from homeserver.protocol.state_resolution.ordering import (
    mainline_ordering,
    reverse_topological_power_ordering,
)
from homeserver.protocol.state_resolution.source import Source

__all__ = ["CREATE", "JOIN_RULES", "POWER_LEVELS", "resolve"]


def resolve(
    rules: RoomVersion, conflict: Conflict, full_conflicted_set: set[str], source: Source
) -> dict[StateKey, str]:
    """The event ids that win; step 5, the unconflicted state on top, is `Conflict.changes`."""
    full = {event_id: source.event(event_id) for event_id in full_conflicted_set}
    # 1. "Select the set X of all power events that appear in the full conflicted set. For each such
    # power event P, enlarge X by adding the events in the auth chain of P which also belong to the
    # full conflicted set. Sort X into a list using the reverse topological power ordering."
    picked = _with_conflicted_auth_chain(filter(is_power_event, full.values()), full)
    # 2. "Apply the iterative auth checks algorithm, starting from the unconflicted state map (v2.1:
    # an empty state map), to the list of events from the previous step"
    starts_empty = rules.state_resolution is StateResolution.V2_1
    checks = _IterativeAuthChecks(rules, None if starts_empty else conflict, source)
    checks.apply(reverse_topological_power_ordering(rules, picked, source))
    # 3. "Take all remaining events that weren't picked in step 1 and order them by the mainline
    # ordering based on the power level in the partially resolved state obtained in step 2."
    rest = [event for event_id, event in full.items() if event_id not in picked]
    power_levels = checks.event_id(POWER_LEVELS)
    # 4. "Apply the iterative auth checks algorithm on the partial resolved state and the list of
    # events from the previous step."
    checks.apply(mainline_ordering(power_levels, rest, source.graph))
    return {key: event.event_id for key, event in checks.resolved.items()}


def is_power_event(event: Event) -> bool:
    """ "A power event is a state event with type m.room.power_levels or m.room.join_rules, or a
    state event with type m.room.member where the membership is leave or ban and the sender does
    not match the state_key." (In the field m.room.create too, and with empty state keys.)
    """
    if event.type in ("m.room.power_levels", "m.room.join_rules", "m.room.create"):
        return event.state_key == ""
    return (
        event.type == "m.room.member"
        and event.membership in ("leave", "ban")
        and event.sender != event.state_key
    )


def _with_conflicted_auth_chain(
    power_events: Iterable[Event], full: dict[str, Event]
) -> dict[str, Event]:
    """X: the power events and what they reach by auth events within the full conflicted set."""
    picked: dict[str, Event] = {}
    stack = list(power_events)
    while stack:
        event = stack.pop()
        if event.event_id not in picked:
            picked[event.event_id] = event
            stack.extend(full[event_id] for event_id in event.auth_events if event_id in full)
    return picked


class _IterativeAuthChecks:
    """ "Constructs a new room state by iterating through the event list and applying the state
    event to the room state if the state event is allowed by the authorisation rules."
    """

    def __init__(self, rules: RoomVersion, start: Conflict | None, source: Source) -> None:
        self.resolved: dict[StateKey, Event] = {}
        self._rules = rules
        self._start = start
        self._source = source

    def event_id(self, key: StateKey) -> str | None:
        """What the state has for a key so far."""
        event = self.resolved.get(key)
        if event is not None:
            return event.event_id
        return None if self._start is None else self._start.unconflicted(key)

    def apply(self, events: Iterable[Event]) -> None:
        """Rejected events too: "Events that have been rejected due to failing auth based on the
        state at the event (rather than based on their auth chain) are handled as usual".
        """
        for event in events:
            try:
                check_event(self._rules, event, self._state_for(event))
            except Rejected:
                continue  # "If the state event is not allowed [...], then the event is ignored."
            self.resolved[event.key] = event

    def _state_for(self, event: Event) -> dict[StateKey, Event]:
        rules = self._rules
        # "If a (event_type, state_key) key that is required for checking the authorisation rules is
        # not present in the state, then the appropriate state event from the event's auth_events is
        # used if the auth event is not rejected."
        state = {
            auth_event.key: auth_event
            for auth_event in self._source.auth_events(event)
            if not auth_event.rejected
        }
        create = self._source.create(event)
        if create is not None:
            state.setdefault(CREATE, create)
        for key in auth_event_keys(rules, event.type, event.sender, event.state_key, event.content):
            event_id = self.event_id(key)
            if event_id is not None:
                state[key] = self._source.event(event_id)
        return state
