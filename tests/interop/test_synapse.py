"""Against a real Synapse: each flow of federation, in both directions."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from homeserver.json_types import JsonObject
from tests.interop.synapse import Synapse
from tests.support.client import Client, bodies
from tests.support.server import RunningServer

pytestmark = pytest.mark.interop


def server_of(client: Client) -> str:
    return client.user_id.partition(":")[2]


async def join_via(client: Client, room_id: str, other: Client) -> None:
    query = {"via": server_of(other), "server_name": server_of(other)}
    await client.request("POST", f"/join/{room_id}", {}, query=query)


async def meet(host: Client, guest: Client, version: str) -> str:
    """A public room of the host's that the guest joins; both have synced."""
    room_id = await host.create_room(preset="public_chat", room_version=version, name="meeting")
    await host.sync()
    await join_via(guest, room_id, host)
    await guest.sync_until(lambda answer: answer.get("rooms", {}).get("join", {}).get(room_id))
    return room_id


async def talk(one: Client, two: Client, room_id: str) -> None:
    for sender, reader in ((one, two), (two, one), (one, two)):
        event_id = await sender.send(room_id, f"hello from {sender.user_id}")
        await reader.sync_until_event(room_id, event_id)


@pytest.mark.parametrize("version", ["6", "9", "10", "11", "12"])
async def test_we_join_a_room_of_synapse_and_talk(alice: Client, sam: Client, version: str) -> None:
    room_id = await meet(sam, alice, version)
    assert (await alice.state(room_id, "m.room.name"))["name"] == "meeting"
    await talk(alice, sam, room_id)


@pytest.mark.parametrize("version", ["6", "9", "10", "11", "12"])
async def test_synapse_joins_our_room_and_talks(alice: Client, sam: Client, version: str) -> None:
    room_id = await meet(alice, sam, version)
    assert (await sam.state(room_id, "m.room.name"))["name"] == "meeting"
    await talk(sam, alice, room_id)


async def test_invites_go_both_ways(alice: Client, sam: Client) -> None:
    for inviter, invited in ((alice, sam), (sam, alice)):
        room_id = await inviter.create_room(name="private")
        await inviter.invite(room_id, invited.user_id)
        invite = await invited.sync_until(partial(_invite, room_id))
        assert "private" in str(invite)
        await invited.join(room_id)
        await talk(inviter, invited, room_id)


async def test_an_invite_is_rejected_both_ways(alice: Client, sam: Client) -> None:
    for inviter, invited in ((alice, sam), (sam, alice)):
        room_id = await inviter.create_room()
        await inviter.invite(room_id, invited.user_id)
        await invited.sync_until(partial(_invite, room_id))
        await invited.leave(room_id)
        member = await inviter.state(room_id, "m.room.member", invited.user_id)
        assert member["membership"] == "leave"


async def test_history_is_read_across(alice: Client, sam: Client) -> None:
    for host, guest in ((alice, sam), (sam, alice)):
        room_id = await host.create_room(preset="public_chat")
        for number in range(30):
            await host.send(room_id, f"{number}")
        await join_via(guest, room_id, host)
        texts: list[str] = []
        query = {"limit": "50"}
        for _ in range(10):
            page = await guest.messages(room_id, **query)
            texts += bodies(page["chunk"])
            if "end" not in page or "0" in texts:
                break
            query["from"] = page["end"]
        assert texts == [f"{number}" for number in reversed(range(30))]


async def test_state_and_redactions(alice: Client, sam: Client) -> None:
    room_id = await meet(alice, sam, "11")
    power = await alice.state(room_id, "m.room.power_levels")
    power["users"][sam.user_id] = 100
    event_id = await alice.set_state(room_id, "m.room.power_levels", power)
    await sam.sync_until_event(room_id, event_id)
    topic = await sam.set_state(room_id, "m.room.topic", {"topic": "by sam"})
    await alice.sync_until_event(room_id, topic)
    assert await alice.state(room_id, "m.room.topic") == {"topic": "by sam"}
    for sender, other in ((alice, sam), (sam, alice)):
        secret = await sender.send(room_id, "secret")
        await other.sync_until_event(room_id, secret)
        redaction = await other.redact(room_id, secret)
        await sender.sync_until_event(room_id, redaction)
        assert (await sender.event(room_id, secret))["content"] == {}


async def test_typing_receipts_and_presence(alice: Client, sam: Client) -> None:
    room_id = await meet(alice, sam, "11")
    event_id = await alice.send(room_id, "read me")
    await sam.sync_until_event(room_id, event_id)
    for doer, watcher in ((sam, alice), (alice, sam)):
        path = f"/rooms/{room_id}/typing/{doer.user_id}"
        await doer.put(path, {"typing": True, "timeout": 20_000})
        await watcher.sync_until(partial(_ephemeral, room_id, "m.typing", doer.user_id))
        await doer.post(f"/rooms/{room_id}/receipt/m.read/{event_id}")
        await watcher.sync_until(partial(_ephemeral, room_id, "m.receipt", doer.user_id))
        await doer.put(
            f"/presence/{doer.user_id}/status", {"presence": "online", "status_msg": "x"}
        )
        await watcher.sync_until(partial(_presence, doer.user_id))


