"""The classic conflicts, by name, on a room whose forks are a few lines each."""

from __future__ import annotations

import pytest

from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.state_resolution import (
    AuthGraph,
    MissingEvents,
    find_conflict,
    find_conflict_in_deltas,
    needed_events,
    resolve,
    resolve_conflict,
)
from tests.support.room import ALICE, BOB, CAROL, CREATE, DAVE, Branch, Room

V2 = [str(version) for version in range(2, 13)]
ALL = ["1", *V2]
POWER: StateKey = ("m.room.power_levels", "")
TOPIC: StateKey = ("m.room.topic", "")
JOIN_RULES: StateKey = ("m.room.join_rules", "")


def resolution(*branches: Branch) -> dict[StateKey, Event]:
    """The resolved state of some branches, the same in whatever order they come."""
    room = branches[0]
    graph = AuthGraph(room.events.values())
    states = [branch.state for branch in branches]
    resolved = resolve(room.rules, states, graph, room.events)
    assert resolve(room.rules, states[::-1], graph, room.events) == resolved
    return {key: room.events[event_id] for key, event_id in resolved.items()}


def moderated_room(version: str) -> Room:
    """ALICE (above all), BOB and CAROL (50), DAVE (0), all joined."""
    room = Room(version)
    for user_id in (BOB, CAROL, DAVE):
        room.join(user_id)
    room.power(ALICE, {BOB: 50, CAROL: 50}, events={"m.room.power_levels": 50})
    return room


def member(user_id: str) -> StateKey:
    return ("m.room.member", user_id)


@pytest.mark.parametrize("version", ALL)
def test_equal_states_are_their_own_resolution(version: str) -> None:
    room = moderated_room(version)
    graph = AuthGraph(room.events.values())
    for states in ([room.state], [room.state, dict(room.state)]):
        assert resolve(room.rules, states, graph, room.events) == room.state


@pytest.mark.parametrize("version", ALL)
def test_changes_of_different_keys_are_both_kept(version: str) -> None:
    one, other = (room := moderated_room(version)).fork(), room.fork()
    topic = one.topic(BOB, "t")
    name = other.send("m.room.name", CAROL, {"name": "n"}, "")
    state = resolution(one, other)
    assert (state[TOPIC], state["m.room.name", ""]) == (topic, name)


@pytest.mark.parametrize("version", V2)
def test_a_ban_wins_against_a_power_change_of_the_banned(version: str) -> None:
    one, other = (room := moderated_room(version)).fork(), room.fork()
    power = other.power(BOB, {BOB: 50, CAROL: 50, DAVE: 50}, events={"m.room.power_levels": 50})
    ban = one.ban(ALICE, BOB)
    state = resolution(one, other)
    assert state[member(BOB)] == ban
    assert state[POWER] == room.get("m.room.power_levels") != power


@pytest.mark.parametrize("version", V2)
def test_of_concurrent_power_changes_the_stronger_sender_s_comes_first(version: str) -> None:
    one, other = (room := moderated_room(version)).fork(), room.fork()
    other.power(BOB, {BOB: 50, CAROL: 50, DAVE: 40}, events={"m.room.power_levels": 50})
    demoted = one.power(ALICE, {CAROL: 50}, events={"m.room.power_levels": 50})
    # BOB has lost the power that his change needs.
    assert resolution(one, other)[POWER] == demoted


@pytest.mark.parametrize("version", V2)
def test_of_concurrent_power_changes_that_both_pass_the_weaker_sender_s_stays(version: str) -> None:
    one, other = (room := moderated_room(version)).fork(), room.fork()
    later = other.power(BOB, {BOB: 50, CAROL: 50, DAVE: 40}, events={"m.room.power_levels": 50})
    one.power(
        ALICE, {BOB: 50, CAROL: 50}, events={"m.room.power_levels": 50}, notifications={"room": 20}
    )
    assert resolution(one, other)[POWER] == later


@pytest.mark.parametrize("version", V2)
def test_a_topic_of_a_user_who_was_banned_meanwhile_is_gone(version: str) -> None:
    one, other = (room := moderated_room(version)).fork(), room.fork()
    topic = other.topic(BOB, "still here")
    ban = one.ban(ALICE, BOB)
    state = resolution(one, other)
    assert state[member(BOB)] == ban
    assert state.get(TOPIC) != topic


def test_in_version_1_such_a_topic_stays() -> None:
    # The section "Soft failure": "In the original version of the algorithm C would be in the
    # resolved state, whereas in latter versions the algorithm tries to prioritise the ban".
    one, other = (room := moderated_room("1")).fork(), room.fork()
    topic = other.topic(BOB, "still here")
    one.ban(ALICE, BOB)
    assert resolution(one, other)[TOPIC] == topic


