"""State resolution: the one state of a room out of the states of its forks. Pure.

The server *gathers, decides, writes*:

    conflict = find_conflict_in_deltas(rules, base, deltas) # find_conflict: of whole states
    ids = needed_events(rules, conflict, graph)             # load these in one query
    resolved = resolve_conflict(rules, conflict, graph, events)
    changes = conflict.changes(resolved)                    # against the first state map

`graph` is the room's `AuthGraph`: who cites whom in `auth_events`, as small integers, in memory.
`resolve_conflict` raises `MissingEvents` when it needs an event that was not loaded, which is rare:
load it and call again. `resolve` is all of it in one call.

`v1` is room version 1's algorithm, `v2` that of versions 2 to 11 and, as v2.1, of version 12.
The cost grows with the conflict and its auth chains, not with the room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.room_versions import RoomVersion, StateResolution
from homeserver.protocol.state_resolution import v1, v2
from homeserver.protocol.state_resolution.auth_graph import AuthGraph
from homeserver.protocol.state_resolution.conflict import (
    Conflict,
    find_conflict,
    find_conflict_in_deltas,
)
from homeserver.protocol.state_resolution.source import MissingEvents, Source

__all__ = [
    "AuthGraph",
    "Conflict",
    "MissingEvents",
    "find_conflict",
    "find_conflict_in_deltas",
    "needed_events",
    "resolve",
    "resolve_conflict",
]


def resolve(
    rules: RoomVersion,
    state_maps: Sequence[Mapping[StateKey, str]],
    graph: AuthGraph,
    events: Mapping[str, Event],
) -> dict[StateKey, str]:
    """The resolution of at least one state. Raises MissingEvents."""
    conflict = find_conflict(rules, state_maps)
    return conflict.applied(resolve_conflict(rules, conflict, graph, events))


def resolve_conflict(
    rules: RoomVersion, conflict: Conflict, graph: AuthGraph, events: Mapping[str, Event]
) -> dict[StateKey, str]:
    """The event ids that win, by key; a conflicted key without one is no part of the state.

    Keys that are unconflicted may be among them; the unconflicted state has precedence.
    Raises MissingEvents if `events` lacks one that is needed.
    """
    if not conflict.conflicted:
        return {}
    judged = _judged_events(rules, conflict, graph)
    source = Source(graph, events)
    source.require(_needed(judged, conflict, graph))
    if rules.state_resolution is StateResolution.V1:
        return v1.resolve(rules, conflict, source)
    return v2.resolve(rules, conflict, judged, source)


def needed_events(rules: RoomVersion, conflict: Conflict, graph: AuthGraph) -> set[str]:
    """The ids of the events that `resolve_conflict` is going to look at, as far as the graph tells.

    A restricted join names in its content who vouches for it: if it doesn't cite that membership,
    MissingEvents says that this is needed, too.
    """
    if not conflict.conflicted:
        return set()
    return _needed(_judged_events(rules, conflict, graph), conflict, graph)


def _judged_events(rules: RoomVersion, conflict: Conflict, graph: AuthGraph) -> set[str]:
    """The events that are sorted and checked: in v1 the conflicted ones, in v2 what decides between
    them too.
    """
    match rules.state_resolution:
        case StateResolution.V1:
            return conflict.event_ids
        case StateResolution.V2:
            return graph.full_conflicted_set(conflict, with_subgraph=False)
        case StateResolution.V2_1:
            return graph.full_conflicted_set(conflict, with_subgraph=True)


def _needed(judged: set[str], conflict: Conflict, graph: AuthGraph) -> set[str]:
    """With what they are judged by: their auth events, and the unconflicted state's instead."""
    needed = graph.with_auth_events(judged)
    keys = graph.keys(needed) | {v2.CREATE, v2.POWER_LEVELS, v2.JOIN_RULES}
    needed.update(id_ for key in keys if (id_ := conflict.unconflicted(key)) is not None)
    return {event_id for event_id in needed if event_id in graph}
