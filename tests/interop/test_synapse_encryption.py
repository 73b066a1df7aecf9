"""Encryption with a real Synapse: devices, keys, and two matrix-nio that read each other."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from homeserver.json_types import JsonObject
from tests.interop.federated import MARKS, meet
from tests.interop.nio_client import nio_client, say, texts_of, until_ready
from tests.support.client import Client, until
from tests.support.encryption import CrossSigner, Device, claim, keys_of, one_time_keys

pytestmark = [
    *MARKS,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def changed(user_id: str, answer: JsonObject) -> bool:
    return user_id in answer.get("device_lists", {}).get("changed", [])


async def test_keys_and_messages_to_devices(alice: Client, sam: Client) -> None:
    await meet(alice, sam, "11")
    for one, other in ((alice, sam), (sam, alice)):
        await keys_of(other, one.user_id)  # from now on it wants to know of changes
        keys = Device(one).keys()
        await one.post("/keys/upload", {"device_keys": keys, "one_time_keys": one_time_keys("A")})
        await other.sync_until(partial(changed, one.user_id))
        known = (await keys_of(other, one.user_id))["devices"]
        assert known[one.device_id]["keys"] == keys["keys"]
        assert await claim(other, one) == "A"
        assert await claim(other, one) is None
        for device_id in (one.device_id, "*"):
            message = {one.user_id: {device_id: {"secret": device_id}}}
            await other.put(f"/sendToDevice/m.test/{device_id}", {"messages": message})
            [event] = await one.sync_until(lambda answer: answer.get("to_device", {}).get("events"))
            assert event["content"] == {"secret": device_id}


async def test_cross_signing_keys_and_signatures(alice: Client, sam: Client) -> None:
    await meet(alice, sam, "11")
    for one, other in ((alice, sam), (sam, alice)):
        await keys_of(other, one.user_id)
        device, signer = Device(one), CrossSigner(one.user_id)
        await device.upload()
        await other.sync_until(partial(changed, one.user_id))
        await one.post("/keys/device_signing/upload", signer.body())

        async def is_told(asker: Client = other, user_id: str = one.user_id) -> bool:
            return bool((await keys_of(asker, user_id))["self_signing"])

        await until(is_told)
        known = await keys_of(other, one.user_id)
        assert known["master"]["keys"] == signer.key("master")["keys"]
        assert known["self_signing"]["keys"] == signer.key("self_signing")["keys"]
        bare = {k: v for k, v in known["devices"][one.device_id].items() if k != "unsigned"}
        signed = signer.sign(bare, "self_signing")
        await one.post("/keys/signatures/upload", {one.user_id: {one.device_id: signed}})
        await until(partial(is_signed, other, one, f"ed25519:{signer.public('self_signing')}"))


async def is_signed(asker: Client, device: Client, key_id: str) -> bool:
    """Does the asker see this signature of the device's user on its keys?"""
    known = (await keys_of(asker, device.user_id))["devices"][device.device_id]
    return key_id in known["signatures"][device.user_id]


async def test_a_device_goes(alice: Client, sam: Client) -> None:
    await meet(alice, sam, "11")
    for one, other in ((alice, sam), (sam, alice)):
        await Device(one).upload()
        second = await one.another_device()
        await Device(second).upload()
        while second.device_id not in (await keys_of(other, one.user_id))["devices"]:
            await other.sync_until(partial(changed, one.user_id))
        await second.post("/logout")
        while second.device_id in (await keys_of(other, one.user_id))["devices"]:
            await other.sync_until(partial(changed, one.user_id))


@pytest.mark.parametrize("host_is_ours", [True, False])
async def test_an_encrypted_room(
    alice: Client, sam: Client, tmp_path: Path, host_is_ours: bool
) -> None:
    host, guest = (alice, sam) if host_is_ours else (sam, alice)
    encryption = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    room_id = await host.create_room(
        invite=[guest.user_id], initial_state=[encryption], room_version="11"
    )
    async with (
        nio_client(host, tmp_path / "host") as one,
        nio_client(guest, tmp_path / "guest") as two,
    ):
        heard = {one: texts_of(one), two: texts_of(two)}
        async with asyncio.timeout(20):
            while room_id not in two.invited_rooms:
                await two.synced.wait()
        await two.join(room_id)
        await until_ready(one, room_id, guest.user_id)
        await until_ready(two, room_id, host.user_id)
        for sender, reader in ((one, two), (two, one), (one, two)):
            text = f"from {sender.user_id}"
            event_id = await say(sender, room_id, text)
            async with asyncio.timeout(20):
                while (found := await heard[reader].get()) != (text, True):
                    assert found[0] != text, "it came unencrypted"
            stored = await host.event(room_id, event_id)
            assert stored["type"] == "m.room.encrypted"