@pytest.mark.parametrize("version", V2)
def test_a_ban_wins_against_a_rejoin(version: str) -> None:
    one, other = (room := moderated_room(version)).fork(), room.fork()
    ban = one.ban(CAROL, DAVE)
    other.leave(DAVE)
    other.join(DAVE, displayname="again")
    assert resolution(one, other)[member(DAVE)] == ban


@pytest.mark.parametrize("version", V2)
def test_a_moderator_who_was_kicked_has_banned_nobody(version: str) -> None:
    one, other = (room := moderated_room(version)).fork(), room.fork()
    kick = one.kick(ALICE, BOB)
    other.ban(BOB, DAVE)
    state = resolution(one, other)
    assert state[member(BOB)] == kick
    assert state[member(DAVE)] == room.get(*member(DAVE))


@pytest.mark.parametrize("version", V2)
def test_a_moderator_who_was_demoted_has_changed_nothing(version: str) -> None:
    one, other = (room := moderated_room(version)).fork(), room.fork()
    one.power(ALICE, {CAROL: 50})
    topic = other.topic(BOB, "mine")
    other.join_rule(BOB, "invite")
    state = resolution(one, other)
    assert state.get(TOPIC) != topic
    assert state[JOIN_RULES] == room.get("m.room.join_rules")


@pytest.mark.parametrize("version", V2)
def test_who_joins_while_the_room_is_closed_stays_outside(version: str) -> None:
    room = Room(version)
    one, other = room.fork(), room.fork()
    closed = one.join_rule(ALICE, "invite")
    other.join(BOB)
    state = resolution(one, other)
    assert state[JOIN_RULES] == closed
    assert member(BOB) not in state


@pytest.mark.parametrize("version", V2)
def test_a_ban_by_a_moderator_who_was_demoted_is_void(version: str) -> None:
    room = Room(version)
    for user_id in (BOB, CAROL):
        room.join(user_id)
    room.power(ALICE, {BOB: 60, CAROL: 50})
    one, other = room.fork(), room.fork()
    ban = one.ban(BOB, CAROL)
    power = other.power(ALICE, {BOB: 49, CAROL: 50})
    # ALICE stands above BOB: her change comes first, and then his ban does not pass.
    state = resolution(one, other)
    assert state[POWER] == power
    assert state[member(CAROL)] != ban


@pytest.mark.parametrize("version", V2)
def test_the_later_topic_wins_on_the_same_mainline_position(version: str) -> None:
    one, other = (room := moderated_room(version)).fork(), room.fork()
    now = 1_800_000_000_000
    earlier = one.send("m.room.topic", ALICE, {"topic": "1"}, "", origin_server_ts=now)
    later = other.send("m.room.topic", BOB, {"topic": "2"}, "", origin_server_ts=now + 1)
    assert resolution(one, other)[TOPIC] == later != earlier


@pytest.mark.parametrize("version", V2)
def test_at_the_same_time_the_greater_event_id_wins(version: str) -> None:
    one, other = (room := moderated_room(version)).fork(), room.fork()
    now = 1_800_000_000_000
    topics = [
        branch.send("m.room.topic", ALICE, {"topic": str(n)}, "", origin_server_ts=now)
        for n, branch in enumerate((one, other))
    ]
    assert resolution(one, other)[TOPIC] == max(topics, key=lambda event: event.event_id)


@pytest.mark.parametrize("version", V2)
def test_a_topic_under_newer_power_levels_wins_whatever_its_time(version: str) -> None:
    one, other = (room := moderated_room(version)).fork(), room.fork()
    one.power(ALICE, {BOB: 50, CAROL: 50}, kick=60)
    newer = one.send("m.room.topic", BOB, {"topic": "new"}, "", origin_server_ts=1)
    other.send("m.room.topic", BOB, {"topic": "old"}, "", origin_server_ts=2**50)
    assert resolution(one, other)[TOPIC] == newer


def test_version_1_takes_the_deepest_allowed_event() -> None:
    one, other = (room := moderated_room("1")).fork(), room.fork()
    one.topic(BOB, "shallow")
    other.send("m.room.message", BOB, {"body": "deeper"})
    deep = other.topic(CAROL, "deep")
    assert resolution(one, other)[TOPIC] == deep


