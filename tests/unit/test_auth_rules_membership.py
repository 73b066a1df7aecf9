"""The rule on `m.room.member`, chapter by chapter, for each room version that has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from homeserver.json_types import JsonObject
from tests.support.auth_cases import ALL, verdict
from tests.support.room import ALICE, BOB, CAROL, CREATE, DAVE, Room

KNOCK, RESTRICTED, KNOCK_RESTRICTED = range(7, 13), range(8, 13), range(10, 13)
Step = Callable[[Room], object]


def judge(
    version: int,
    steps: list[Step],
    event: tuple[str, str, JsonObject],
    reason: str | None,
    join_rule: str | None = "public",
) -> None:
    """Takes the steps in a fresh room, then judges a member event: sender, state_key, content."""
    room = Room(str(version), join_rule)
    for step in steps:
        step(room)
    sender, state_key, content = event
    verdict(room, room.make("m.room.member", sender, content, state_key), reason)


def to(membership: Any, **more: Any) -> JsonObject:
    return {"membership": membership, **more}


def joins(user_id: str) -> Step:
    return lambda room: room.join(user_id)


def invites(user_id: str) -> Step:
    return lambda room: room.invite(ALICE, user_id)


def bans(user_id: str) -> Step:
    return lambda room: room.ban(ALICE, user_id)


def kicks(user_id: str) -> Step:
    return lambda room: room.kick(ALICE, user_id)


def rule(join_rule: str) -> Step:
    return lambda room: room.join_rule(ALICE, join_rule)


def power(users: dict[str, int], **levels: int) -> Step:
    return lambda room: room.power(ALICE, users, **levels)


def knocks(user_id: str) -> Step:
    def knock(room: Room) -> None:
        room.join_rule(ALICE, "knock")
        room.member(user_id, user_id, "knock")

    return knock


NOT_INVITED = "the join rule {!r} doesn't let the sender join"
NOT_JOINED = "the sender is not joined to the room"
NOT_BELOW = "the target's power level is not less than the sender's"
Row = tuple[str, range, list[Step], tuple[str, str, JsonObject], str | None]

FORM: list[Row] = [
    ("no membership", ALL, [], (BOB, BOB, {}), "m.room.member has no state_key or no membership"),
    ("unknown", ALL, [], (BOB, BOB, to("guest")), "the membership is unknown"),
    ("no string", ALL, [], (BOB, BOB, to(1)), "the membership is unknown"),
    ("knock is unknown", range(1, 7), [], (BOB, BOB, to("knock")), "the membership is unknown"),
]
JOIN: list[Row] = [
    ("public", ALL, [], (BOB, BOB, to("join")), None),
    ("again", ALL, [joins(BOB), rule("invite")], (BOB, BOB, to("join")), None),
    ("for another", ALL, [], (ALICE, BOB, to("join")), "nobody can join for somebody else"),
    ("banned", ALL, [bans(BOB)], (BOB, BOB, to("join")), "the sender is banned"),
    ("invited", ALL, [rule("invite"), invites(BOB)], (BOB, BOB, to("join")), None),
    (
        "not invited",
        ALL,
        [rule("invite")],
        (BOB, BOB, to("join")),
        NOT_INVITED.format("invite"),
    ),
    (
        "invited, private",
        ALL,
        [rule("private"), invites(BOB)],
        (BOB, BOB, to("join")),
        NOT_INVITED.format("private"),
    ),
    *(
        (
            f"invited, {join_rule}",
            versions,
            [rule(join_rule), invites(BOB)],
            (BOB, BOB, to("join")),
            reason,
        )
        for join_rule, first in (("knock", 7), ("restricted", 8), ("knock_restricted", 10))
        for versions, reason in (
            (range(first, 13), None),
            (range(1, first), NOT_INVITED.format(join_rule)),
        )
    ),
    (
        "not invited, knock",
        KNOCK,
        [rule("knock")],
        (BOB, BOB, to("join")),
        NOT_INVITED.format("knock"),
    ),
]
VIA = "join_authorised_via_users_server"
RESTRICTED_JOIN: list[Row] = [
    (
        f"{join_rule}, {name}",
        versions,
        [joins(CAROL), power({CAROL: level}, invite=10), rule(join_rule), *steps],
        (BOB, BOB, content),
        reason,
    )
    for join_rule, versions in (("restricted", RESTRICTED), ("knock_restricted", KNOCK_RESTRICTED))
    for name, level, steps, content, reason in (
        ("authorised", 10, [], to("join", **{VIA: CAROL}), None),
        (
            "authoriser may not invite",
            9,
            [],
            to("join", **{VIA: CAROL}),
            f"{VIA} may not invite",
        ),
        (
            "authoriser has left",
            10,
            [kicks(CAROL)],
            to("join", **{VIA: CAROL}),
            f"{VIA} is not a joined member",
        ),
        (
            "authoriser was never there",
            10,
            [],
            to("join", **{VIA: DAVE}),
            f"{VIA} is not a joined member",
        ),
        ("no authoriser", 10, [], to("join"), f"a restricted join needs {VIA}"),
        ("invited, no authoriser", 10, [invites(BOB)], to("join"), None),
        ("authoriser no user", 10, [], to("join", **{VIA: 1}), f"{VIA} is not a user id"),
    )
]
INVITE: list[Row] = [
    ("allowed", ALL, [], (ALICE, BOB, to("invite")), None),
    ("again", ALL, [invites(BOB)], (ALICE, BOB, to("invite")), None),
    ("by a stranger", ALL, [], (CAROL, BOB, to("invite")), NOT_JOINED),
    ("by an invited user", ALL, [invites(CAROL)], (CAROL, BOB, to("invite")), NOT_JOINED),
    (
        "of a member",
        ALL,
        [joins(BOB)],
        (ALICE, BOB, to("invite")),
        "the invited user is joined or banned",
    ),
    (
        "of a banned user",
        ALL,
        [bans(BOB)],
        (ALICE, BOB, to("invite")),
        "the invited user is joined or banned",
    ),
    (
        "at the level",
        ALL,
        [joins(CAROL), power({CAROL: 10}, invite=10)],
        (CAROL, BOB, to("invite")),
        None,
    ),
    (
        "below the level",
        ALL,
        [joins(CAROL), power({CAROL: 9}, invite=10)],
        (CAROL, BOB, to("invite")),
        "the sender's power level is less than the invite level",
    ),
]
CANT_LEAVE = "the sender is not in the room and can't leave it"
LEAVE: list[Row] = [
    ("member", ALL, [joins(BOB)], (BOB, BOB, to("leave")), None),
    ("invited", ALL, [invites(BOB)], (BOB, BOB, to("leave")), None),
    ("knocking", KNOCK, [knocks(BOB)], (BOB, BOB, to("leave")), None),
    ("stranger", ALL, [], (BOB, BOB, to("leave")), CANT_LEAVE),
    ("banned", ALL, [bans(BOB)], (BOB, BOB, to("leave")), CANT_LEAVE),
    ("kick", ALL, [joins(BOB)], (ALICE, BOB, to("leave")), None),
    ("kick of a stranger", ALL, [], (ALICE, BOB, to("leave")), None),
    ("kick by a stranger", ALL, [joins(BOB)], (CAROL, BOB, to("leave")), NOT_JOINED),
    (
        "kick below the level",
        ALL,
        [joins(BOB), joins(CAROL), power({CAROL: 49})],
        (CAROL, BOB, to("leave")),
        "the sender's power level is less than the kick level",
    ),
    (
        "kick of an equal",
        ALL,
        [joins(BOB), joins(CAROL), power({CAROL: 50, BOB: 50})],
        (CAROL, BOB, to("leave")),
        NOT_BELOW,
    ),
    ("unban", ALL, [bans(BOB)], (ALICE, BOB, to("leave")), None),
    (
        "unban below the ban level",
        ALL,
        [joins(CAROL), bans(BOB), power({CAROL: 60}, ban=61)],
        (CAROL, BOB, to("leave")),
        "the sender's power level is less than the ban level",
    ),
    (
        "unban below the kick level",
        ALL,
        [joins(CAROL), bans(BOB), power({CAROL: 60}, kick=61)],
        (CAROL, BOB, to("leave")),
        "the sender's power level is less than the kick level",
    ),
]
BAN: list[Row] = [
    ("member", ALL, [joins(BOB)], (ALICE, BOB, to("ban")), None),
    ("stranger", ALL, [], (ALICE, BOB, to("ban")), None),
    ("by a stranger", ALL, [], (CAROL, BOB, to("ban")), NOT_JOINED),
    (
        "below the level",
        ALL,
        [joins(CAROL), power({CAROL: 49})],
        (CAROL, BOB, to("ban")),
        "the sender's power level is less than the ban level",
    ),
    (
        "of an equal",
        ALL,
        [joins(CAROL), power({CAROL: 50, BOB: 50})],
        (CAROL, BOB, to("ban")),
        NOT_BELOW,
    ),
    (
        "of the creator",
        ALL,
        [joins(CAROL), power({CAROL: 99})],
        (CAROL, ALICE, to("ban")),
        NOT_BELOW,
    ),
    ("of oneself", ALL, [], (ALICE, ALICE, to("ban")), NOT_BELOW),
]
CANT_KNOCK = "the sender is banned, invited or joined and can't knock"
NO_KNOCKING = "the join rule doesn't allow knocking"
KNOCKING: list[Row] = [
    ("allowed", KNOCK, [rule("knock")], (BOB, BOB, to("knock")), None),
    ("after a kick", KNOCK, [rule("knock"), kicks(BOB)], (BOB, BOB, to("knock")), None),
    ("restricted", KNOCK_RESTRICTED, [rule("knock_restricted")], (BOB, BOB, to("knock")), None),
    ("v7-9", range(7, 10), [rule("knock_restricted")], (BOB, BOB, to("knock")), NO_KNOCKING),
    ("public", KNOCK, [], (BOB, BOB, to("knock")), NO_KNOCKING),
    (
        "for another",
        KNOCK,
        [rule("knock")],
        (ALICE, BOB, to("knock")),
        "nobody can knock for somebody else",
    ),
    ("banned", KNOCK, [bans(BOB), rule("knock")], (BOB, BOB, to("knock")), CANT_KNOCK),
    ("invited", KNOCK, [invites(BOB), rule("knock")], (BOB, BOB, to("knock")), CANT_KNOCK),
    ("joined", KNOCK, [joins(BOB), rule("knock")], (BOB, BOB, to("knock")), CANT_KNOCK),
]
CHAPTERS = {
    "form": FORM,
    "join": JOIN,
    "restricted join": RESTRICTED_JOIN,
    "invite": INVITE,
    "leave": LEAVE,
    "ban": BAN,
    "knock": KNOCKING,
}


@pytest.mark.parametrize(
    ("version", "row"),
    [
        pytest.param(version, row, id=f"v{version} {chapter}: {row[0]}")
        for chapter, rows in CHAPTERS.items()
        for row in rows
        for version in row[1]
    ],
)
def test_each_rule_allows_and_rejects_what_it_says(version: int, row: Row) -> None:
    _, _, steps, event, reason = row
    judge(version, steps, event, reason)


@pytest.mark.parametrize("version", ALL)
def test_a_member_event_needs_a_state_key(version: int) -> None:
    room = Room(str(version))
    event = room.make("m.room.member", BOB, to("join"))
    verdict(room, event, "m.room.member has no state_key or no membership")


@pytest.mark.parametrize("version", ALL)
def test_without_a_join_rule_a_room_is_invite_only(version: int) -> None:
    judge(version, [], (BOB, BOB, to("join")), NOT_INVITED.format("invite"), join_rule=None)
    judge(version, [invites(BOB)], (BOB, BOB, to("join")), None, join_rule=None)


@pytest.mark.parametrize("version", ALL)
def test_the_creator_may_join_right_after_the_create_event(version: int) -> None:
    room = Room(str(version), bare=True, creator=ALICE)
    create = room.create.event_id
    del room.state["m.room.member", ALICE]
    first = room.make("m.room.member", ALICE, to("join"), ALICE, prev_events=[create])
    verdict(room, first, None)
    later = room.make("m.room.member", ALICE, to("join"), ALICE)
    verdict(room, later, NOT_INVITED.format("invite"))
    other = room.make("m.room.member", BOB, to("join"), BOB, prev_events=[create])
    verdict(room, other, NOT_INVITED.format("invite"))


@pytest.mark.parametrize("version", ALL)
def test_the_creator_is_named_by_the_content_until_version_10(version: int) -> None:
    room = Room(str(version), bare=True)
    create = room.make(
        "m.room.create", ALICE, {"creator": BOB, "room_version": str(version)}, "", prev_events=[]
    )
    room.events[create.event_id] = create
    room.state = {CREATE: create.event_id}
    join = room.make("m.room.member", BOB, to("join"), BOB, prev_events=[create.event_id])
    verdict(room, join, None if version < 11 else NOT_INVITED.format("invite"))


@pytest.mark.parametrize("version", [12])
def test_creators_stand_above_everyone_and_no_creator_above_another(version: int) -> None:
    room = Room(str(version), additional_creators=[CAROL])
    room.join(CAROL)
    room.join(BOB)
    room.power(ALICE, {BOB: 2**53 - 1})
    verdict(room, room.make("m.room.member", CAROL, to("ban"), BOB), None)
    verdict(room, room.make("m.room.member", BOB, to("ban"), CAROL), NOT_BELOW)
    verdict(room, room.make("m.room.member", ALICE, to("leave"), CAROL), NOT_BELOW)
