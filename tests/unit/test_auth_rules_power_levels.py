"""The rule on `m.room.power_levels`, and what counts as a power level, by room version."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.protocol.events import Event
from homeserver.protocol.power_levels import read_level
from tests.support.auth_cases import ALL, Case, Make, judge, parameters
from tests.support.room import ALICE, BOB, CAROL, DAVE, Room


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


@pytest.mark.parametrize(("case", "version"), parameters(POWER_LEVELS_RULES))
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
