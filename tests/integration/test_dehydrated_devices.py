"""Dehydrated devices (MSC3814): kept, found by others, replaced, and their messages read."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.json_types import JsonObject
from tests.support.client import Client, Refused
from tests.support.encryption import Device, claim, keys_of, one_time_keys
from tests.support.server import RunningServer

PATH = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"
DATA = {"algorithm": "m.dehydration.v1.olm", "device": "encrypted"}


@pytest.fixture
async def alice(server: RunningServer) -> Client:
    return await server.user("alice")


async def dehydrate(client: Client, device_id: str = "DEHYDRATED", **more: Any) -> JsonObject:
    named = Client(client.http, client.url)
    named.user_id, named.device_id = client.user_id, device_id
    keys = Device(named).keys()
    body = {"device_id": device_id, "device_data": DATA, "device_keys": keys, **more}
    assert await client.put(PATH, body) == {"device_id": device_id}
    return keys


async def test_a_dehydrated_device_is_kept_for_its_user(
    server: RunningServer, alice: Client
) -> None:
    bob = await server.user("bob")
    await dehydrate(alice)

    assert await alice.get(PATH) == {"device_id": "DEHYDRATED", "device_data": DATA}
    for path in (PATH, f"{PATH}/DEHYDRATED/events"):
        with pytest.raises(Refused) as refused:
            await bob.get(path)
        assert refused.value.status in (403, 404)


async def test_others_find_its_keys(server: RunningServer, alice: Client) -> None:
    bob = await server.user("bob")
    keys = await dehydrate(alice, one_time_keys=one_time_keys("A"))

    assert (await keys_of(bob, alice.user_id))["devices"] == {"DEHYDRATED": keys}
    device = Client(alice.http, alice.url)
    device.user_id, device.device_id = alice.user_id, "DEHYDRATED"
    assert await claim(bob, device) == "A"


async def test_its_messages_are_read_page_by_page_and_stay(
    server: RunningServer, alice: Client
) -> None:
    bob = await server.user("bob")
    await dehydrate(alice)
    for n in range(120):
        messages = {alice.user_id: {"DEHYDRATED": {"n": n}}}
        await bob.put(f"/sendToDevice/test/{n}", {"messages": messages})

    path = f"{PATH}/DEHYDRATED/events"
    first = await alice.get(path)
    last = await alice.get(path, **{"from": first["next_batch"]})
    assert numbers(first) + numbers(last) == list(range(120))
    assert "next_batch" not in last
    # As the first draft of the MSC has it.
    first = await alice.post(path)
    second = await alice.post(path, {"next_batch": first["next_batch"]})
    third = await alice.post(path, {"next_batch": second["next_batch"]})
    assert numbers(first) + numbers(second) == list(range(120))
    assert numbers(third) == []


def numbers(page: JsonObject) -> list[int]:
    return [event["content"]["n"] for event in page["events"]]


async def test_a_new_one_replaces_the_one_before(server: RunningServer, alice: Client) -> None:
    bob = await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await dehydrate(alice, "FIRST")
    await bob.sync()

    await dehydrate(alice, "SECOND")

    assert (await bob.sync())["device_lists"]["changed"] == [alice.user_id]
    assert list((await keys_of(bob, alice.user_id))["devices"]) == ["SECOND"]
    with pytest.raises(Refused):
        await alice.post(f"{PATH}/FIRST/events")


async def test_it_is_deleted_with_its_keys(alice: Client) -> None:
    await dehydrate(alice)

    assert await alice.delete(PATH) == {"device_id": "DEHYDRATED"}

    assert (await keys_of(alice, alice.user_id))["devices"] == {}
    for call in (alice.get(PATH), alice.delete(PATH)):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.errcode == "M_NOT_FOUND"


async def test_it_is_not_named_like_a_logged_in_device(alice: Client) -> None:
    body = {
        "device_id": alice.device_id,
        "device_data": DATA,
        "device_keys": Device(alice).keys(),
    }
    await dehydrate(alice)
    with pytest.raises(Refused) as refused:
        await alice.put(PATH, body)
    assert refused.value.errcode == "M_INVALID_PARAM"
    assert (await alice.get(PATH))["device_id"] == "DEHYDRATED"
    with pytest.raises(Refused):
        await alice.put(PATH, {**body, "device_id": "OTHER"})
    await alice.get("/account/whoami")


async def test_without_keys_it_is_refused(alice: Client) -> None:
    with pytest.raises(Refused) as refused:
        await alice.put(PATH, {"device_id": "DEHYDRATED", "device_data": DATA})
    assert refused.value.errcode == "M_MISSING_PARAM"
