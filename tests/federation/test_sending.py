"""What happens here is told there: events and EDUs, whatever becomes of the other server."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from homeserver.json_types import JsonObject
from homeserver.services.federation_sender import sender, stored_edus
from homeserver.services.federation_sender.destination import Destination, Means
from homeserver.services.federation_sender.sender import FederationSender
from homeserver.store import federation_positions as position_store
from homeserver.store import presence as presence_store
from tests.federation.conftest import StartServers
from tests.federation.test_receiving import joined_room
from tests.support.client import DEADLINE, Client, bodies, timeline
from tests.support.encryption import Device
from tests.support.media import eventually
from tests.support.peer import Peer
from tests.support.server import RunningServer

SEND = "/_matrix/federation/v1/send/"


async def in_one_room(
    one: RunningServer, two: RunningServer, version: str = "12"
) -> tuple[Client, Client, str]:
    """Alice of server one and Bob of server two in a public room of server one."""
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat", room_version=version)
    via = one.config.server_name
    await bob.request("POST", f"/join/{room_id}", {}, query={"via": via})
    await alice.sync()
    await bob.sync()
    return alice, bob, room_id


@pytest.mark.parametrize("version", ["1", "6", "11", "12"])
async def test_messages_go_both_ways(start_servers: StartServers, version: str) -> None:
    one, two = await start_servers("one", "two")
    alice, bob, room_id = await in_one_room(one, two, version)
    event_id = await alice.send(room_id, "hello")
    await bob.sync_until_event(room_id, event_id)
    event_id = await bob.send(room_id, "hi")
    await alice.sync_until_event(room_id, event_id)


async def test_servers_that_know_all_are_forgotten_and_told_more_all_the_same(
    server: RunningServer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, room = await joined_room(server, peer)
    made: list[str] = []
    told: list[str] = []

    class Noted(Destination):
        def __init__(self, name: str, means: Means, position: int) -> None:
            super().__init__(name, means, position)
            made.append(name)

    async def take(request: web.Request) -> web.StreamResponse:
        told.extend(pdu["content"]["body"] for pdu in (await request.json())["pdus"])
        return web.json_response({"pdus": {}})

    peer.answer("PUT", SEND, take)
    monkeypatch.setattr(sender, "SAVE_SECONDS", 0.01)
    monkeypatch.setattr(sender, "MAX_DESTINATIONS", 0)
    monkeypatch.setattr(sender, "Destination", Noted)
    await server.restart()
    alice = server.moved(alice)
    sent: list[str] = []
    async with asyncio.timeout(DEADLINE):
        while len(made) < 3:
            sent.append(str(len(sent)))
            await alice.send(room.room_id, sent[-1])
            await eventually(lambda: told == sent)


async def test_state_and_redactions_are_told(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob, room_id = await in_one_room(one, two)
    event_id = await alice.set_state(room_id, "m.room.topic", {"topic": "new"})
    await bob.sync_until_event(room_id, event_id)
    assert await bob.state(room_id, "m.room.topic") == {"topic": "new"}
    secret = await alice.send(room_id, "secret")
    await bob.sync_until_event(room_id, secret)
    redaction = await alice.redact(room_id, secret)
    await bob.sync_until_event(room_id, redaction)
    assert (await bob.event(room_id, secret))["content"] == {}


async def test_a_kick_is_told_to_the_server_of_who_was_kicked(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob, room_id = await in_one_room(one, two)
    await alice.kick(room_id, bob.user_id)
    await bob.sync_until(lambda answer: room_id in answer.get("rooms", {}).get("leave", {}))


async def test_a_third_server_hears_of_a_join(start_servers: StartServers) -> None:
    one, two, three = await start_servers("one", "two", "three")
    alice, bob, room_id = await in_one_room(one, two)
    carol = await three.user("carol")
    await carol.request("POST", f"/join/{room_id}", {}, query={"via": "one.test"})
    await bob.sync_until(
        lambda answer: any(
            event.get("state_key") == carol.user_id for event in timeline(answer, room_id)
        )
    )
    event_id = await carol.send(room_id, "hello everybody")
    for other in (alice, bob):
        await other.sync_until_event(room_id, event_id)


async def test_a_server_that_was_down_gets_everything(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob, room_id = await in_one_room(one, two)
    await two.stop()
    sent = [await alice.send(room_id, f"message {number}") for number in range(70)]
    await two.start()
    two.moved(bob)
    await bob.send(room_id, "back")  # a transaction from there ends the waiting
    await bob.sync_until(lambda answer: None if not _has(answer, room_id, sent[-1]) else True)
    page = await bob.messages(room_id, limit="200")
    expected = {f"message {number}" for number in range(70)}
    assert expected <= set(bodies(page["chunk"]))


async def test_a_server_that_was_down_is_not_told_what_came_after_it_was_removed(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    peer.answer("PUT", SEND, {"errcode": "M_UNKNOWN", "error": "down"}, 500)
    await alice.send(room.room_id, "before")
    await eventually(lambda: peer.asked(SEND) > 0)
    await alice.kick(room.room_id, room.user_id)
    await alice.send(room.room_id, "after")
    told: list[JsonObject] = []

    async def take(request: web.Request) -> web.StreamResponse:
        told.extend((await request.json())["pdus"])
        return web.json_response({"pdus": {}})

    peer.answer("PUT", SEND, take)
    await room.send()  # it calls us: it is back
    await eventually(lambda: bool(told))
    assert [pdu["content"].get("body") for pdu in told] == ["before", None]
    assert told[1]["content"]["membership"] == "leave"


async def test_a_restart_of_ours_loses_nothing(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob, room_id = await in_one_room(one, two)
    await two.stop()
    event_id = await alice.send(room_id, "before the restart")
    await one.restart()
    one.moved(alice)
    await two.start()
    two.moved(bob)
    await bob.sync_until_event(room_id, event_id)


async def test_who_joined_by_us_is_told_to_a_server_that_was_away(
    start_servers: StartServers,
) -> None:
    one, two, three = await start_servers("one", "two", "three")
    _, bob, room_id = await in_one_room(one, two)
    await two.stop()
    carol = await three.user("carol")
    await carol.request("POST", f"/join/{room_id}", {}, query={"via": "one.test"})
    await one.restart()
    await two.start()
    two.moved(bob)
    await bob.sync_until(
        lambda answer: any(
            event.get("state_key") == carol.user_id for event in timeline(answer, room_id)
        )
    )


async def test_both_write_during_a_partition_and_agree_afterwards(
    start_servers: StartServers,
) -> None:
    one, two = await start_servers("one", "two")
    alice, bob, room_id = await in_one_room(one, two)
    await two.stop()
    await alice.set_state(room_id, "m.room.topic", {"topic": "from one"})
    await alice.send(room_id, "alone here")
    await one.stop()
    await two.start()
    two.moved(bob)
    await bob.send(room_id, "alone there")
    await one.start()
    one.moved(alice)
    await alice.send(room_id, "one again")
    last = await bob.send(room_id, "two again")
    await alice.sync_until_event(room_id, last)
    await asyncio.sleep(0.5)
    states = [await _state_ids(client, room_id) for client in (alice, bob)]
    assert states[0] == states[1]
    for client in (alice, bob):
        page = await client.messages(room_id, limit="100")
        assert {"alone here", "alone there", "one again", "two again"} <= set(bodies(page["chunk"]))


async def test_typing_and_receipts_are_told(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob, room_id = await in_one_room(one, two)
    event_id = await alice.send(room_id, "read me")
    await bob.sync_until_event(room_id, event_id)
    await bob.put(f"/rooms/{room_id}/typing/{bob.user_id}", {"typing": True, "timeout": 9000})
    await alice.sync_until(lambda answer: _ephemeral(answer, room_id, "m.typing", bob.user_id))
    await bob.post(f"/rooms/{room_id}/receipt/m.read/{event_id}")
    await alice.sync_until(lambda answer: _ephemeral(answer, room_id, "m.receipt", bob.user_id))


async def test_who_stays_online_is_told_again(
    server: RunningServer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "REPEAT_PRESENCE_SECONDS", 0.05)
    await server.restart()
    peer.url = server.url
    told: list[JsonObject] = []

    async def take(request: web.Request) -> web.StreamResponse:
        edus = (await request.json())["edus"]
        told.extend(edu["content"]["push"][0] for edu in edus if edu["edu_type"] == "m.presence")
        return web.json_response({"pdus": {}})

    peer.answer("PUT", SEND, take)
    alice, _ = await joined_room(server, peer)
    await eventually(lambda: len(told) > 2)
    assert {(one["user_id"], one["presence"]) for one in told} == {(alice.user_id, "online")}


async def test_who_goes_on_typing_is_told_again(
    server: RunningServer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "REPEAT_TYPING_SECONDS", 0.05)
    await server.restart()
    peer.url = server.url
    told: list[JsonObject] = []

    async def take(request: web.Request) -> web.StreamResponse:
        edus = (await request.json())["edus"]
        told.extend(edu["content"] for edu in edus if edu["edu_type"] == "m.typing")
        return web.json_response({"pdus": {}})

    peer.answer("PUT", SEND, take)
    alice, room = await joined_room(server, peer)
    typing = f"/rooms/{room.room_id}/typing/{alice.user_id}"
    await alice.put(typing, {"typing": True, "timeout": 9000})
    await eventually(lambda: len(told) > 2)
    assert all(content["typing"] for content in told)
    await alice.put(typing, {"typing": False})
    await eventually(lambda: not told[-1]["typing"])


async def test_messages_to_devices_arrive_once(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob, _ = await in_one_room(one, two)
    messages = {bob.user_id: {bob.device_id: {"secret": 1}}}
    await alice.put("/sendToDevice/m.test/txn1", {"messages": messages})
    event = await bob.sync_until(lambda answer: answer.get("to_device", {}).get("events"))
    assert event == [{"type": "m.test", "sender": alice.user_id, "content": {"secret": 1}}]
    assert "to_device" not in await bob.sync()


async def test_big_messages_to_devices_go_one_by_one(
    server: RunningServer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_edus, "TO_DEVICE_BYTES", 300)
    alice, room = await joined_room(server, peer)
    peer.answer("PUT", SEND, {}, status=500)
    for number in range(4):
        content = {"body": "x" * 100, "number": number}
        await alice.put(
            f"/sendToDevice/m.test/{number}", {"messages": {room.user_id: {"D": content}}}
        )
    told: list[list[int]] = []

    async def take(request: web.Request) -> web.StreamResponse:
        edus = (await request.json())["edus"]
        contents = [e["content"] for e in edus if e["edu_type"] == "m.direct_to_device"]
        told.append([c["messages"][room.user_id]["D"]["number"] for c in contents])
        return web.json_response({"pdus": {}})

    peer.answer("PUT", SEND, take)
    await room.send()  # it calls us: it is back
    await eventually(lambda: sum(map(len, told)) == 4)
    assert [numbers for numbers in told if numbers] == [[0], [1], [2], [3]]


async def test_new_devices_are_told(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob, _ = await in_one_room(one, two)
    algorithms = ["m.olm.v1.curve25519-aes-sha2"]
    keys = {f"ed25519:{alice.device_id}": "A" * 43, f"curve25519:{alice.device_id}": "B" * 43}
    device_keys = {
        "user_id": alice.user_id,
        "device_id": alice.device_id,
        "algorithms": algorithms,
        "keys": keys,
        "signatures": {alice.user_id: {f"ed25519:{alice.device_id}": "C" * 86}},
    }
    await alice.post("/keys/upload", {"device_keys": device_keys})
    await bob.sync_until(
        lambda answer: alice.user_id in answer.get("device_lists", {}).get("changed", [])
    )


def _has(answer: object, room_id: str, event_id: str) -> bool:
    assert isinstance(answer, dict)
    return any(event["event_id"] == event_id for event in timeline(answer, room_id))


def _ephemeral(answer: object, room_id: str, event_type: str, text: str) -> bool:
    assert isinstance(answer, dict)
    room = answer.get("rooms", {}).get("join", {}).get(room_id, {})
    events = room.get("ephemeral", {}).get("events", [])
    return any(event["type"] == event_type and text in str(event["content"]) for event in events)


async def _state_ids(client: Client, room_id: str) -> set[str]:
    return {event["event_id"] for event in await client.get(f"/rooms/{room_id}/state")}


async def test_presence_wakes_those_who_wait_elsewhere(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob, _ = await in_one_room(one, two)
    await alice.sync_until(lambda answer: "presence" in answer)  # Bob came online
    waiting = asyncio.create_task(alice.sync(timeout_ms=25_000))
    await asyncio.sleep(0.2)
    status = {"presence": "unavailable", "status_msg": "lunch"}
    await bob.put(f"/presence/{bob.user_id}/status", status)
    async with asyncio.timeout(15):
        answer = await waiting
    told = {event["sender"]: event["content"] for event in answer["presence"]["events"]}
    assert told[bob.user_id]["status_msg"] == "lunch"
    # Of users of other servers nothing is stored: they may be any number.
    assert one.app is not None
    await one.app.stream.presence.flush()
    async with one.app.database.connection() as connection:
        stored = {row.user_id for row in await presence_store.load(connection)}
    assert stored == {alice.user_id}


async def test_a_change_of_devices_is_noted_as_told_only_once_it_is_known_to_whom(
    start_servers: StartServers,
) -> None:
    one, two = await start_servers("one", "two")
    alice, _, _ = await in_one_room(one, two)
    assert one.app is not None
    stream, database = one.app.stream, one.app.database
    followers = [getattr(follower, "__self__", None) for follower in stream.writer._wake]
    sender = next(one for one in followers if isinstance(one, FederationSender))
    before = stream.writer.position
    async with database.transaction() as connection:
        # Until this ends, nobody finds out who shares a room with alice.
        await connection.execute("LOCK TABLE memberships IN ACCESS EXCLUSIVE MODE")
        upload = asyncio.create_task(Device(alice).upload())
        async with asyncio.timeout(DEADLINE):
            while stream.writer.position == before:  # noqa: ASYNC110 - another task moves it
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)  # `published` comes in the same step as the position
        await sender.save()
        told, _ = await position_store.load(connection)
        assert told < stream.writer.position
    await upload
