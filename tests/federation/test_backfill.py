"""History from before we joined."""

from __future__ import annotations

import pytest

from tests.federation.conftest import StartServers
from tests.support.client import Client, bodies


async def all_messages(client: Client, room_id: str, limit: int = 30) -> list[str]:
    """The texts of a room's history, the newest first."""
    texts: list[str] = []
    query = {"limit": str(limit)}
    for _ in range(30):
        page = await client.messages(room_id, **query)
        texts += bodies(page["chunk"])
        if "end" not in page:
            return texts
        query["from"] = page["end"]
    raise AssertionError("the history does not end")


@pytest.mark.parametrize("version", ["1", "11", "12"])
async def test_history_is_read_to_its_beginning(start_servers: StartServers, version: str) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat", room_version=version)
    for number in range(120):
        await alice.send(room_id, f"{number}")
    await bob.request("POST", f"/join/{room_id}", {}, query={"via": "one.test"})
    await bob.send(room_id, "here")
    texts = await all_messages(bob, room_id)
    assert texts == ["here", *(f"{number}" for number in reversed(range(120)))]
    assert await all_messages(bob, room_id, 50) == texts


async def test_history_that_was_for_members_only_stays_hidden(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    joined = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room_id = await alice.create_room(preset="public_chat", initial_state=[joined])
    await alice.send(room_id, "secret")
    await bob.request("POST", f"/join/{room_id}", {}, query={"via": "one.test"})
    await bob.send(room_id, "here")
    assert await all_messages(bob, room_id) == ["here"]


async def test_history_for_members_only_is_hidden_however_little_of_it_we_have(
    start_servers: StartServers,
) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    joined = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room_id = await alice.create_room(preset="public_chat", initial_state=[joined])
    for number in range(150):  # the event that says so is further away than one request reaches
        await alice.send(room_id, f"secret {number}")
    await bob.request("POST", f"/join/{room_id}", {}, query={"via": "one.test"})
    page = await bob.messages(room_id, limit="20")
    assert bodies(page["chunk"]) == []


async def test_a_day_before_we_joined_is_jumped_to(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    wanted = await alice.send(room_id, "long ago")
    when = (await alice.event(room_id, wanted))["origin_server_ts"]
    for number in range(30):
        await alice.send(room_id, f"{number}")
    await bob.request("POST", f"/join/{room_id}", {}, query={"via": "one.test"})
    path = f"/_matrix/client/v1/rooms/{room_id}/timestamp_to_event"
    for ts, direction in ((when, "f"), (when, "b"), (when - 1, "f")):
        found = await bob.get(path, ts=str(ts), dir=direction)
        nearest = await alice.get(path, ts=str(ts), dir=direction)
        assert found == nearest
    context = await bob.get(f"/rooms/{room_id}/context/{wanted}")
    assert context["event"]["content"]["body"] == "long ago"


async def test_what_was_said_while_we_were_out_of_the_room(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    expected = []
    for absence in range(3):
        await bob.request("POST", f"/join/{room_id}", {}, query={"via": "one.test"})
        expected.append(f"here {absence}")
        await bob.send(room_id, expected[-1])
        await bob.leave(room_id)
        for number in range(40):
            expected.append(f"{absence} {number}")
            await alice.send(room_id, expected[-1])
    await bob.request("POST", f"/join/{room_id}", {}, query={"via": "one.test"})
    expected.reverse()
    assert await all_messages(bob, room_id) == expected
    assert await all_messages(bob, room_id, 100) == expected
