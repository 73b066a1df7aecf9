"""Simplified sliding sync (MSC4186)."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from homeserver.json_types import JsonObject
from tests.support.client import DEADLINE, Client, Refused, refusal
from tests.support.server import RunningServer

PATH = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
ALL: JsonObject = {"ranges": [[0, 99]], "timeline_limit": 10, "required_state": []}


async def slide(client: Client, body: JsonObject, **query: str) -> Any:
    return await client.post(PATH, body, **query)


def lists(**more: Any) -> JsonObject:
    return {"lists": {"all": {**ALL, **more}}}


async def test_the_first_answer_shows_the_window_newest_first(server: RunningServer) -> None:
    alice = await server.user("alice")
    rooms = [await alice.create_room(name=f"room {n}") for n in range(5)]
    await alice.send(rooms[1], "up with you")

    answer = await slide(alice, lists(ranges=[[0, 1]], timeline_limit=1))

    assert answer["lists"]["all"]["count"] == 5
    assert answer["lists"]["all"]["ops"] == [
        {"op": "SYNC", "range": [0, 1], "room_ids": [rooms[1], rooms[4]]}
    ]
    assert set(answer["rooms"]) == {rooms[1], rooms[4]}
    room = answer["rooms"][rooms[1]]
    assert room["initial"] is True
    assert room["name"] == "room 1"
    assert [e["content"].get("body") for e in room["timeline"]] == ["up with you"]
    assert room["limited"] is True
    assert room["joined_count"] == 1


async def test_a_message_ends_the_long_poll_with_just_that(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    pos = (await slide(bob, lists()))["pos"]

    waiting = asyncio.create_task(slide(bob, lists(), pos=pos, timeout="10000"))
    await asyncio.sleep(0.05)
    event_id = await alice.send(room_id, "hello")
    room = (await waiting)["rooms"][room_id]

    assert [e["event_id"] for e in room["timeline"]] == [event_id]
    assert "initial" not in room
    assert (room["limited"], room["num_live"]) == (False, 1)


async def test_a_lost_answer_is_given_again(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    pos = (await slide(alice, lists()))["pos"]
    event_id = await alice.send(room_id, "hello")

    first = await slide(alice, lists(), pos=pos)
    again = await slide(alice, lists(), pos=pos)

    for answer in (first, again):
        assert [e["event_id"] for e in answer["rooms"][room_id]["timeline"]] == [event_id]
    assert (await slide(alice, lists(), pos=again["pos"]))["rooms"] == {}
    with pytest.raises(Refused) as refused:
        await slide(alice, lists(), pos=first["pos"])
    assert (refused.value.status, refused.value.errcode) == (400, "M_UNKNOWN_POS")


async def test_a_long_poll_that_was_broken_off_leaves_no_trace(server: RunningServer) -> None:
    alice = await server.user("alice")
    rooms = [await alice.create_room() for _ in range(2)]
    pos = (await slide(alice, lists(ranges=[[0, 0]])))["pos"]

    left = asyncio.create_task(slide(alice, lists(ranges=[[0, 0]]), pos=pos, timeout="10000"))
    await asyncio.sleep(0.05)
    opened = lists(ranges=[[0, 0]]) | {"room_subscriptions": {rooms[0]: {"timeline_limit": 10}}}
    newer = await slide(alice, opened, pos=pos, timeout="10000")
    event_id = await alice.send(rooms[0], "hello")

    answer = await left
    assert (answer["pos"], answer["rooms"]) == (pos, {})
    room = (await slide(alice, opened, pos=newer["pos"], timeout="10000"))["rooms"][rooms[0]]
    assert [e["event_id"] for e in room["timeline"]] == [event_id]


async def test_a_step_of_a_verification_ends_the_poll_for_keys_once_it_is_read(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await bob.create_room(preset="public_chat")
    await alice.join(room_id)
    rooms = lists() | {"conn_id": "rooms"}
    keys = {"conn_id": "keys", "extensions": {"e2ee": {"enabled": True}}}
    at = (await slide(alice, rooms))["pos"]
    pos = (await slide(alice, keys))["pos"]
    pos = (await slide(alice, keys, pos=pos))["pos"]

    waiting = asyncio.create_task(slide(alice, keys, pos=pos, timeout="60000"))
    await alice.send(room_id, {"ciphertext": "mine"}, "m.room.encrypted")
    at = (await slide(alice, rooms, pos=at))["pos"]
    await bob.send(room_id, {"ciphertext": "perhaps a step"}, "m.room.encrypted")
    at = (await slide(alice, rooms, pos=at))["pos"]
    assert not waiting.done()
    await slide(alice, rooms, pos=at)  # who comes back has read it

    async with asyncio.timeout(DEADLINE):
        assert "e2ee" in (await waiting)["extensions"]


async def test_an_unknown_position_is_refused(server: RunningServer) -> None:
    alice = await server.user("alice")
    for pos in ("17/4711", "nonsense"):
        with pytest.raises(Refused) as refused:
            await slide(alice, lists(), pos=pos)
        assert refused.value.status == 400


async def test_after_a_restart_a_connection_starts_anew(server: RunningServer) -> None:
    alice = await server.user("alice")
    await alice.create_room()
    pos = (await slide(alice, lists()))["pos"]
    await server.restart()
    alice = server.moved(alice)
    with pytest.raises(Refused) as refused:
        await slide(alice, lists(), pos=pos)
    assert refused.value.errcode == "M_UNKNOWN_POS"


async def test_required_state_knows_its_wildcards(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat", name="pub")
    await bob.join(room_id)
    await alice.send(room_id, "hello")

    async def keys(*required: list[str], limit: int = 1) -> set[tuple[str, str]]:
        body = lists(required_state=list(required), timeline_limit=limit)
        room = (await slide(alice, body))["rooms"][room_id]
        return {(e["type"], e["state_key"]) for e in room["required_state"]}

    member = "m.room.member"
    assert await keys(["m.room.name", ""]) == {("m.room.name", "")}
    assert await keys([member, "$ME"]) == {(member, alice.user_id)}
    assert await keys([member, "$LAZY"]) == {(member, alice.user_id)}
    assert await keys([member, "*"]) == {(member, alice.user_id), (member, bob.user_id)}
    assert ("m.room.create", "") in await keys(["*", "*"])


async def test_asking_for_more_state_and_timeline_brings_it(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room(name="pub")
    sent = [await alice.send(room_id, f"{n}") for n in range(5)]
    pos = (await slide(alice, lists(timeline_limit=1)))["pos"]

    wider = lists(timeline_limit=4, required_state=[["m.room.name", ""]])
    room = (await slide(alice, wider, pos=pos))["rooms"][room_id]

    assert [e["event_id"] for e in room["timeline"]] == sent[-4:]
    assert room["unstable_expanded_timeline"] is True
    assert [e["type"] for e in room["required_state"]] == ["m.room.name"]


async def test_a_room_that_comes_back_into_the_window_tells_what_was_missed(
    server: RunningServer,
) -> None:
    alice = await server.user("alice")
    first, second = await alice.create_room(), await alice.create_room()
    narrow = lists(ranges=[[0, 0]])
    pos = (await slide(alice, lists()))["pos"]
    pos = (await slide(alice, narrow, pos=pos))["pos"]
    missed = await alice.send(first, "missed")
    await alice.send(second, "shown")
    answer = await slide(alice, narrow, pos=pos)
    assert set(answer["rooms"]) == {second}

    answer = await slide(alice, lists(), pos=answer["pos"])

    assert [e["event_id"] for e in answer["rooms"][first]["timeline"]] == [missed]
    assert second not in answer["rooms"]


async def test_an_invite_is_shown_with_its_stripped_state(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    pos = (await slide(bob, lists()))["pos"]
    room_id = await alice.create_room(name="secret", invite=[bob.user_id])

    answer = await slide(bob, lists(), pos=pos, timeout="5000")

    room = answer["rooms"][room_id]
    assert "m.room.name" in {e["type"] for e in room["invite_state"]}
    assert room["name"] == "secret"
    await bob.join(room_id)
    room = (await slide(bob, lists(), pos=answer["pos"]))["rooms"][room_id]
    assert room["initial"] is True


async def test_leaving_is_told(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    answer = await slide(bob, lists(required_state=[["m.room.member", "$ME"]]))
    await alice.kick(room_id, bob.user_id)

    body = lists(required_state=[["m.room.member", "$ME"]])
    answer = await slide(bob, body, pos=answer["pos"], timeout="5000")

    state = answer["rooms"][room_id]["required_state"]
    assert [e["content"]["membership"] for e in state] == ["leave"]
    assert answer["lists"]["all"]["count"] == 0


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"is_dm": True}, {"direct"}),
        ({"is_encrypted": True}, {"encrypted"}),
        ({"room_types": ["m.space"]}, {"space"}),
        ({"not_room_types": ["m.space"]}, {"direct", "encrypted", "tagged", "child"}),
        ({"room_types": [None]}, {"direct", "encrypted", "tagged", "child"}),
        ({"room_name_like": "CRYPT"}, {"encrypted"}),
        ({"tags": ["m.favourite"]}, {"tagged"}),
        ({"not_tags": ["m.favourite"]}, {"direct", "encrypted", "space", "child"}),
        ({"is_invite": True}, set()),
    ],
)
async def test_filters_choose_rooms(
    server: RunningServer, filters: JsonObject, expected: set[str]
) -> None:
    alice = await server.user("alice")
    encryption = {
        "type": "m.room.encryption",
        "state_key": "",
        "content": {"algorithm": "m.megolm.v1.aes-sha2"},
    }
    rooms = {
        await alice.create_room(name="direct"): "direct",
        await alice.create_room(name="encrypted", initial_state=[encryption]): "encrypted",
        await alice.create_room(creation_content={"type": "m.space"}): "space",
        await alice.create_room(name="tagged"): "tagged",
        await alice.create_room(name="child"): "child",
    }
    by_name = {name: room_id for room_id, name in rooms.items()}
    user = quote(alice.user_id)
    await alice.put(f"/user/{user}/account_data/m.direct", {"@b:c": [by_name["direct"]]})
    await alice.put(f"/user/{user}/rooms/{quote(by_name['tagged'])}/tags/m.favourite", {})
    await alice.set_state(by_name["space"], "m.space.child", {"via": ["x"]}, by_name["child"])

    answer = await slide(alice, lists(filters=filters))

    shown = answer["lists"]["all"]["ops"][0]["room_ids"]
    assert {rooms[room_id] for room_id in shown} == expected
    inside = await slide(alice, lists(filters={"spaces": [by_name["space"]]}))
    assert inside["lists"]["all"]["ops"][0]["room_ids"] == [by_name["child"]]


async def test_extensions_tell_of_typing_receipts_and_account_data(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    enabled = {"enabled": True}
    body = lists() | {
        "extensions": {"typing": enabled, "receipts": enabled, "account_data": enabled}
    }
    first = await slide(alice, body)
    types = {event["type"] for event in first["extensions"]["account_data"]["global"]}
    assert "m.push_rules" in types

    await bob.put(f"/rooms/{quote(room_id)}/typing/{quote(bob.user_id)}", {"typing": True})
    answer = await slide(alice, body, pos=first["pos"], timeout="5000")
    typing = answer["extensions"]["typing"]["rooms"][room_id]["content"]["user_ids"]
    assert typing == [bob.user_id]
    assert answer["rooms"] == {}

    event_id = await alice.send(room_id, "read me")
    answer = await slide(alice, body, pos=answer["pos"])
    await bob.post(f"/rooms/{quote(room_id)}/receipt/m.read/{quote(event_id)}", {})
    answer = await slide(alice, body, pos=answer["pos"], timeout="5000")
    content = answer["extensions"]["receipts"]["rooms"][room_id]["content"]
    assert bob.user_id in content[event_id]["m.read"]

    await alice.put(f"/user/{quote(alice.user_id)}/account_data/org.example", {"a": 1})
    answer = await slide(alice, body, pos=answer["pos"], timeout="5000")
    assert answer["extensions"]["account_data"]["global"] == [
        {"type": "org.example", "content": {"a": 1}}
    ]


async def test_a_wrong_body_names_the_field(server: RunningServer) -> None:
    alice = await server.user("alice")
    with pytest.raises(Refused) as refused:
        await slide(alice, {"lists": {"all": {"ranges": "everything"}}})
    assert (refused.value.status, refused.value.errcode) == (400, "M_BAD_JSON")


async def test_two_connections_of_a_device_do_not_disturb_each_other(
    server: RunningServer,
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    one = await slide(alice, {**lists(), "conn_id": "one"})
    two = await slide(alice, {**lists(), "conn_id": "two"})
    event_id = await alice.send(room_id, "hello")
    for conn_id, pos in (("one", one["pos"]), ("two", two["pos"])):
        answer = await slide(alice, {**lists(), "conn_id": conn_id}, pos=pos)
        assert [e["event_id"] for e in answer["rooms"][room_id]["timeline"]] == [event_id]


async def test_to_device_messages_come_until_their_own_token_acknowledges_them(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    body: JsonObject = {"extensions": {"to_device": {"enabled": True}, "e2ee": {"enabled": True}}}
    pos = (await slide(bob, body))["pos"]
    waiting = asyncio.create_task(slide(bob, body, pos=pos, timeout="10000"))
    await asyncio.sleep(0.05)
    messages = {bob.user_id: {bob.device_id: {"hello": 1}}}
    await alice.put("/sendToDevice/org.example/txn1", {"messages": messages})

    answer = await waiting
    again = await slide(bob, body, pos=answer["pos"])
    since = again["extensions"]["to_device"]["next_batch"]
    body["extensions"]["to_device"]["since"] = since
    later = await slide(bob, body, pos=again["pos"])

    for shown in (answer, again):
        assert [e["content"] for e in shown["extensions"]["to_device"]["events"]] == [{"hello": 1}]
    assert later["extensions"]["to_device"]["events"] == []
    assert later["extensions"]["e2ee"]["device_one_time_keys_count"] == {"signed_curve25519": 0}


async def test_unread_counts_come_and_go(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    pos = (await slide(bob, lists()))["pos"]
    mention = {"msgtype": "m.text", "body": "hey", "m.mentions": {"user_ids": [bob.user_id]}}
    await alice.send(room_id, "1")
    event_id = await alice.send(room_id, mention)

    answer = await slide(bob, lists(), pos=pos)
    room = answer["rooms"][room_id]
    assert (room["notification_count"], room["highlight_count"]) == (2, 1)

    await bob.post(f"/rooms/{quote(room_id)}/receipt/m.read/{quote(event_id)}")
    room = (await slide(bob, lists(), pos=answer["pos"]))["rooms"][room_id]
    assert (room["notification_count"], room["highlight_count"]) == (0, 0)


async def test_a_list_has_only_so_many_windows(server: RunningServer) -> None:
    alice = await server.user("alice")
    refused = await refusal(slide(alice, lists(ranges=[[0, 9]] * 11)))
    assert (refused.status, refused.errcode) == (400, "M_BAD_JSON")
    assert await slide(alice, lists(ranges=[[0, 9]] * 10))


async def test_only_spaces_that_one_is_in_filter_rooms(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    space = await alice.create_room(creation_content={"type": "m.space"}, preset="public_chat")
    gone, kept = [await alice.create_room(preset="public_chat") for _ in range(2)]
    for room_id in (gone, kept):
        await bob.join(room_id)
        await alice.set_state(space, "m.space.child", {"via": ["hs.test"]}, room_id)
    await alice.set_state(space, "m.space.child", {}, gone)
    inside = lists(filters={"spaces": [space]})
    assert (await slide(bob, inside))["lists"]["all"]["count"] == 0
    await bob.join(space)
    answer = await slide(bob, inside)
    assert answer["lists"]["all"]["ops"][0]["room_ids"] == [kept]


async def test_who_is_removed_from_a_room_is_told_only_what_is_new(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await alice.send(room_id, "told")
    pos = (await slide(bob, lists(timeline_limit=3)))["pos"]
    last = await alice.send(room_id, "last")
    await alice.kick(room_id, bob.user_id)

    room = (await slide(bob, lists(timeline_limit=3), pos=pos))["rooms"][room_id]

    assert [e["event_id"] for e in room["timeline"]][:-1] == [last]
    assert room["timeline"][-1]["content"]["membership"] == "leave"
    assert room["limited"] is False
    assert "unstable_expanded_timeline" not in room


async def test_who_declines_an_invite_is_told_that_and_nothing_of_the_room(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(invite=[bob.user_id])
    body = lists(required_state=[["*", "*"]])
    pos = (await slide(bob, body))["pos"]
    await alice.set_state(room_id, "org.example.secret", {"not": "for bob"})
    await bob.leave(room_id)

    room = (await slide(bob, body, pos=pos))["rooms"][room_id]

    (own,) = room["required_state"]
    assert (own["state_key"], own["content"]["membership"]) == (bob.user_id, "leave")
    assert room["timeline"] == []
    assert room.keys().isdisjoint({"heroes", "joined_count", "invited_count"})
