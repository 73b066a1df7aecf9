"""Each numbered authorisation rule, for each room version that has it: what passes and what fails.

A case names its rule, the versions, how its event comes about on a branch of a fresh room, and the
reason it is rejected with (None: it is allowed). The chapter on membership is in its own file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from homeserver.protocol.auth_rules import auth_event_keys, check_auth_events, check_event
from homeserver.protocol.events import Event, parse_event
from homeserver.protocol.power_levels import read_level
from homeserver.protocol.rejection import Rejected
from tests.support.room import ALICE, BOB, CAROL, CREATE, DAVE, Room

ALL = range(1, 13)
Make = Callable[[Room], Event]


@dataclass(frozen=True)
class Case:
    rule: str
    versions: range
    make: Make
    reason: str | None = None
    options: dict[str, Any] | None = None


def judge(case: Case, version: int) -> None:
    """The event of the case is allowed, or rejected for exactly its reason."""
    room = Room(str(version), **case.options or {})
    event = case.make(room)
    if case.reason is None:
        check_event(room.rules, event, room.state_events)
        return
    with pytest.raises(Rejected) as caught:
        check_event(room.rules, event, room.state_events)
    assert caught.value.reason == case.reason


def create(**content: Any) -> Make:
    """A second create event, as if for a room of its own."""

    def make(room: Room) -> Event:
        full = {**room.create.content, **content}
        full = {key: value for key, value in full.items() if value is not None}
        return room.make("m.room.create", ALICE, full, "", prev_events=[])

    return make


def with_prev_events(room: Room) -> Event:
    return room.make("m.room.create", ALICE, room.create.content, "")


def with_foreign_room_id(room: Room) -> Event:
    content = room.create.content
    return room.make("m.room.create", ALICE, content, "", prev_events=[], room_id="!r:x.org")


def with_room_id(room: Room) -> Event:
    # `build_event` never puts a room id into a v12 create event.
    pdu = create()(room).pdu | {"room_id": room.create.room_id}
    return parse_event(pdu, room.rules)


def send(event_type: str, sender: str, state_key: str | None = None, **content: Any) -> Make:
    return lambda room: room.make(event_type, sender, content, state_key)


def joined(make: Make, *user_ids: str) -> Make:
    """The event, in a room that these users have joined."""

    def joined_make(room: Room) -> Event:
        for user_id in user_ids:
            room.join(user_id)
        return make(room)

    return joined_make


def without_create(room: Room) -> Event:
    event = room.make("m.room.message", ALICE, {})
    del room.state[CREATE]
    return event


def with_rejected_create(room: Room) -> Event:
    event = room.make("m.room.message", ALICE, {})
    room.events[room.state[CREATE]] = room.create.as_rejected()
    return event


def of_another_room(room: Room) -> Event:
    return Room(room.rules.identifier, other=True).make("m.room.message", ALICE, {})


BAD_CREATORS: list[Any] = ["@a:b", ["bob"], [1], {}, [f"@{'a' * 255}:b"]]
CREATE_RULES = [
    Case("1 create", ALL, create()),
    Case("1.1 prev_events", ALL, with_prev_events, "m.room.create has prev_events"),
    Case(
        "1.2 domain of room_id",
        range(1, 12),
        with_foreign_room_id,
        "the domains of m.room.create's room_id and sender differ",
    ),
    Case("1.2 room_id", range(12, 13), with_room_id, "m.room.create has a room_id"),
    Case("1.3 room_version absent", ALL, create(room_version=None)),
    Case(
        "1.3 room_version unknown",
        ALL,
        create(room_version="99"),
        "m.room.create has an unknown room_version",
    ),
    Case(
        "1.3 room_version no string",
        ALL,
        create(room_version=["1"]),
        "m.room.create has an unknown room_version",
    ),
    Case("1.4 creator", range(1, 11), create(creator=None), "m.room.create has no creator"),
    Case("1.4 creator dropped", range(11, 13), create(creator=None)),
    Case("1.4 additional_creators", range(12, 13), create(additional_creators=[BOB, CAROL])),
    Case("1.4 additional_creators", range(1, 12), create(additional_creators="ignored")),
    *(
        Case(
            "1.4 additional_creators invalid",
            range(12, 13),
            create(additional_creators=value),
            "additional_creators is not an array of user ids",
        )
        for value in BAD_CREATORS
    ),
]

GENERAL_RULES = [
    Case("2.4 create in the state", ALL, send("m.room.message", ALICE)),
    Case("2.4 no create", ALL, without_create, "there is no m.room.create"),
    Case(
        "2 rejected create",
        ALL,
        with_rejected_create,
        "the room_id is not that of an accepted m.room.create",
    ),
    Case(
        "2 create of another room",
        range(12, 13),
        of_another_room,
        "the room_id is not that of an accepted m.room.create",
    ),
    Case(
        "3 m.federate false, other domain",
        ALL,
        send("m.room.member", CAROL, CAROL, membership="join"),
        "the room is not federated, and the sender is of another server",
        {"m.federate": False},
    ),
    Case(
        "3 m.federate false, same domain",
        ALL,
        send("m.room.member", BOB, BOB, membership="join"),
        None,
        {"m.federate": False},
    ),
    Case(
        "3 m.federate true",
        ALL,
        send("m.room.member", CAROL, CAROL, membership="join"),
        None,
        {"m.federate": True},
    ),
    Case("4 aliases of an own domain", range(1, 6), send("m.room.aliases", CAROL, "other.org")),
    Case(
        "4.1 aliases without state_key",
        range(1, 6),
        send("m.room.aliases", ALICE),
        "m.room.aliases has no state_key",
    ),
    Case(
        "4.2 aliases of another domain",
        range(1, 6),
        send("m.room.aliases", ALICE, "other.org"),
        "the sender's domain doesn't match the state_key of m.room.aliases",
    ),
    Case(
        "4 aliases are ordinary events",
        range(6, 13),
        joined(send("m.room.aliases", CAROL, "other.org"), CAROL),
        "the sender's power level is less than m.room.aliases requires",
    ),
    Case("4 aliases by a moderator", range(6, 13), send("m.room.aliases", ALICE, "any")),
    Case("6 member", ALL, joined(send("m.room.message", BOB), BOB)),
    Case(
        "6 no member",
        ALL,
        send("m.room.message", BOB),
        "the sender is not joined to the room",
    ),
]


def invite_level(level: int) -> Make:
    def make(room: Room) -> Event:
        room.join(BOB)
        room.power(ALICE, {}, invite=level)
        return room.make("m.room.third_party_invite", BOB, {}, "token")

    return make


def levels(event_type: str, state_key: str | None, **content: Any) -> Make:
    """BOB, of level 10, sends an event under these power levels."""

    def make(room: Room) -> Event:
        room.join(BOB)
        room.power(ALICE, {BOB: 10}, **content)
        return room.make(event_type, BOB, {}, state_key)

    return make


def redaction(redacter_level: int, same_domain: bool) -> Make:
    def make(room: Room) -> Event:
        room.join(CAROL)
        room.power(ALICE, {CAROL: redacter_level})
        if room.rules.event_id_in_pdu:
            domain = "h.org" if same_domain else "elsewhere.org"
            redacts = f"$x:{domain}"
        else:
            redacts = room.create.event_id
        return room.make("m.room.redaction", CAROL, {}, redacts=redacts)

    return make


TOO_LOW = "the sender's power level is less than T requires"
POWER_RULES = [
    Case("7 third-party invite", ALL, invite_level(0)),
    Case(
        "7.1 third-party invite",
        ALL,
        invite_level(1),
        "the sender's power level is less than the invite level",
    ),
    Case("8 events_default", ALL, levels("T", None, events_default=10)),
    Case("8 events_default", ALL, levels("T", None, events_default=11), TOO_LOW),
    Case("8 state_default", ALL, levels("T", "", state_default=10)),
    Case("8 state_default", ALL, levels("T", "", state_default=11), TOO_LOW),
    Case("8 state_default unset", ALL, levels("T", ""), TOO_LOW),
    Case("8 events", ALL, levels("T", "", events={"T": 10})),
    Case("8 events", ALL, levels("T", None, events={"T": 11}), TOO_LOW),
    Case("8 no power levels", ALL, send("T", ALICE), None, {"bare": True}),
    Case("8 no power levels, creator", ALL, send("T", ALICE, ""), None, {"bare": True}),
    Case("9 own state_key", ALL, send("T", ALICE, ALICE)),
    Case(
        "9 state_key of another user",
        ALL,
        send("T", ALICE, BOB),
        "the state_key is the user id of somebody else",
    ),
    Case(
        "9 any other state_key that starts with @",
        ALL,
        send("T", ALICE, "@"),
        "the state_key is the user id of somebody else",
    ),
    Case("11.1 redact level", range(1, 3), redaction(50, same_domain=False)),
    Case("11.2 same domain", range(1, 3), redaction(0, same_domain=True)),
    Case(
        "11.3 redaction",
        range(1, 3),
        redaction(49, same_domain=False),
        "the sender's power level is less than the redact level",
    ),
    Case("11 redactions pass", range(3, 13), redaction(0, same_domain=False)),
]


def power(content: dict[str, Any], new: dict[str, Any]) -> Make:
    """Under power levels `content`, BOB (level 50) sends the power levels `new`."""

    def merge(room: Room, changed: dict[str, Any]) -> dict[str, Any]:
        creator = {} if room.rules.privileged_creators else {ALICE: 100}
        users = {**creator, BOB: 50, **changed.get("users", {})}
        events = {"m.room.power_levels": 0, **changed.get("events", {})}
        changed = {**changed, "events": events}
        return {**changed, "users": {key: level for key, level in users.items() if level != ""}}

    def make(room: Room) -> Event:
        room.join(BOB)
        room.send("m.room.power_levels", ALICE, merge(room, content), "")
        return room.make("m.room.power_levels", BOB, merge(room, new), "")

    return make


def first_power(content: dict[str, Any]) -> Make:
    """ALICE sends the room's first power levels."""
    return lambda room: room.make("m.room.power_levels", ALICE, content, "")


