"""Each numbered authorisation rule, for each room version that has it: what passes, what fails.

The chapters on membership, power levels and `auth_events` are in files of their own.
"""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.protocol.events import Event, parse_event
from tests.support.auth_cases import ALL, Case, Make, judge, parameters
from tests.support.room import ALICE, BOB, CAROL, CREATE, Room


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


@pytest.mark.parametrize(
    ("case", "version"), parameters(CREATE_RULES + GENERAL_RULES + POWER_RULES)
)
def test_each_rule_allows_and_rejects_what_it_says(case: Case, version: int) -> None:
    judge(case, version)
