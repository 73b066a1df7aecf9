"""What clients may put into rooms: checks that the auth rules don't make."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import refusal
from tests.support.server import RunningServer


@pytest.mark.parametrize(
    ("event_type", "content", "errcode"),
    [
        ("m.room.power_levels", {"users": {"@alice:hs.test": "100"}}, "M_BAD_JSON"),
        ("m.room.power_levels", {"users": {"alice": 100}}, "M_BAD_JSON"),
        ("m.room.name", {"name": ["x"]}, "M_BAD_JSON"),
        ("m.room.server_acl", {"allow": []}, "M_INVALID_PARAM"),
        ("m.room.server_acl", {"allow": ["*"], "deny": ["hs.test"]}, "M_INVALID_PARAM"),
        ("m.room.server_acl", {"allow": "*"}, "M_BAD_JSON"),
        ("m.room.member", {"membership": "join"}, "M_INVALID_PARAM"),
        ("m.room.create", {}, "M_INVALID_PARAM"),
    ],
)
@pytest.mark.parametrize("version", ["6", "12"])
async def test_state_that_makes_no_sense_is_refused(
    server: RunningServer, version: str, event_type: str, content: Any, errcode: str
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room(room_version=version)
    refused = await refusal(alice.set_state(room_id, event_type, content))
    assert refused.errcode == errcode


async def test_creators_get_no_level_of_their_own(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    more = {"additional_creators": [bob.user_id]}
    room_id = await alice.create_room(room_version="12", creation_content=more)
    for creator in (alice, bob):
        levels = {"users": {creator.user_id: 100}}
        refused = await refusal(alice.set_state(room_id, "m.room.power_levels", levels))
        assert (refused.status, refused.errcode) == (400, "M_BAD_JSON")


async def test_join_rules_that_mean_nothing_let_nobody_in(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    for allow in ("rubbish", ["rubbish"], [{"type": 1}]):
        rules = {"join_rule": "restricted", "allow": allow}
        await alice.set_state(room_id, "m.room.join_rules", rules)
        assert (await refusal(bob.join(room_id))).status == 403


async def test_a_message_has_a_text(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    for content in (
        {"body": 3, "msgtype": "m.text"},
        {"body": "x", "msgtype": {}},
        {"body": "x"},
        {"msgtype": "m.text"},
    ):
        assert (await refusal(alice.send(room_id, content))).errcode == "M_BAD_JSON"


async def test_a_room_is_not_its_own_replacement(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    content = {"body": "gone", "replacement_room": room_id}
    for request in (
        alice.set_state(room_id, "m.room.tombstone", content),
        alice.send(room_id, content, "m.room.tombstone"),
    ):
        assert (await refusal(request)).errcode == "M_INVALID_PARAM"


async def test_a_room_whose_creator_could_not_name_it_is_not_made(server: RunningServer) -> None:
    alice = await server.user("alice")
    override = {"users": {alice.user_id: 0}}
    refused = await refusal(
        alice.create_room(name="x", room_version="11", power_level_content_override=override)
    )
    assert (refused.status, refused.errcode) == (400, "M_INVALID_ROOM_STATE")
    # "the creators can't be in `users`" (version 12)
    refused = await refusal(
        alice.create_room(
            room_version="12", power_level_content_override={"users": {alice.user_id: 100}}
        )
    )
    assert (refused.status, refused.errcode) == (400, "M_INVALID_ROOM_STATE")
    refused = await refusal(alice.create_room(power_level_content_override={"ban": "x"}))
    assert (refused.status, refused.errcode) == (400, "M_BAD_JSON")
    assert (await alice.get("/joined_rooms"))["joined_rooms"] == []


async def test_creators_may_be_named_by_who_leaves_the_version_to_the_server(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    levels = {"users": {alice.user_id: 100, bob.user_id: 50}, "invite": 50}
    room_id = await alice.create_room(power_level_content_override=levels)
    content = await alice.state(room_id, "m.room.power_levels")
    assert (content["users"], content["invite"]) == ({bob.user_id: 50}, 50)


async def test_who_has_left_cannot_say_again_what_they_said(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    first = await alice.set_state(room_id, "m.room.topic", {"topic": "tea"})
    assert await alice.set_state(room_id, "m.room.topic", {"topic": "tea"}) == first
    await alice.leave(room_id)

    refused = await refusal(alice.set_state(room_id, "m.room.topic", {"topic": "tea"}))

    assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")