NO_LEVELS: list[Any] = [None, "many", [], True, "1_0"]
BAD_LEVELS: list[Any] = [[], "x", *({BOB: value} for value in NO_LEVELS)]
SCALARS = ["users_default", "events_default", "state_default", "ban", "redact", "kick", "invite"]
CHANGED, NEW = (
    "a changed power level is above the sender's own",
    ("a new power level is above the sender's own"),
)
USER = "the changed user's power level is not below the sender's own"
OBJECT = "the power levels of {} are not an object of integers"
BARE = {"bare": True}
POWER_LEVELS_RULES = [
    # Form: 10.1 in versions 1 to 9, 9.1 to 9.3 in 10 and 11, 10.1 to 10.4 in 12.
    Case("form", ALL, first_power({"users": {BOB: 5}}), None, BARE),
    *(
        Case("users", ALL, first_power({"users": value}), OBJECT.format("users"), BARE)
        for value in BAD_LEVELS
    ),
    *(
        Case(
            "users names",
            ALL,
            first_power({"users": {name: 5}}),
            "the power levels of users name something that is no user id",
            BARE,
        )
        for name in ("bob", "", "@bob", "!r:h.org")
    ),
    *(
        Case("strings", range(1, 10), first_power({"users": {BOB: text}}), None, BARE)
        for text in ("5", " +005 ", "-5")
    ),
    Case(
        "strings",
        range(10, 13),
        first_power({"users": {BOB: "5"}}),
        OBJECT.format("users"),
        BARE,
    ),
    *(
        Case(
            f"{name} a string",
            range(10, 13),
            first_power({name: "5"}),
            f"the power level {name} is not an integer",
            BARE,
        )
        for name in SCALARS
    ),
    *(
        case
        for name in SCALARS
        for reason in [f"the power level {name} is not an integer"]
        for case in (
            Case(f"{name} no level", range(10, 13), first_power({name: None}), reason, BARE),
            Case(f"{name} no level, first", range(1, 10), first_power({name: None}), None, BARE),
            Case(f"{name} no level, later", ALL, power({}, {name: "x"}), reason),
        )
    ),
    *(
        case
        for name, first in (("events", 1), ("notifications", 6))
        for reason in [OBJECT.format(name)]
        for case in (
            Case(name, range(10, 13), first_power({name: {"a": "5"}}), reason, BARE),
            Case(name, range(10, 13), first_power({name: []}), reason, BARE),
            Case(f"{name}, first", range(1, 10), first_power({name: []}), None, BARE),
            Case(f"{name}, later", range(first, 13), power({}, {name: {"a": "x"}}), reason),
        )
    ),
    Case(
        "10.4 creator in users",
        range(12, 13),
        first_power({"users": {ALICE: 100}}),
        "the power levels name a creator of the room",
        BARE,
    ),
    Case(
        "10.4 additional creator in users",
        range(12, 13),
        first_power({"users": {BOB: 100}}),
        "the power levels name a creator of the room",
        {"bare": True, "additional_creators": [BOB]},
    ),
    # "If there is no previous m.room.power_levels event in the room, allow."
    Case("no previous one", ALL, first_power({"ban": 2**50, "users": {BOB: 2**50}}), None, BARE),
    # The seven properties
    *(
        case
        for name in SCALARS
        for case in (
            Case(f"{name} lowered", ALL, power({name: 50}, {name: 0})),
            Case(f"{name} unchanged", ALL, power({name: 90}, {name: 90})),
            Case(
                f"{name} above",
                ALL,
                power({name: 51}, {name: 50}),
                f"the power level {name} is above the sender's own",
            ),
            Case(
                f"{name} added above",
                ALL,
                power({}, {name: 51}),
                f"the power level {name} is above the sender's own",
            ),
        )
    ),
    Case(
        "removed above",
        ALL,
        power({"kick": 51}, {}),
        "the power level kick is above the sender's own",
    ),
    # `events`, and `notifications` from version 6 on
    *(
        case
        for name, versions in (("events", ALL), ("notifications", range(6, 13)))
        for case in (
            Case(f"{name} changed", versions, power({name: {"a": 50}}, {name: {"a": 1}})),
            Case(f"{name} added", versions, power({}, {name: {"a": 50}})),
            Case(f"{name} left", versions, power({name: {"a": 99}}, {name: {"a": 99}})),
            Case(f"{name} current", versions, power({name: {"a": 51}}, {name: {"a": 5}}), CHANGED),
            Case(f"{name} removed", versions, power({name: {"a": 51}}, {}), CHANGED),
            Case(f"{name} new", versions, power({name: {"a": 5}}, {name: {"a": 51}}), NEW),
            Case(f"{name} added", versions, power({}, {name: {"a": 51}}), NEW),
        )
    ),
    Case("notifications", range(1, 6), power({}, {"notifications": {"room": 99}})),
    # `users`
    Case("users own lowered", ALL, power({}, {"users": {BOB: 20}})),
    Case("users own removed", ALL, power({}, {"users": {BOB: ""}})),
    Case("users lower", ALL, power({"users": {CAROL: 49}}, {"users": {CAROL: 0}})),
    Case("users added", ALL, power({}, {"users": {CAROL: 50}})),
    Case("users equal", ALL, power({"users": {CAROL: 50}}, {"users": {CAROL: 0}}), USER),
    Case("users equal removed", ALL, power({"users": {CAROL: 50}}, {}), USER),
    Case("users above", ALL, power({"users": {CAROL: 51}}, {"users": {CAROL: 50}}), USER),
    Case("users raised", ALL, power({"users": {CAROL: 5}}, {"users": {CAROL: 51}}), NEW),
    Case("users raise themselves", ALL, power({}, {"users": {BOB: 51}}), NEW),
    Case("users added above", ALL, power({}, {"users": {DAVE: 51}}), NEW),
    Case("equal values, spelled otherwise", range(1, 10), power({"ban": 90}, {"ban": "090"})),
]

