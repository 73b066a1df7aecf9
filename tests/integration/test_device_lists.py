"""`device_lists` of a sync: exactly those whose keys must be fetched anew, or no longer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.encryption import Device
from tests.support.server import RunningServer


def changed(answer: Any) -> list[str]:
    found: list[str] = answer.get("device_lists", {}).get("changed", [])
    return found


def left(answer: Any) -> list[str]:
    found: list[str] = answer.get("device_lists", {}).get("left", [])
    return found


@pytest.fixture
async def alice(server: RunningServer) -> Client:
    return await server.user("alice")


@pytest.fixture
async def bob(server: RunningServer) -> Client:
    return await server.user("bob")


async def room_of(alice: Client, *others: Client) -> str:
    """A room of all these, whose last syncs know it."""
    room_id = await alice.create_room(preset="public_chat")
    for other in others:
        await other.join(room_id)
    for client in (alice, *others):
        await client.sync()
    return room_id


async def test_new_keys_wake_those_who_share_a_room(alice: Client, bob: Client) -> None:
    await room_of(alice, bob)
    waiting = asyncio.create_task(bob.sync(timeout_ms=10_000))
    await asyncio.sleep(0.05)

    await Device(alice).upload()

    assert changed(await waiting) == [alice.user_id]
    assert changed(await bob.sync()) == []


async def test_who_shares_no_room_is_not_told(server: RunningServer, alice: Client) -> None:
    bob, carol = await server.user(), await server.user()
    await room_of(alice, bob)
    await carol.sync()

    await Device(alice).upload()

    assert changed(await carol.sync()) == []


async def test_the_same_keys_again_change_nothing(alice: Client, bob: Client) -> None:
    await room_of(alice, bob)
    keys = Device(alice).keys()
    await alice.post("/keys/upload", {"device_keys": keys})
    await bob.sync()

    await alice.post("/keys/upload", {"device_keys": {**keys, "unsigned": {"a": 1}}})

    assert changed(await bob.sync()) == []


async def test_a_users_other_device_is_told(alice: Client) -> None:
    phone = await alice.another_device()
    await phone.sync()

    await Device(alice).upload()

    assert changed(await phone.sync()) == [alice.user_id]


async def test_login_rename_and_logout_are_told(alice: Client, bob: Client) -> None:
    await room_of(alice, bob)

    phone = await alice.another_device()
    assert changed(await bob.sync()) == [alice.user_id]
    await phone.put(f"/devices/{phone.device_id}", {"display_name": "Phone"})
    assert changed(await bob.sync()) == [alice.user_id]
    await phone.post("/logout")
    assert changed(await bob.sync()) == [alice.user_id]
    await alice.post("/logout/all")
    assert changed(await bob.sync()) == [alice.user_id]


async def test_a_join_tells_both_sides_of_each_other(alice: Client, bob: Client) -> None:
    room_id = await room_of(alice)
    await bob.sync()

    await bob.join(room_id)

    assert changed(await alice.sync()) == [bob.user_id]
    assert changed(await bob.sync()) == [alice.user_id, bob.user_id]


async def test_who_shares_a_room_already_is_not_told_of_another(alice: Client, bob: Client) -> None:
    await room_of(alice, bob)
    second = await alice.create_room(preset="public_chat")
    await alice.sync()

    await bob.join(second)

    assert changed(await alice.sync()) == []
    assert changed(await bob.sync()) == [bob.user_id]


async def test_leaving_the_last_shared_room_tells_both_sides(alice: Client, bob: Client) -> None:
    first = await room_of(alice, bob)
    second = await room_of(alice, bob)

    await bob.leave(first)
    assert left(await alice.sync()) == left(await bob.sync()) == []
    await alice.kick(second, bob.user_id)
    assert left(await alice.sync()) == [bob.user_id]
    assert left(await bob.sync()) == [alice.user_id]


async def test_a_rejected_invite_tells_nobody(alice: Client, bob: Client) -> None:
    room_id = await room_of(alice)
    await alice.invite(room_id, bob.user_id)
    await alice.sync()
    await bob.leave(room_id)

    answer = await alice.sync()

    assert changed(answer) == left(answer) == []


async def test_who_left_and_came_back_is_told_as_changed(alice: Client, bob: Client) -> None:
    room_id = await room_of(alice, bob)
    await bob.leave(room_id)
    await Device(bob).upload()
    await bob.join(room_id)

    answer = await alice.sync()

    assert (changed(answer), left(answer)) == ([bob.user_id], [])


async def test_a_new_profile_is_no_new_device(alice: Client, bob: Client) -> None:
    await room_of(alice, bob)
    await bob.put(f"/profile/{bob.user_id}/displayname", {"displayname": "Bobby"})

    assert changed(await alice.sync()) == []


async def test_it_is_the_same_after_a_restart(
    server: RunningServer, alice: Client, bob: Client
) -> None:
    carol, dave = await server.user("carol"), await server.user("dave")
    stays = await room_of(alice, bob, carol)
    goes = await room_of(alice, dave)
    new = await bob.create_room(preset="public_chat")
    since = {client: str(client.next_batch) for client in (alice, carol, dave)}
    await Device(bob).upload()
    await carol.leave(stays)
    await alice.leave(goes)
    await dave.join(new)

    live = {client: (await client.sync())["device_lists"] for client in since}
    await server.restart()
    for client, token in since.items():
        again = await server.moved(client).sync(since=token)
        assert again["device_lists"] == live[client]
    assert live[alice] == {"changed": [bob.user_id], "left": [carol.user_id, dave.user_id]}
    assert live[dave] == {"changed": [bob.user_id, dave.user_id], "left": [alice.user_id]}
    assert live[carol]["left"] == [alice.user_id, bob.user_id]


async def test_an_initial_sync_has_no_device_lists(alice: Client, bob: Client) -> None:
    await room_of(alice, bob)
    await Device(bob).upload()

    alice.next_batch = None
    assert "device_lists" not in await alice.sync()


async def test_key_changes_are_those_between_two_tokens(alice: Client, bob: Client) -> None:
    await room_of(alice, bob)
    first = (await alice.sync())["next_batch"]
    await Device(bob).upload()
    second = (await alice.sync())["next_batch"]

    answer = await alice.get("/keys/changes", **{"from": first, "to": second})
    assert answer == {"changed": [bob.user_id], "left": []}
    answer = await alice.get("/keys/changes", **{"from": second, "to": second})
    assert answer == {"changed": [], "left": []}


async def test_no_change_is_missed_when_joins_and_changes_race(
    server: RunningServer, alice: Client
) -> None:
    """Whoever follows Alice's `changed` ends with the keys that everybody has in the end."""
    room_id = await room_of(alice)
    others = [await server.user() for _ in range(8)]
    known: dict[str, object] = {}
    stop = asyncio.Event()

    async def look(timeout_ms: int) -> None:
        answer = await alice.sync(timeout_ms=timeout_ms)
        for user_id in left(answer):
            known.pop(user_id, None)
        users = changed(answer)
        found = await alice.post("/keys/query", {"device_keys": {u: [] for u in users}})
        known.update({u: found["device_keys"][u] for u in users})

    async def follow() -> None:
        while not stop.is_set():
            await look(200)
        await look(0)

    async def live(client: Client) -> None:
        device = Device(client)
        await asyncio.gather(client.join(room_id), device.upload())
        for n in range(5):
            rename = {"display_name": f"{n}"}
            await asyncio.gather(
                client.put(f"/devices/{client.device_id}", rename),
                client.leave(room_id) if n % 2 else client.join(room_id),
            )

    following = asyncio.create_task(follow())
    await asyncio.gather(*(live(client) for client in others))
    stop.set()
    await following
    asked: dict[str, list[str]] = {client.user_id: [] for client in others}
    assert known == (await alice.post("/keys/query", {"device_keys": asked}))["device_keys"]


async def test_a_change_wakes_those_for_whom_nothing_else_happened(
    server: RunningServer, alice: Client, bob: Client
) -> None:
    await room_of(alice, bob)
    await server.restart()
    server.moved(alice)
    await server.moved(bob).sync()
    waiting = asyncio.create_task(bob.sync(timeout_ms=10_000))
    await asyncio.sleep(0.1)

    await alice.put(f"/devices/{alice.device_id}", {"display_name": "Phone"})

    async with asyncio.timeout(3):
        assert changed(await waiting) == [alice.user_id]
