"""States compared by the steps that led to them, and entry by entry: the same result."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from homeserver.stream.state_lineage import MAX_STEPS, Lineage, State

KEYS = st.tuples(st.sampled_from(["m.room.member", "m.room.topic"]), st.sampled_from("abcde"))
STEPS = st.lists(
    st.tuples(st.integers(0, 30), KEYS, st.sampled_from(["$1", "$2", None])), max_size=30
)


def changed(lineage: Lineage, parent: State, key: tuple[str, str], event_id: str | None) -> State:
    if event_id is not None:
        child = parent.set(key, event_id)
    else:
        child = parent.delete(key) if key in parent else parent
    lineage.note(child, parent, [key])
    return child


def really(one: State, other: State) -> set[tuple[str, str]]:
    return {key for key in {*one, *other} if one.get(key) != other.get(key)}


@given(STEPS, st.sampled_from([1, 3, 100]))
def test_the_difference_is_that_of_all_entries(
    steps: list[tuple[int, tuple[str, str], str | None]], remembered: int
) -> None:
    lineage = Lineage(remembered)
    states: list[State] = [Map({("m.room.topic", "a"): "$0"})]
    for parent, key, event_id in steps:
        states.append(changed(lineage, states[parent % len(states)], key, event_id))
    for one in states:
        for other in states:
            assert lineage.differing(one, other) == really(one, other)


def test_states_that_have_nothing_to_do_with_each_other_are_compared() -> None:
    lineage = Lineage(10)
    one: State = Map({("a", ""): "$1", ("b", ""): "$2"})
    other: State = Map({("a", ""): "$1", ("c", ""): "$2"})
    assert lineage.differing(one, other) == {("b", ""), ("c", "")}


def test_a_long_way_is_not_walked() -> None:
    lineage = Lineage(10_000)
    start: State = Map({("a", ""): "$0"})
    state = start
    for number in range(2 * MAX_STEPS):
        state = changed(lineage, state, ("a", ""), f"${number}")
    assert lineage.differing(start, state) == {("a", "")}