CASES = [
    pytest.param(case, version, id=f"v{version} {case.rule} {case.reason or 'allowed'} {number}")
    for number, case in enumerate(CREATE_RULES + GENERAL_RULES + POWER_RULES + POWER_LEVELS_RULES)
    for version in case.versions
]


@pytest.mark.parametrize(("case", "version"), CASES)
def test_each_rule_allows_and_rejects_what_it_says(case: Case, version: int) -> None:
    judge(case, version)


@pytest.mark.parametrize(("level", "effective"), [(50.57, 50), (5.114698e4, 51146), (-1.9, -1)])
def test_floats_are_truncated_until_version_5(level: float, effective: int) -> None:
    for version in range(1, 6):
        assert read_level(level, Room(str(version)).rules) == effective
    assert read_level(float("inf"), Room("1").rules) is None
    assert read_level(level, Room("6").rules) is None


@pytest.mark.parametrize("version", [str(version) for version in ALL])
def test_the_creator_has_100_or_infinite_power(version: str) -> None:
    room = Room(version, bare=True, additional_creators=[BOB])
    if int(version) < 12:
        assert room.power_levels.user(ALICE) == 100
        assert room.power_levels.user(BOB) == 0
    else:
        assert room.power_levels.user(ALICE) == room.power_levels.user(BOB) > 2**53 - 1


# The rule "considering the event's auth_events", number 2 (3 in version 12).


def auth_events_of(room: Room, event: Event) -> list[Event]:
    return [room.events[event_id] for event_id in event.auth_events]


@pytest.mark.parametrize("version", [str(version) for version in ALL])
def test_the_selected_auth_events_pass(version: str) -> None:
    room = Room(version)
    event = room.make("m.room.message", ALICE, {})
    check_auth_events(room.rules, event, auth_events_of(room, event))
    assert (room.create.event_id in event.auth_events) is (int(version) < 12)


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
        (range(1, 7), "m.room.member", ALICE, {"membership": "knock"}, [P, S]),
        (range(7, 13), "m.room.member", ALICE, {"membership": "knock"}, [P, S, J]),
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
