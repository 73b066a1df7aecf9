"""State resolution on random rooms: independent of order, sound, as it is defined."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import immutables
from hypothesis import given, settings
from hypothesis import strategies as st

from homeserver.protocol.auth_rules import check_event
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.room_versions import StateResolution
from homeserver.protocol.state_resolution import (
    AuthGraph,
    Conflict,
    MissingEvents,
    find_conflict,
    find_conflict_in_deltas,
    needed_events,
    resolve,
    resolve_conflict,
)
from homeserver.protocol.state_resolution.differences import (
    _by_look_up,
    _in_step,
    _listed,
    differing_keys,
)
from tests.support.random_room import History, random_history
from tests.support.room import Room
from tests.support.strategies import histories


@given(histories)
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_states_plays_no_part(history: History) -> None:
    room = history.room
    for states, resolved in history.resolutions:
        shuffled = [*states[1:], states[0]]
        assert resolve(room.rules, shuffled, history.graph, room.events) == resolved
        assert resolve(room.rules, states[::-1], history.graph, room.events) == resolved


@given(histories)
@settings(max_examples=60, deadline=None)
def test_a_state_that_comes_twice_changes_nothing(history: History) -> None:
    # One by one, in batches and at once agree where states are equal; beyond that the algorithm
    # doesn't promise it: an intermediate resolution is a state like any other.
    room = history.room
    for states, resolved in history.resolutions:
        again = resolve(room.rules, [*states, *states], history.graph, room.events)
        assert again == resolved
        at_once = resolve(room.rules, [resolved, resolved], history.graph, room.events)
        assert at_once == resolved


@given(histories)
@settings(max_examples=60, deadline=None)
def test_the_result_holds_the_unconflicted_state_and_nothing_from_elsewhere(
    history: History,
) -> None:
    room = history.room
    for states, resolved in history.resolutions:
        common = set(states[0].items()).intersection(*(state.items() for state in states[1:]))
        assert common <= resolved.items()
        chain = history.graph.auth_chain(id_ for state in states for id_ in state.values())
        assert set(resolved.values()) <= chain
        assert all(room.events[id_].key == key for key, id_ in resolved.items())


@given(histories)
@settings(max_examples=60, deadline=None)
def test_each_event_that_was_chosen_passes_auth_by_the_state_it_was_judged_by(
    history: History,
) -> None:
    # Every event of a resolved state passes the auth rules by its own auth events.
    room = history.room
    for _, resolved in history.resolutions:
        for event_id in resolved.values():
            event = room.events[event_id]
            state = {room.events[i].key: room.events[i] for i in event.auth_events}
            check_event(room.rules, event, state | {("m.room.create", ""): room.create})


@given(histories)
@settings(max_examples=60, deadline=None)
def test_the_needed_events_are_enough_and_deltas_are_as_good_as_states(history: History) -> None:
    room, graph = history.room, history.graph
    for states, resolved in history.resolutions:
        conflict = find_conflict(room.rules, [immutables.Map(state) for state in states])
        loaded = {i: room.events[i] for i in needed_events(room.rules, conflict, graph)}
        assert conflict.applied(resolution_of(room, conflict, graph, loaded)) == resolved
        base = states[-1]
        deltas: list[dict[StateKey, str | None]] = [
            {key: state.get(key) for key in {*state, *base} if state.get(key) != base.get(key)}
            for state in states
        ]
        conflict = find_conflict_in_deltas(room.rules, base, deltas)
        assert conflict.applied(resolution_of(room, conflict, graph, loaded)) == resolved


def test_who_vouches_for_a_join_without_being_cited_is_asked_for() -> None:
    history = random_history(2688, "8", 40)
    asked_for = 0
    for states, resolved in history.resolutions:
        conflict = find_conflict(history.room.rules, [immutables.Map(state) for state in states])
        needed = needed_events(history.room.rules, conflict, history.graph)
        loaded = {i: history.room.events[i] for i in needed}
        found = resolution_of(history.room, conflict, history.graph, loaded)
        assert conflict.applied(found) == resolved
        asked_for += len(loaded) - len(needed)
    assert asked_for == 1


def resolution_of(
    room: Room, conflict: Conflict, graph: AuthGraph, loaded: dict[str, Event]
) -> dict[StateKey, str]:
    """Nothing may be missing but the memberships of those who vouch for others."""
    while True:
        try:
            return resolve_conflict(room.rules, conflict, graph, loaded)
        except MissingEvents as missing:
            assert {room.events[i].type for i in missing.event_ids} == {"m.room.member"}
            assert missing.event_ids.isdisjoint(loaded)
            loaded |= {i: room.events[i] for i in missing.event_ids}


class Key(NamedTuple):
    """A key whose hash comes from few: maps of such keys hold many collisions."""

    type: str
    state_key: str

    def __hash__(self) -> int:
        return len(self.type) * 7 % 5 if len(self.type) < 3 else hash((self.type, self.state_key))


_keys: st.SearchStrategy[StateKey] = st.builds(
    Key, st.text("ab", max_size=4), st.text("xyz", max_size=3)
)
state_maps = st.dictionaries(_keys, st.sampled_from(["$1", "$2", "$3"]), max_size=60)


def immutable(state: dict[StateKey, str]) -> immutables.Map[StateKey, str]:
    return immutables.Map(state.items())


@given(state_maps, state_maps, st.booleans())
@settings(max_examples=300)
def test_the_differences_of_two_states_are_those_of_their_entries(
    one: dict[StateKey, str], changes: dict[StateKey, str], related: bool
) -> None:
    other = one | changes if related else changes
    expected = {key for key in {*one, *other} if one.get(key) != other.get(key)}
    grown = immutable(one).update(changes.items()) if related else immutable(other)
    for a, b in [
        (one, other),
        (immutable(one), grown),
        (grown, immutable(one)),
        (immutable(one), other),
    ]:
        assert differing_keys(a, [b, a, b]) == expected


def test_the_differences_of_big_states_are_found_in_step() -> None:
    big = immutable({("m.room.member", f"@user{n}:h.org"): f"${n}" for n in range(5000)})
    with big.mutate() as mutation:
        for n in range(100):
            mutation["m.room.member", f"@new{n}:h.org"] = "$new"
            mutation["m.room.member", f"@user{n}:h.org"] = "$changed"
            del mutation["m.room.member", f"@user{n + 1000}:h.org"]
        changed = mutation.finish()
    expected = _by_look_up(big, changed)
    assert _in_step(big, _listed(big), changed) == expected
    assert _in_step(changed, _listed(changed), big) == expected
    assert len(differing_keys(big, [changed])) == 300


def full_conflicted_set_by_definition(
    history: History, states: list[dict[StateKey, str]]
) -> set[str]:
    """The specification's definitions, word by word, over whole auth chains."""
    events = history.room.events

    def chain(event_id: str) -> set[str]:
        found: set[str] = set()
        stack = [event_id]
        while stack:
            if (id_ := stack.pop()) not in found:
                found.add(id_)
                stack.extend(events[id_].auth_events)
        return found

    keys = {key for state in states for key in state}
    conflicted = {
        state[key]
        for key in keys
        for state in states
        if key in state and len({s.get(key) for s in states}) > 1
    }
    chains = [set().union(*map(chain, state.values())) for state in states]
    difference = set().union(*chains) - chains[0].intersection(*chains[1:])
    subgraph: set[str] = set()
    if history.room.rules.state_resolution is StateResolution.V2_1:
        reached = set().union(*map(chain, conflicted)) if conflicted else set()
        subgraph = {id_ for id_ in reached if chain(id_) & conflicted}
    return conflicted | difference | subgraph


