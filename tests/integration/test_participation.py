"""Receipts, read markers, typing, account data, tags and profiles, and how /sync tells of them."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from homeserver.json_types import JsonObject
from tests.support.client import Client, Refused
from tests.support.server import RunningServer


async def two_in_a_room(server: RunningServer) -> tuple[Client, Client, str]:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await alice.sync()
    await bob.sync()
    return alice, bob, room_id


def ephemeral(answer: Any, room_id: str, event_type: str) -> JsonObject | None:
    room = answer.get("rooms", {}).get("join", {}).get(room_id, {})
    events = room.get("ephemeral", {}).get("events", [])
    return next((e["content"] for e in events if e["type"] == event_type), None)


async def receipt(client: Client, room_id: str, event_id: str, kind: str, **body: str) -> None:
    await client.post(f"/rooms/{quote(room_id)}/receipt/{kind}/{quote(event_id)}", body)


async def test_a_receipt_is_shown_to_the_others(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    event_id = await alice.send(room_id, "read me")
    await receipt(bob, room_id, event_id, "m.read")

    content = await alice.sync_until(lambda a: ephemeral(a, room_id, "m.receipt"))

    assert bob.user_id in content[event_id]["m.read"]


async def test_who_joins_is_told_of_earlier_receipts_and_of_who_types(
    server: RunningServer,
) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    event_id = await alice.send(room_id, "hello")
    await receipt(bob, room_id, event_id, "m.read")
    path = f"/rooms/{quote(room_id)}/typing/{quote(bob.user_id)}"
    await bob.put(path, {"typing": True, "timeout": 100_000})
    carol = await server.user("carol")
    await carol.sync()
    await carol.join(room_id)

    answer = await carol.sync()

    receipts = ephemeral(answer, room_id, "m.receipt")
    assert receipts is not None
    assert bob.user_id in receipts[event_id]["m.read"]
    assert typing(answer, room_id) == [bob.user_id]


async def test_a_private_receipt_is_shown_to_its_owner_only(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    event_id = await alice.send(room_id, "read me")
    await receipt(bob, room_id, event_id, "m.read.private")

    assert ephemeral(await alice.sync(), room_id, "m.receipt") is None
    content = ephemeral(await bob.sync(), room_id, "m.receipt")
    assert content is not None
    assert bob.user_id in content[event_id]["m.read.private"]


async def test_a_receipt_never_goes_back(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    first, second = await alice.send(room_id, "1"), await alice.send(room_id, "2")
    await receipt(bob, room_id, second, "m.read")
    await receipt(bob, room_id, first, "m.read")

    content = ephemeral(await alice.sync(), room_id, "m.receipt")

    assert content is not None
    assert list(content) == [second]


@pytest.mark.parametrize("thread_id", ["", "$other", 3])
async def test_a_receipt_with_a_wrong_thread_is_refused(
    server: RunningServer, thread_id: Any
) -> None:
    alice, _, room_id = await two_in_a_room(server)
    event_id = await alice.send(room_id, "hello")
    with pytest.raises(Refused) as refused:
        await receipt(alice, room_id, event_id, "m.read", thread_id=thread_id)
    assert (refused.value.status, refused.value.errcode) == (400, "M_INVALID_PARAM")


async def test_only_threads_of_the_room_have_receipts_of_their_own(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    root, other = await alice.send(room_id, "root"), await alice.send(room_id, "other")
    relates_to = {"rel_type": "m.thread", "event_id": root}
    content: JsonObject = {"msgtype": "m.text", "body": "reply", "m.relates_to": relates_to}
    reply = await alice.send(room_id, content)
    relates_to = {"rel_type": "m.annotation", "event_id": root, "key": "x"}
    reaction = await alice.send(room_id, {"m.relates_to": relates_to}, "m.reaction")
    for event_id in (root, reply, reaction, "$unknown"):
        await receipt(bob, room_id, event_id, "m.read", thread_id=root)
    wrong = [(other, root), (other, other), (reaction, other), ("$unknown", "$made-up")]
    for event_id, thread_id in wrong:
        with pytest.raises(Refused) as refused:
            await receipt(bob, room_id, event_id, "m.read", thread_id=thread_id)
        assert (refused.value.status, refused.value.errcode) == (400, "M_INVALID_PARAM")


async def test_a_threaded_receipt_does_not_cover_up_an_unthreaded_one(
    server: RunningServer,
) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    root = await alice.send(room_id, "root")
    relates_to = {"rel_type": "m.thread", "event_id": root}
    content: JsonObject = {"msgtype": "m.text", "body": "reply", "m.relates_to": relates_to}
    reply = await alice.send(room_id, content)
    await receipt(bob, room_id, reply, "m.read")
    await alice.sync()
    await receipt(bob, room_id, reply, "m.read", thread_id=root)
    assert ephemeral(await alice.sync(), room_id, "m.receipt") is None
    alice.next_batch = None
    shown = ephemeral(await alice.sync(), room_id, "m.receipt")
    assert shown is not None
    assert "thread_id" not in shown[reply]["m.read"][bob.user_id]


async def test_a_receipt_of_an_unknown_type_is_refused(server: RunningServer) -> None:
    alice, _, room_id = await two_in_a_room(server)
    with pytest.raises(Refused) as refused:
        await receipt(alice, room_id, await alice.send(room_id, "x"), "m.nonsense")
    assert refused.value.errcode == "M_INVALID_PARAM"


async def test_read_markers_set_the_marker_and_the_receipts(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    event_id = await alice.send(room_id, "read me")
    path = f"/rooms/{quote(room_id)}/read_markers"
    await bob.post(path, {"m.fully_read": event_id, "m.read": event_id})

    answer = await bob.sync()

    room = answer["rooms"]["join"][room_id]
    marker = next(e for e in room["account_data"]["events"] if e["type"] == "m.fully_read")
    assert marker["content"] == {"event_id": event_id}
    assert ephemeral(answer, room_id, "m.receipt") is not None


async def test_typing_is_shown_and_ends_by_itself(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    path = f"/rooms/{quote(room_id)}/typing/{quote(bob.user_id)}"
    await bob.put(path, {"typing": True, "timeout": 1000})

    content = await alice.sync_until(lambda a: ephemeral(a, room_id, "m.typing"))
    assert content["user_ids"] == [bob.user_id]
    content = await alice.sync_until(lambda a: ephemeral(a, room_id, "m.typing"))
    assert content["user_ids"] == []


def typing(answer: Any, room_id: str) -> list[str] | None:
    """Who types in a room, if the answer says anything of it."""
    content = ephemeral(answer, room_id, "m.typing")
    return None if content is None else content["user_ids"]


async def test_nobody_types_any_more_after_a_restart(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    path = f"/rooms/{quote(room_id)}/typing/{quote(alice.user_id)}"
    await bob.sync()
    await alice.put(path, {"typing": True, "timeout": 100_000})
    assert typing(await bob.sync(), room_id) == [alice.user_id]

    await server.restart()
    for client in (alice, bob):
        server.moved(client)

    assert typing(await bob.sync(), room_id) == []
    assert typing(await bob.sync(), room_id) is None
    old = bob.next_batch
    await server.restart()
    for client in (alice, bob):
        server.moved(client)
    await alice.put(path, {"typing": True, "timeout": 100_000})
    bob.next_batch = old
    assert typing(await bob.sync(), room_id) == [alice.user_id]


async def test_typing_for_somebody_else_is_forbidden(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    path = f"/rooms/{quote(room_id)}/typing/{quote(bob.user_id)}"
    with pytest.raises(Refused) as refused:
        await alice.put(path, {"typing": True})
    assert refused.value.status == 403


async def test_account_data_reaches_the_other_device(server: RunningServer) -> None:
    phone = await server.user("alice")
    laptop = await phone.another_device()
    await laptop.sync()
    waiting = asyncio.create_task(laptop.sync(timeout_ms=10_000))
    await asyncio.sleep(0.05)
    path = f"/user/{quote(phone.user_id)}/account_data/org.example"
    await phone.put(path, {"a": 1})

    events = (await waiting)["account_data"]["events"]

    assert {"type": "org.example", "content": {"a": 1}} in events
    assert await laptop.get(path) == {"a": 1}


async def test_account_data_of_the_server_cannot_be_set(server: RunningServer) -> None:
    alice = await server.user("alice")
    with pytest.raises(Refused) as refused:
        await alice.put(f"/user/{quote(alice.user_id)}/account_data/m.push_rules", {})
    assert (refused.value.status, refused.value.errcode) == (405, "M_BAD_JSON")


async def test_account_data_of_others_is_out_of_reach(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    with pytest.raises(Refused) as refused:
        await alice.get(f"/user/{quote(bob.user_id)}/account_data/org.example")
    assert refused.value.status == 403


async def test_tags_come_and_go(server: RunningServer) -> None:
    alice, _, room_id = await two_in_a_room(server)
    path = f"/user/{quote(alice.user_id)}/rooms/{quote(room_id)}/tags"
    await alice.put(f"{path}/m.favourite", {"order": 0.5})
    await alice.put(f"{path}/u.work", {})
    await alice.delete(f"{path}/u.work")

    assert await alice.get(path) == {"tags": {"m.favourite": {"order": 0.5}}}
    room = (await alice.sync())["rooms"]["join"][room_id]
    assert {"type": "m.tag", "content": {"tags": {"m.favourite": {"order": 0.5}}}} in room[
        "account_data"
    ]["events"]


async def test_a_new_name_is_shown_in_rooms(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await bob.put(f"/profile/{quote(bob.user_id)}/displayname", {"displayname": "Bobby"})

    def renamed(answer: Any) -> bool:
        room = answer.get("rooms", {}).get("join", {}).get(room_id, {})
        return any(
            e["content"].get("displayname") == "Bobby"
            for e in room.get("timeline", {}).get("events", [])
        )

    assert await alice.sync_until(renamed)
    assert (await alice.get(f"/profile/{quote(bob.user_id)}"))["displayname"] == "Bobby"


async def test_custom_profile_fields_have_limits(server: RunningServer) -> None:
    alice = await server.user("alice")
    path = f"/profile/{quote(alice.user_id)}"
    await alice.put(f"{path}/org.example.job", {"org.example.job": {"title": "baker"}})
    assert (await alice.get(f"{path}/org.example.job")) == {"org.example.job": {"title": "baker"}}

    cases = {
        "M_KEY_TOO_LARGE": ("a." + "x" * 255, "v"),
        "M_PROFILE_TOO_LARGE": ("org.example.big", "x" * 70_000),
        "M_INVALID_PARAM": ("Nonsense!", "v"),
    }
    for errcode, (key, value) in cases.items():
        with pytest.raises(Refused) as refused:
            await alice.put(f"{path}/{quote(key)}", {key: value})
        assert (refused.value.status, refused.value.errcode) == (400, errcode)


async def test_a_filter_is_kept_and_used(server: RunningServer) -> None:
    alice, _, room_id = await two_in_a_room(server)
    definition = {"room": {"timeline": {"limit": 1, "types": ["m.room.message"]}}}
    path = f"/user/{quote(alice.user_id)}/filter"
    filter_id = (await alice.post(path, definition))["filter_id"]
    assert (await alice.post(path, definition))["filter_id"] == filter_id
    assert await alice.get(f"{path}/{filter_id}") == definition
    await alice.send(room_id, "one")
    last = await alice.send(room_id, "two")
    await alice.set_state(room_id, "m.room.topic", {"topic": "later"})

    room = (await alice.sync(filter=filter_id))["rooms"]["join"][room_id]

    assert [e["event_id"] for e in room["timeline"]["events"]] == [last]
    assert room["timeline"]["limited"] is True
