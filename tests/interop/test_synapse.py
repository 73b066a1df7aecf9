"""Against a real Synapse, in both directions: membership, history, state, EDUs, a partition."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from homeserver.json_types import JsonObject
from tests.interop.conftest import Pair
from tests.interop.federated import MARKS, invite_in, join_via, meet, talk
from tests.interop.synapse import Synapse
from tests.support.client import Client, bodies, refusal, until
from tests.support.server import RunningServer

pytestmark = MARKS


async def test_invites_go_both_ways(alice: Client, sam: Client) -> None:
    for inviter, invited in ((alice, sam), (sam, alice)):
        room_id = await inviter.create_room(name="private")
        await inviter.invite(room_id, invited.user_id)
        invite = await invited.sync_until(partial(invite_in, room_id))
        assert "private" in str(invite)
        await invited.join(room_id)
        await talk(inviter, invited, room_id)


async def test_an_invite_is_rejected_both_ways(alice: Client, sam: Client) -> None:
    for inviter, invited in ((alice, sam), (sam, alice)):
        room_id = await inviter.create_room()
        await inviter.invite(room_id, invited.user_id)
        await invited.sync_until(partial(invite_in, room_id))
        await invited.leave(room_id)
        member = await inviter.state(room_id, "m.room.member", invited.user_id)
        assert member["membership"] == "leave"


async def test_an_invite_is_taken_back_both_ways(alice: Client, sam: Client) -> None:
    for inviter, invited in ((alice, sam), (sam, alice)):
        room_id = await inviter.create_room()
        await inviter.invite(room_id, invited.user_id)
        await invited.sync_until(partial(invite_in, room_id))
        await inviter.kick(room_id, invited.user_id)
        await invited.sync_until(partial(left_in, room_id))
        assert (await refusal(invited.join(room_id))).status in (403, 404)


async def test_who_leaves_comes_back(alice: Client, sam: Client) -> None:
    for host, guest in ((alice, sam), (sam, alice)):
        room_id = await meet(host, guest, "11")
        await guest.leave(room_id)
        await host.sync_until(partial(membership_in, room_id, guest.user_id, "leave"))
        for number in range(5):
            await host.send(room_id, f"meanwhile {number}")
        await join_via(guest, room_id, host)
        await talk(guest, host, room_id)
        assert "meanwhile 0" in await texts(guest, room_id, upto="meanwhile 0")


async def test_who_is_kicked_or_banned_both_ways(alice: Client, sam: Client) -> None:
    for host, guest in ((alice, sam), (sam, alice)):
        room_id = await meet(host, guest, "11")
        await host.kick(room_id, guest.user_id)
        await guest.sync_until(partial(left_in, room_id))
        await join_via(guest, room_id, host)
        await host.ban(room_id, guest.user_id)
        await guest.sync_until(partial(left_in, room_id))
        assert (await refusal(join_via(guest, room_id, host))).status == 403
        await host.post(f"/rooms/{room_id}/unban", {"user_id": guest.user_id})
        await join_via(guest, room_id, host)
        await talk(host, guest, room_id)


async def test_history_is_read_across(alice: Client, sam: Client) -> None:
    for host, guest in ((alice, sam), (sam, alice)):
        room_id = await host.create_room(preset="public_chat")
        for number in range(30):
            await host.send(room_id, f"{number}")
        await join_via(guest, room_id, host)
        expected = [f"{number}" for number in reversed(range(30))]
        assert await texts(guest, room_id, upto="0") == expected


async def test_a_moment_is_found_across(alice: Client, sam: Client) -> None:
    for host, guest in ((alice, sam), (sam, alice)):
        room_id = await host.create_room(preset="public_chat")
        event_id = await host.send(room_id, "long ago")
        sent = await host.event(room_id, event_id)
        for number in range(30):
            await host.send(room_id, f"{number}")
        await join_via(guest, room_id, host)
        path = f"/_matrix/client/v1/rooms/{room_id}/timestamp_to_event"
        found = await guest.get(path, ts=str(sent["origin_server_ts"]), dir="f")
        assert found["event_id"] == event_id
        assert (await guest.get(f"/rooms/{room_id}/context/{event_id}"))["event"]["content"] == (
            sent["content"]
        )


async def test_state_of_both_sides(alice: Client, sam: Client) -> None:
    for host, guest in ((alice, sam), (sam, alice)):
        room_id = await meet(host, guest, "11")
        power = await host.state(room_id, "m.room.power_levels")
        power["users"][guest.user_id] = 100
        event_id = await host.set_state(room_id, "m.room.power_levels", power)
        await guest.sync_until_event(room_id, event_id)
        topic = await guest.set_state(room_id, "m.room.topic", {"topic": "by the guest"})
        await host.sync_until_event(room_id, topic)
        assert (await host.state(room_id, "m.room.topic"))["topic"] == "by the guest"


async def test_redactions_in_both_forms(pair: Pair) -> None:
    async def play(alice: Client, sam: Client, version: str) -> None:
        levels = {"redact": 0}
        room_id = await meet(alice, sam, version, power_level_content_override=levels)
        for sender, other in ((alice, sam), (sam, alice)):
            for redactor, reader in ((other, sender), (sender, other)):
                secret = await sender.send(room_id, "secret")
                await other.sync_until_event(room_id, secret)
                redaction = await redactor.redact(room_id, secret, reason="why")
                shown = await reader.sync_until_event(room_id, redaction)
                assert shown["content"]["reason"] == "why"
                for client in (sender, other):
                    assert (await client.event(room_id, secret))["content"] == {}

    async with asyncio.TaskGroup() as group:
        for version in ("10", "11", "12"):
            group.create_task(play(*await pair(), version))


async def test_typing_receipts_and_presence(alice: Client, sam: Client) -> None:
    room_id = await meet(alice, sam, "11")
    event_id = await alice.send(room_id, "read me")
    await sam.sync_until_event(room_id, event_id)
    for doer, watcher in ((sam, alice), (alice, sam)):
        path = f"/rooms/{room_id}/typing/{doer.user_id}"
        await doer.put(path, {"typing": True, "timeout": 20_000})
        await watcher.sync_until(partial(ephemeral_in, room_id, "m.typing", doer.user_id))
        await doer.post(f"/rooms/{room_id}/receipt/m.read/{event_id}", {"thread_id": "main"})
        receipt = await watcher.sync_until(
            partial(ephemeral_in, room_id, "m.receipt", doer.user_id)
        )
        assert receipt["content"][event_id]["m.read"][doer.user_id]["thread_id"] == "main"
        status = {"presence": "online", "status_msg": "having tea"}
        await doer.put(f"/presence/{doer.user_id}/status", status)
        await watcher.sync_until(partial(presence_in, doer.user_id, "having tea"))


async def test_profiles(alice: Client, sam: Client) -> None:
    for one, other in ((alice, sam), (sam, alice)):
        room_id = await meet(one, other, "11")
        await one.put(f"/profile/{one.user_id}/displayname", {"displayname": "Somebody"})
        assert (await other.get(f"/profile/{one.user_id}"))["displayname"] == "Somebody"
        await other.sync_until(partial(membership_in, room_id, one.user_id, "join"))
        member = await other.state(room_id, "m.room.member", one.user_id)
        assert member["displayname"] == "Somebody"


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
    expected = {f"{side} {number}" for side in ("ours", "theirs") for number in range(20)}

    async def is_healed() -> bool:
        heard = [set(await texts(client, room_id, upto="ours 0")) for client in (alice, sam)]
        states = [await state_ids(client, room_id) for client in (alice, sam)]
        return states[0] == states[1] and all(expected <= each for each in heard)

    await until(is_healed)


async def state_ids(client: Client, room_id: str) -> set[str]:
    return {event["event_id"] for event in await client.get(f"/rooms/{room_id}/state")}


async def texts(client: Client, room_id: str, upto: str) -> list[str]:
    """The messages back to this one, or to the room's beginning, the newest first."""
    found: list[str] = []
    query = {"limit": "50"}
    for _ in range(10):
        page = await client.messages(room_id, **query)
        found += bodies(page["chunk"])
        if "end" not in page or upto in found:
            break
        query["from"] = page["end"]
    return found