def test_version_1_follows_the_power_levels_by_depth_while_they_are_allowed() -> None:
    one, other = (room := moderated_room("1")).fork(), room.fork()
    one.power(ALICE, {BOB: 50}, ban=60)
    other.send("m.room.message", ALICE, {"body": "deeper"})
    deeper = other.power(ALICE, {BOB: 40}, ban=70)
    assert resolution(one, other)[POWER] == deeper


def test_a_creator_of_version_12_comes_before_any_other_power() -> None:
    room = Room("12", additional_creators=[CAROL])
    for user_id in (BOB, CAROL):
        room.join(user_id)
    room.power(ALICE, {BOB: 2**53 - 1})
    one, other = room.fork(), room.fork()
    other.send("m.room.power_levels", BOB, {"users": {BOB: 2**53 - 1}, "ban": 7}, "")
    demoted = one.send("m.room.power_levels", CAROL, {"users": {}}, "")
    assert resolution(one, other)[POWER] == demoted


# What version 2.1 was made for (MSC4297): state that the forks agree on in truth is reset to
# something older, because a server once had a wrong state.


def problem_a(version: str) -> tuple[Room, Branch, Branch]:
    """BOB and DAVE joined when the room was public, it is invite-only now; one state lacks BOB.

    The join rule of then is in every auth chain, by DAVE's join, so that it is not replayed.
    """
    room = Room(version)
    room.join(BOB)
    room.join(DAVE)
    room.join_rule(ALICE, "invite")
    room.topic(ALICE, "t")
    one, other = room.fork(), room.fork()
    del other.state[member(BOB)]
    return room, one, other


@pytest.mark.parametrize("version", [str(version) for version in range(2, 12)])
def test_problem_a_version_2_judges_an_old_join_by_the_join_rule_of_today(version: str) -> None:
    _, one, other = problem_a(version)
    assert member(BOB) not in resolution(one, other)


def test_problem_a_version_2_1_starts_from_the_empty_state_and_keeps_the_member() -> None:
    room, one, other = problem_a("12")
    assert resolution(one, other)[member(BOB)] == room.get(*member(BOB))


def problem_b(version: str) -> tuple[Event, Branch, Branch]:
    """The power levels P1 (nobody), P2 (BOB gets 90, by ALICE), P3 (by BOB). DAVE joined under P2,
    so that P2 is in every auth chain; one state still has P1.
    """
    room = Room(version)
    room.join(BOB)
    stale = room.state[POWER]
    room.power(ALICE, {BOB: 90})
    room.join(DAVE)
    power = room.power(BOB, {BOB: 90, CAROL: 10})
    one, other = room.fork(), room.fork()
    other.state[POWER] = stale
    return power, one, other


@pytest.mark.parametrize("version", [str(version) for version in range(2, 12)])
def test_problem_b_version_2_does_not_replay_what_lies_between(version: str) -> None:
    power, one, other = problem_b(version)
    assert resolution(one, other)[POWER].event_id == other.state[POWER] != power.event_id


def test_problem_b_version_2_1_replays_the_conflicted_state_subgraph() -> None:
    power, one, other = problem_b("12")
    assert resolution(one, other)[POWER] == power


# Rejected events


@pytest.mark.parametrize("version", V2)
def test_a_rejected_event_in_a_state_is_judged_again(version: str) -> None:
    # "Events that have been rejected due to failing auth based on the state at the event (rather
    # than based on their auth chain) are handled as usual by the algorithm"
    one, other = (room := moderated_room(version)).fork(), room.fork()
    topic = one.topic(BOB, "rejected somewhere")
    room.events[topic.event_id] = topic.as_rejected()
    assert resolution(one, other)[TOPIC].event_id == topic.event_id


@pytest.mark.parametrize("version", V2)
@pytest.mark.parametrize("rejected", [False, True])
def test_a_rejected_auth_event_gives_no_rights(version: str, rejected: bool) -> None:
    # "If a key that is required is not present in the state, then the appropriate state event from
    # the event's auth_events is used if the auth event is not rejected."
    room = Room(version)
    room.join(DAVE)  # so that the join rule is in every auth chain, and not judged again
    room.join(BOB)
    public = room.get(*JOIN_RULES)
    if rejected:
        room.events[public.event_id] = public.as_rejected()
    one, other = room.fork(), room.fork()
    del one.state[JOIN_RULES], other.state[JOIN_RULES], other.state[member(BOB)]
    assert (member(BOB) in resolution(one, other)) is not rejected


# Gather, decide, write


