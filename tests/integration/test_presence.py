"""Presence: who is online, as the others see it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from homeserver.json_types import JsonObject
from tests.conftest import StartServer
from tests.support.client import Client, Refused
from tests.support.server import RunningServer


def presence_of(answer: Any, user_id: str) -> JsonObject | None:
    events = answer.get("presence", {}).get("events", [])
    return next((e["content"] for e in events if e["sender"] == user_id), None)


async def two_in_a_room(server: RunningServer) -> tuple[Client, Client, str]:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    return alice, bob, room_id


async def set_status(client: Client, presence: str, **more: str) -> None:
    path = f"/presence/{quote(client.user_id)}/status"
    await client.put(path, {"presence": presence, **more})


async def test_a_syncing_user_is_seen_online(server: RunningServer) -> None:
    alice, bob, _ = await two_in_a_room(server)
    await alice.sync()
    await bob.sync()

    content = await alice.sync_until(lambda a: presence_of(a, bob.user_id))

    assert content["presence"] == "online"
    assert content["currently_active"] is True


async def test_a_user_who_syncs_as_offline_is_not_seen(server: RunningServer) -> None:
    alice, bob, _ = await two_in_a_room(server)
    await alice.sync(set_presence="offline")
    await bob.sync(set_presence="offline")
    assert presence_of(await alice.sync(set_presence="offline"), bob.user_id) is None


async def test_a_status_message_reaches_those_who_share_a_room(server: RunningServer) -> None:
    alice, bob, _ = await two_in_a_room(server)
    carol = await server.user("carol")
    for client in (alice, carol):
        await client.sync()
    await set_status(bob, "unavailable", status_msg="lunch")

    content = await alice.sync_until(lambda a: presence_of(a, bob.user_id))

    assert (content["presence"], content["status_msg"]) == ("unavailable", "lunch")
    assert presence_of(await carol.sync(), bob.user_id) is None
    with pytest.raises(Refused) as refused:
        await carol.get(f"/presence/{quote(bob.user_id)}/status")
    assert refused.value.status == 403
    assert (await alice.get(f"/presence/{quote(bob.user_id)}/status"))["status_msg"] == "lunch"


async def test_who_joins_is_shown_and_sees_who_is_there(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    carol = await server.user("carol")
    for client in (alice, bob, carol):
        await client.sync()
    await carol.join(room_id)

    assert presence_of(await carol.sync(), alice.user_id) is not None
    content = await alice.sync_until(lambda a: presence_of(a, carol.user_id))
    assert content["presence"] == "online"


async def test_only_the_user_sets_their_presence(server: RunningServer) -> None:
    alice, bob, _ = await two_in_a_room(server)
    path = f"/presence/{quote(bob.user_id)}/status"
    with pytest.raises(Refused) as refused:
        await alice.put(path, {"presence": "online"})
    assert refused.value.status == 403
    with pytest.raises(Refused) as refused:
        await bob.put(path, {"presence": "dancing"})
    assert (refused.value.status, refused.value.errcode) == (400, "M_BAD_JSON")


async def test_presence_ends_with_the_syncs(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, _ = await two_in_a_room(server)
    await alice.sync()
    await bob.sync()
    await alice.sync_until(lambda a: presence_of(a, bob.user_id))
    assert server.app is not None
    monkeypatch.setattr("homeserver.stream.presence.OFFLINE_MS", -1)
    server.app.stream.presence.sweep()

    content = await alice.sync_until(lambda a: presence_of(a, bob.user_id))

    assert content["presence"] == "offline"


async def test_a_status_message_is_kept_over_a_restart(server: RunningServer) -> None:
    alice, bob, _ = await two_in_a_room(server)
    await set_status(bob, "online", status_msg="busy")
    await server.restart()
    alice = server.moved(alice)
    content = await alice.get(f"/presence/{quote(bob.user_id)}/status")
    assert (content["presence"], content["status_msg"]) == ("offline", "busy")


async def test_presence_can_be_switched_off(start_server: StartServer) -> None:
    server = await start_server(presence={"enabled": False})
    alice, bob, _ = await two_in_a_room(server)
    await set_status(bob, "online", status_msg="busy")
    await bob.sync()
    assert "presence" not in await alice.sync()
    assert await alice.get(f"/presence/{quote(bob.user_id)}/status") == {"presence": "offline"}


async def test_a_user_alone_sees_themselves_at_first(server: RunningServer) -> None:
    alice = await server.user("alice")
    await set_status(alice, "online", status_msg="alone")

    content = presence_of(await alice.sync(), alice.user_id)

    assert content is not None
    assert (content["presence"], content["status_msg"]) == ("online", "alone")


async def test_who_is_away_is_back_with_a_sync_that_says_so(server: RunningServer) -> None:
    alice, bob, _ = await two_in_a_room(server)
    await alice.sync()
    await bob.sync(set_presence="unavailable")
    content = await alice.sync_until(lambda a: presence_of(a, bob.user_id))
    assert content["presence"] == "unavailable"

    await bob.sync()
    path = f"/presence/{quote(bob.user_id)}/status"
    assert (await alice.get(path))["presence"] == "unavailable"
    await bob.sync(set_presence="online")

    content = await alice.sync_until(lambda a: presence_of(a, bob.user_id))
    assert content["presence"] == "online"


async def test_who_is_there_with_one_device_is_not_away_with_another(
    server: RunningServer,
) -> None:
    alice, bob, _ = await two_in_a_room(server)
    left_at_home = await bob.another_device()
    path = f"/presence/{quote(bob.user_id)}/status"

    await bob.sync(set_presence="online")
    await left_at_home.sync(set_presence="unavailable")
    assert (await alice.get(path))["presence"] == "online"

    await bob.sync(set_presence="unavailable")
    assert (await alice.get(path))["presence"] == "unavailable"
