"""The auth events selection, and the rule "considering the event's `auth_events`"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from homeserver.protocol.auth_rules import auth_event_keys, check_auth_events
from homeserver.protocol.events import Event, parse_event
from homeserver.protocol.rejection import Rejected
from tests.support.auth_cases import ALL
from tests.support.room import ALICE, BOB, CREATE, Room

# The rule "considering the event's auth_events", number 2 (3 in version 12).


def auth_events_of(room: Room, event: Event) -> list[Event]:
    return [room.events[event_id] for event_id in event.auth_events]


@pytest.mark.parametrize("version", [str(version) for version in ALL])
def test_the_selected_auth_events_pass(version: str) -> None:
    room = Room(version)
    event = room.make("m.room.message", ALICE, {})
    check_auth_events(room.rules, event, auth_events_of(room, event))
    assert (room.create.event_id in event.auth_events) is (int(version) < 12)


@pytest.mark.parametrize("name", ["type", "state_key"])
def test_what_is_too_long_in_bytes_only_is_rejected(name: str) -> None:
    room = Room("11")
    event = room.make("org.test", ALICE, {}, "")
    old = msgspec.structs.replace(event, **{name: "ü" * 200})
    parse_event({**event.pdu, name: "ü" * 200}, room.rules)  # its format is no reason to drop it
    with pytest.raises(Rejected, match="255 bytes"):
        check_auth_events(room.rules, old, auth_events_of(room, event))


def duplicated(room: Room, events: list[Event]) -> list[Event]:
    return [*events, room.events[room.state["m.room.power_levels", ""]]]


def unexpected(room: Room, events: list[Event]) -> list[Event]:
    return [*events, room.get("m.room.join_rules")]


def a_message(room: Room, events: list[Event]) -> list[Event]:
    return [*events, room.send("m.room.message", ALICE, {})]


def rejected(room: Room, events: list[Event]) -> list[Event]:
    return [*events[:-1], events[-1].as_rejected()]


def foreign(room: Room, events: list[Event]) -> list[Event]:
    other = Room(room.rules.identifier, room_name="other")
    event = other.get("m.room.power_levels")
    if not room.rules.room_id_is_create_event_id:
        event = msgspec.structs.replace(event, room_id="!other:h.org")
    return [event if e.type == "m.room.power_levels" else e for e in events]


def no_create(room: Room, events: list[Event]) -> list[Event]:
    return [event for event in events if event.type != "m.room.create"]


def with_create(room: Room, events: list[Event]) -> list[Event]:
    return [*events, room.create]


@pytest.mark.parametrize(
    ("change", "versions", "reason"),
    [
        (duplicated, ALL, "auth_events holds more than one m.room.power_levels"),
        (unexpected, ALL, "auth_events holds a m.room.join_rules that isn't to be selected"),
        (a_message, ALL, "auth_events holds a m.room.message that isn't to be selected"),
        (rejected, ALL, "auth_events holds a rejected event"),
        (foreign, ALL, "auth_events holds an event of another room"),
        (no_create, range(1, 12), "auth_events holds no m.room.create"),
        (
            with_create,
            range(12, 13),
            "auth_events holds a m.room.create that isn't to be selected",
        ),
    ],
)
def test_other_auth_events_are_rejected(
    change: Callable[[Room, list[Event]], list[Event]], versions: range, reason: str
) -> None:
    for version in versions:
        room = Room(str(version))
        event = room.make("m.room.message", ALICE, {})
        with pytest.raises(Rejected) as caught:
            check_auth_events(room.rules, event, change(room, auth_events_of(room, event)))
        assert caught.value.reason == reason


def test_missing_auth_events_beside_the_create_event_are_no_reason_to_reject() -> None:
    room = Room("11")
    check_auth_events(room.rules, room.make("m.room.message", ALICE, {}), [room.create])


P, J, C = ("m.room.power_levels", ""), ("m.room.join_rules", ""), CREATE
S, T = ("m.room.member", ALICE), ("m.room.member", BOB)


@pytest.mark.parametrize(
    ("versions", "event_type", "state_key", "content", "expected"),
    [
        (ALL, "m.room.create", "", {}, []),
        (ALL, "m.room.message", None, {}, [P, S]),
        (ALL, "m.room.member", BOB, {"membership": "join"}, [P, S, T, J]),
        (ALL, "m.room.member", BOB, {"membership": "invite"}, [P, S, T, J]),
        (ALL, "m.room.member", BOB, {"membership": "leave"}, [P, S, T]),
        (ALL, "m.room.member", BOB, {"membership": "ban"}, [P, S, T]),
        (ALL, "m.room.member", ALICE, {"membership": "leave"}, [P, S]),
        (ALL, "m.room.member", ALICE, {"membership": "knock"}, [P, S, J]),
        (ALL, "m.room.member", BOB, {}, [P, S, T]),
        (
            ALL,
            "m.room.member",
            BOB,
            {"membership": "invite", "third_party_invite": {"signed": {"token": "t"}}},
            [P, S, T, J, ("m.room.third_party_invite", "t")],
        ),
        (
            ALL,
            "m.room.member",
            BOB,
            {"membership": "invite", "third_party_invite": {"signed": []}},
            [P, S, T, J],
        ),
        (
            range(1, 8),
            "m.room.member",
            ALICE,
            {"membership": "join", "join_authorised_via_users_server": BOB},
            [P, S, J],
        ),
        (
            range(8, 13),
            "m.room.member",
            ALICE,
            {"membership": "join", "join_authorised_via_users_server": BOB},
            [P, S, J, T],
        ),
    ],
)
def test_the_auth_events_selection(
    versions: range, event_type: str, state_key: str, content: dict[str, Any], expected: list[Any]
) -> None:
    for version in versions:
        create = [C] if version < 12 and event_type != "m.room.create" else []
        rules = Room(str(version)).rules
        keys = auth_event_keys(rules, event_type, ALICE, state_key, content)
        assert set(keys) == {*create, *expected}
        assert len(keys) == len(set(keys))
