"""Whatever an event or a state holds, the auth rules allow or reject it and never fail."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from homeserver.protocol.auth_rules import auth_event_keys, check_auth_events, check_event
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.room_versions import RoomVersion
from tests.support.strategies import (
    HASH,
    arbitrary_events,
    loose_json_values,
    room_versions,
    user_ids,
)


@st.composite
def judged(draw: st.DrawFn) -> tuple[Event, dict[StateKey, Event]]:
    """An event and a state of arbitrary events under the keys that it may refer to."""
    rules = draw(room_versions)
    event = draw(arbitrary_events(rules))
    keys = auth_event_keys(rules, event.type, event.sender, event.state_key, event.content)
    state = {key: draw(arbitrary_events(rules)) for key in keys if draw(st.booleans())}
    if draw(st.integers(0, 9)):
        state["m.room.create", ""] = draw(arbitrary_events(rules))
    return event, state


@given(judged())
@settings(max_examples=500)
def test_an_event_is_allowed_or_rejected_with_a_reason(
    case: tuple[Event, dict[StateKey, Event]],
) -> None:
    event, state = case
    try:
        check_event(event.rules, event, state)
    except Rejected as rejected:
        assert rejected.reason
    try:
        check_auth_events(event.rules, event, list(state.values()))
    except Rejected as rejected:
        assert rejected.reason


@given(st.data(), room_versions)
def test_power_levels_can_be_read_from_anything(data: st.DataObject, rules: RoomVersion) -> None:
    create, event = data.draw(arbitrary_events(rules)), data.draw(arbitrary_events(rules))
    power = PowerLevels(rules, create, event.content)
    levels = [power.user(data.draw(user_ids)), power.event("m.room.topic", True), power.ban]
    assert all(type(level) is int for level in levels)
    assert power.notification("room") == power.notification("room")


@given(loose_json_values, room_versions, st.sampled_from(["users", "events", "notifications"]))
def test_any_value_can_stand_where_levels_do(value: Any, rules: RoomVersion, name: str) -> None:
    create = Event(
        rules, HASH, "!r:h.org", "m.room.create", "@a:b", "", {"creator": value}, 1, 1, (), (),
        None, b"{}",
    )  # fmt: skip
    assert PowerLevels(rules, create, {name: value, "ban": value}).user("@b:c") == 0