async def test_keys_and_messages_to_devices(alice: Client, sam: Client) -> None:
    await meet(alice, sam, "11")
    for one, other in ((alice, sam), (sam, alice)):
        keys = {f"ed25519:{one.device_id}": "A" * 43, f"curve25519:{one.device_id}": "B" * 43}
        device_keys = {
            "user_id": one.user_id,
            "device_id": one.device_id,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": keys,
            "signatures": {one.user_id: {f"ed25519:{one.device_id}": "C" * 86}},
        }
        one_time = {"signed_curve25519:AAAA": {"key": "D" * 43, "signatures": {}}}
        await one.post("/keys/upload", {"device_keys": device_keys, "one_time_keys": one_time})
        await other.sync_until(partial(_changed, one.user_id))
        answer = await other.post("/keys/query", {"device_keys": {one.user_id: []}})
        assert answer["device_keys"][one.user_id][one.device_id]["keys"] == keys
        claim = {one.user_id: {one.device_id: "signed_curve25519"}}
        answer = await other.post("/keys/claim", {"one_time_keys": claim})
        assert "signed_curve25519:AAAA" in answer["one_time_keys"][one.user_id][one.device_id]
        message = {one.user_id: {one.device_id: {"secret": 1}}}
        await other.put("/sendToDevice/m.test/interop", {"messages": message})
        [event] = await one.sync_until(lambda answer: answer.get("to_device", {}).get("events"))
        assert event["content"] == {"secret": 1}


async def test_a_restricted_room_both_ways(alice: Client, sam: Client) -> None:
    for host, guest in ((alice, sam), (sam, alice)):
        space = await host.create_room(preset="public_chat")
        allow = [{"type": "m.room_membership", "room_id": space}]
        content = {"join_rule": "restricted", "allow": allow}
        rule = {"type": "m.room.join_rules", "content": content}
        room_id = await host.create_room(initial_state=[rule], room_version="11")
        await join_via(guest, space, host)
        await join_via(guest, room_id, host)
        await talk(host, guest, room_id)


async def test_knocking_both_ways(alice: Client, sam: Client) -> None:
    rule = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    for host, guest in ((alice, sam), (sam, alice)):
        room_id = await host.create_room(initial_state=[rule], room_version="11")
        query = {"via": server_of(host), "server_name": server_of(host)}
        await guest.request("POST", f"/knock/{room_id}", {}, query=query)
        member = await host.state(room_id, "m.room.member", guest.user_id)
        assert member["membership"] == "knock"
        await host.invite(room_id, guest.user_id)
        await guest.sync_until(partial(_invite, room_id))
        await guest.join(room_id)


async def test_a_partition_heals(
    ours: RunningServer, synapse: Synapse, alice: Client, sam: Client
) -> None:
    room_id = await meet(alice, sam, "11")
    await asyncio.to_thread(synapse.stop)
    await alice.set_state(room_id, "m.room.topic", {"topic": "ours"})
    for number in range(20):
        await alice.send(room_id, f"ours {number}")
    await ours.stop()
    await asyncio.to_thread(synapse.start)
    for number in range(20):
        await sam.send(room_id, f"theirs {number}")
    await ours.start()
    ours.moved(alice)
    last = [await alice.send(room_id, "ours again"), await sam.send(room_id, "theirs again")]
    await alice.sync_until_event(room_id, last[1])
    await sam.sync_until_event(room_id, last[0])
    await asyncio.sleep(1.0)
    states = [
        {event["event_id"] for event in await client.get(f"/rooms/{room_id}/state")}
        for client in (alice, sam)
    ]
    assert states[0] == states[1]
    expected = {f"{side} {number}" for side in ("ours", "theirs") for number in range(20)}
    for client in (alice, sam):
        page = await client.messages(room_id, limit="100")
        assert expected <= set(bodies(page["chunk"]))


async def test_queries(alice: Client, sam: Client) -> None:
    for one, other in ((alice, sam), (sam, alice)):
        await one.put(f"/profile/{one.user_id}/displayname", {"displayname": "Somebody"})
        localpart = one.user_id[1:].partition(":")[0]
        profile = await other.get(f"/profile/{one.user_id}")
        assert profile["displayname"] == "Somebody"
        room_id = await one.create_room(
            preset="public_chat", room_alias_name=f"hall-{localpart}", name="hall"
        )
        alias = f"%23hall-{localpart}:{server_of(one)}"
        found = await other.get(f"/directory/room/{alias}")
        assert found["room_id"] == room_id
        assert server_of(one) in found["servers"]


def _invite(room_id: str, answer: JsonObject) -> JsonObject | None:
    invite: JsonObject | None = answer.get("rooms", {}).get("invite", {}).get(room_id)
    return invite


def _presence(user_id: str, answer: JsonObject) -> bool:
    events = answer.get("presence", {}).get("events", [])
    return any(event["sender"] == user_id for event in events)


def _changed(user_id: str, answer: JsonObject) -> bool:
    return user_id in answer.get("device_lists", {}).get("changed", [])


def _ephemeral(room_id: str, event_type: str, text: str, answer: JsonObject) -> bool:
    room = answer.get("rooms", {}).get("join", {}).get(room_id, {})
    events = room.get("ephemeral", {}).get("events", [])
    return any(event["type"] == event_type and text in str(event["content"]) for event in events)