@given(histories)
@settings(max_examples=100, deadline=None)
def test_the_full_conflicted_set_is_as_it_is_defined(history: History) -> None:
    rules = history.room.rules
    if rules.state_resolution is StateResolution.V1:
        return
    for states, _ in history.resolutions:
        conflict = find_conflict(rules, states)
        with_subgraph = rules.state_resolution is StateResolution.V2_1
        full = history.graph.full_conflicted_set(conflict, with_subgraph=with_subgraph)
        plain = [dict(state) for state in states]
        assert full == full_conflicted_set_by_definition(history, plain)


@given(histories)
@settings(max_examples=30, deadline=None)
def test_a_graph_that_grows_equals_one_that_is_made_at_once(history: History) -> None:
    # The children index is made at the first conflict and kept up afterwards.
    rules = history.room.rules
    grown, added = AuthGraph(), False
    conflicts = [find_conflict(rules, states) for states, _ in history.resolutions]
    for event in history.room.events.values():
        if event.is_state:
            grown.add(event.event_id, event.key, event.auth_events)
        if conflicts and not added:
            grown.full_conflicted_set(conflicts[0], with_subgraph=True)
            added = True
    for conflict in conflicts:
        assert grown.full_conflicted_set(
            conflict, with_subgraph=True
        ) == history.graph.full_conflicted_set(conflict, with_subgraph=True)
    assert len(grown) == len(history.graph)


def test_random_rooms_are_forked_and_in_conflict() -> None:
    # The properties above would hold of rooms without conflicts, too: there are plenty.
    conflicts = 0
    for seed in range(24):
        history = random_history(seed, str(seed % 12 + 1))
        for states, _ in history.resolutions:
            conflicts += any(one != other for one, other in pairwise(states))
    assert conflicts > 24