def left_in(room_id: str, answer: JsonObject) -> bool:
    return room_id in answer.get("rooms", {}).get("leave", {})


def membership_in(room_id: str, user_id: str, membership: str, answer: JsonObject) -> bool:
    room = answer.get("rooms", {}).get("join", {}).get(room_id, {})
    events = [*room.get("state", {}).get("events", []), *room.get("timeline", {}).get("events", [])]
    return any(
        event.get("state_key") == user_id and event["content"].get("membership") == membership
        for event in events
    )


def presence_in(user_id: str, status_msg: str, answer: JsonObject) -> bool:
    events = answer.get("presence", {}).get("events", [])
    return any(
        event["sender"] == user_id and event["content"].get("status_msg") == status_msg
        for event in events
    )


def ephemeral_in(room_id: str, event_type: str, text: str, answer: JsonObject) -> Any:
    """The event of the type in whose content the text is."""
    room = answer.get("rooms", {}).get("join", {}).get(room_id, {})
    events = room.get("ephemeral", {}).get("events", [])
    for event in events:
        if event["type"] == event_type and text in str(event["content"]):
            return event
    return None


async def test_a_room_is_entered_while_its_members_talk(
    ours: RunningServer, alice: Client, sam: Client, pair: Pair
) -> None:
    """Synapse leaves the members out of its answer; they speak before we know them."""
    room_id = await sam.create_room(preset="public_chat", name="busy")
    speakers = [(await pair())[1] for _ in range(5)]
    for speaker in speakers:
        await speaker.join(room_id)
    said = [speaker.send(room_id, f"hello {i}") for i, speaker in enumerate(speakers)]
    await asyncio.gather(join_via(alice, room_id, sam), *said)
    said = [speaker.send(room_id, f"welcome {i}") for i, speaker in enumerate(speakers)]
    await asyncio.gather(*said)
    assert ours.app is not None
    room = await ours.app.stream.rooms.get(room_id)
    assert room is not None and room.entry is not None
    everybody = {sam.user_id, alice.user_id, *(speaker.user_id for speaker in speakers)}
    assert await alice.joined_members(room_id) == everybody
    await talk(alice, sam, room_id)
    wanted = {f"{word} {i}" for word in ("hello", "welcome") for i in range(5)}
    await until(partial(has_texts, alice, room_id, wanted))


async def has_texts(client: Client, room_id: str, wanted: set[str]) -> bool:
    page = await client.messages(room_id, limit="50")
    return wanted <= set(bodies(page["chunk"]))