@pytest.mark.parametrize("version", ALL)
def test_the_needed_events_are_enough(version: str) -> None:
    one, other = (room := moderated_room(version)).fork(), room.fork()
    one.ban(ALICE, DAVE)
    other.topic(BOB, "t")
    other.power(ALICE, {BOB: 40})
    for n in range(20):
        room.send("m.room.unrelated", ALICE, {"n": n}, str(n))
    graph = AuthGraph(room.events.values())
    states = [one.state, other.state]
    conflict = find_conflict(room.rules, states)
    needed = needed_events(room.rules, conflict, graph)
    loaded = {event_id: room.events[event_id] for event_id in needed}
    assert len(needed) < len(room.events) - 20
    resolved = resolve_conflict(room.rules, conflict, graph, loaded)
    assert conflict.applied(resolved) == resolve(room.rules, states, graph, room.events)


@pytest.mark.parametrize("version", ALL)
def test_events_that_were_not_loaded_are_named(version: str) -> None:
    one, other = (room := moderated_room(version)).fork(), room.fork()
    one.topic(ALICE, "1")
    other.topic(BOB, "2")
    graph = AuthGraph(room.events.values())
    conflict = find_conflict(room.rules, [one.state, other.state])
    with pytest.raises(MissingEvents) as caught:
        resolve_conflict(room.rules, conflict, graph, {})
    assert caught.value.event_ids == needed_events(room.rules, conflict, graph)


@pytest.mark.parametrize("version", ALL)
def test_forks_can_be_given_as_deltas_of_a_common_state(version: str) -> None:
    one, other = (room := moderated_room(version)).fork(), room.fork()
    one.ban(ALICE, DAVE)
    for branch in (one, other):
        branch.topic(BOB, "differs")
    agreed = room.make("m.room.name", ALICE, {"name": "n"}, "")
    room.events[agreed.event_id] = agreed
    for branch in (one, other):
        branch.state[agreed.key] = agreed.event_id
    graph = AuthGraph(room.events.values())
    deltas = [
        {key: id_ for key, id_ in branch.state.items() if room.state.get(key) != id_}
        for branch in (one, other)
    ]
    conflict = find_conflict_in_deltas(room.rules, room.state, deltas)
    resolved = resolve_conflict(room.rules, conflict, graph, room.events)
    expected = resolve(room.rules, [one.state, other.state], graph, room.events)
    assert conflict.applied(resolved) == expected
    assert conflict.changes(resolved).keys() == {TOPIC, agreed.key, member(DAVE)}


def test_a_key_that_every_fork_has_removed_is_gone() -> None:
    for version in ALL:
        room = moderated_room(version)
        room.topic(ALICE, "t")
        removed: dict[StateKey, str | None] = {TOPIC: None}
        conflict = find_conflict_in_deltas(room.rules, room.state, [removed, removed])
        graph = AuthGraph(room.events.values())
        resolved = resolve_conflict(room.rules, conflict, graph, room.events)
        assert conflict.changes(resolved) == {TOPIC: None}


def test_absence_is_a_conflict_from_version_2_on_only() -> None:
    for version in ALL:
        room = moderated_room(version)
        states = [room.state, {key: id_ for key, id_ in room.state.items() if key != POWER}]
        for ordered in (states, states[::-1]):
            conflict = find_conflict(room.rules, ordered)
            assert (POWER in conflict.conflicted) is (version != "1")
            assert conflict.unconflicted(POWER) == (room.state[POWER] if version == "1" else None)


@pytest.mark.parametrize("version", ["1", "2"])
def test_events_that_cite_each_other_end_in_a_state_all_the_same(version: str) -> None:
    # Ids of versions 1 and 2 are chosen, so that a malicious server can make circles.
    room = moderated_room(version)
    one, other = room.fork(), room.fork()
    power, create = room.get(*POWER), room.create.event_id
    circle = [
        branch.send(
            "m.room.power_levels",
            ALICE,
            power.content,
            "",
            allowed=False,
            event_id=own,
            auth_events=[create, cited, room.state[member(ALICE)]],
        )
        for branch, own, cited in (
            (one, "$one:h.org", "$two:h.org"),
            (other, "$two:h.org", "$one:h.org"),
        )
    ]
    one.topic(BOB, "1")
    other.topic(BOB, "2")
    state = resolution(one, other)
    assert state[CREATE].event_id == create
    assert state.get(POWER) in (None, power, *circle)


def test_a_graph_tells_what_is_cited_and_not_known() -> None:
    room = moderated_room("11")
    events = list(room.events.values())
    graph = AuthGraph(events[1:])
    assert graph.unknown == {events[0].event_id}
    graph.add(events[0].event_id, events[0].key, events[0].auth_events)
    assert graph.unknown == set()
