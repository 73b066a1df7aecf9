"""Cross-signing keys and signatures: published, checked, shown to whom they concern."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import PASSWORD, Client, Refused
from tests.support.encryption import CrossSigner, Device, keys_of, some_key
from tests.support.server import RunningServer

UPLOAD = "/keys/device_signing/upload"
SIGN = "/keys/signatures/upload"


@pytest.fixture
async def alice(server: RunningServer) -> Client:
    return await server.user("alice")


@pytest.fixture
async def bob(server: RunningServer) -> Client:
    return await server.user("bob")


async def with_keys(client: Client) -> CrossSigner:
    signer = CrossSigner(client.user_id)
    await client.post(UPLOAD, signer.body())
    return signer


async def refused(client: Client, path: str, body: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        await client.post(path, body)
    return caught.value


async def test_the_first_upload_needs_no_password(alice: Client, bob: Client) -> None:
    signer = await with_keys(alice)

    own, others = await keys_of(alice, alice.user_id), await keys_of(bob, alice.user_id)

    assert own["user_signing"] == signer.key("user_signing")
    assert others["master"] == signer.key("master")
    assert others["self_signing"] == signer.key("self_signing")
    assert others["user_signing"] is None


async def test_new_keys_need_the_password_and_equal_ones_do_not(alice: Client) -> None:
    signer = await with_keys(alice)
    await alice.post(UPLOAD, signer.body())
    await alice.post(UPLOAD, signer.body("self_signing"))
    new = CrossSigner(alice.user_id)

    needed = await refused(alice, UPLOAD, new.body())
    assert needed.status == 401
    auth = {
        "type": "m.login.password",
        "session": needed.body["session"],
        "identifier": {"type": "m.id.user", "user": alice.user_id},
        "password": PASSWORD,
    }
    await alice.post(UPLOAD, {**new.body("master", "self_signing"), "auth": auth})

    found = await keys_of(alice, alice.user_id)
    assert found["self_signing"] == new.key("self_signing")
    assert found["user_signing"] is None, "the former master key had signed it"


async def test_malformed_keys_are_refused(alice: Client) -> None:
    signer = CrossSigner(alice.user_id)
    forged = {**signer.key("self_signing"), "signatures": CrossSigner("@a:b").body()}

    assert (await refused(alice, UPLOAD, signer.body("self_signing"))).errcode == "M_MISSING_PARAM"
    body = signer.body() | {"self_signing_key": forged}
    assert (await refused(alice, UPLOAD, body)).errcode == "M_INVALID_SIGNATURE"
    other = CrossSigner("@other:hs.test").body()
    assert (await refused(alice, UPLOAD, other)).errcode == "M_INVALID_PARAM"
    two_keys = signer.key("master")
    two_keys["keys"] = {**two_keys["keys"], "ed25519:x": some_key()}
    assert (await refused(alice, UPLOAD, {"master_key": two_keys})).errcode == "M_INVALID_PARAM"


async def test_a_device_is_never_named_like_a_key(server: RunningServer, alice: Client) -> None:
    signer = CrossSigner(alice.user_id)
    named = server.anonymous()
    await named.login("alice", device_id=signer.public("master"))
    assert (await refused(alice, UPLOAD, signer.body())).errcode == "M_FORBIDDEN"

    await named.post("/logout")
    await alice.post(UPLOAD, signer.body())
    with pytest.raises(Refused, match="cross-signing key"):
        await named.login("alice", device_id=signer.public("master"))
    await named.login("alice", device_id=alice.device_id)


async def test_a_signed_device_is_shown_as_signed(alice: Client, bob: Client) -> None:
    device, signer = Device(alice), await with_keys(alice)
    keys = device.keys()
    await alice.post("/keys/upload", {"device_keys": keys})

    signed = signer.sign(keys, "self_signing")
    body = {alice.user_id: {alice.device_id: signed}}
    assert await alice.post(SIGN, body) == {"failures": {}}
    assert (await keys_of(bob, alice.user_id))["devices"][alice.device_id] == signed

    await alice.post("/keys/upload", {"device_keys": keys})
    assert (await keys_of(bob, alice.user_id))["devices"][alice.device_id] == signed


async def test_a_device_signs_its_users_master_key(alice: Client, bob: Client) -> None:
    device, signer = Device(alice), await with_keys(alice)
    await device.upload()
    signed = device.sign(signer.key("master"))

    body = {alice.user_id: {signer.public("master"): signed}}
    assert await alice.post(SIGN, body) == {"failures": {}}

    assert (await keys_of(bob, alice.user_id))["master"] == signed


async def test_only_the_signer_sees_a_signature_of_another_user(
    server: RunningServer, alice: Client, bob: Client
) -> None:
    signer, bobs = await with_keys(alice), await with_keys(bob)
    phone, carol = await alice.another_device(), await server.user("carol")
    for client in (phone, bob, carol):
        await client.sync()
    room_id = await bob.create_room(preset="public_chat")
    for client in (alice, carol):
        await client.join(room_id)
    for client in (phone, bob, carol):
        await client.sync()

    signed = signer.sign(bobs.key("master"), "user_signing")
    body = {bob.user_id: {bobs.public("master"): signed}}
    assert await alice.post(SIGN, body) == {"failures": {}}

    assert (await keys_of(phone, bob.user_id))["master"]["signatures"] == signed["signatures"]
    for client in (bob, carol):
        found = (await keys_of(client, bob.user_id))["master"]
        assert alice.user_id not in found.get("signatures", {})
        assert "device_lists" not in await client.sync()
    assert (await phone.sync())["device_lists"]["changed"] == [bob.user_id]


async def test_each_wrong_signature_is_a_failure_of_its_own(alice: Client, bob: Client) -> None:
    device, signer, bobs = Device(alice), await with_keys(alice), await with_keys(bob)
    keys = device.keys()
    await alice.post("/keys/upload", {"device_keys": keys})
    stranger = CrossSigner(alice.user_id)
    body = {
        alice.user_id: {
            alice.device_id: stranger.sign(keys, "self_signing"),
            "UNKNOWN": signer.sign(keys, "self_signing"),
            signer.public("master"): device.sign({**signer.key("master"), "more": 1}),
        },
        bob.user_id: {bobs.public("master"): signer.sign(bobs.key("master"), "self_signing")},
        "@nobody:hs.test": {"key": {}},
    }

    failures = (await alice.post(SIGN, body))["failures"]

    found = {u: {k: e["errcode"] for k, e in of_user.items()} for u, of_user in failures.items()}
    assert found == {
        alice.user_id: {
            alice.device_id: "M_INVALID_SIGNATURE",
            "UNKNOWN": "M_NOT_FOUND",
            signer.public("master"): "M_INVALID_PARAM",
        },
        bob.user_id: {bobs.public("master"): "M_INVALID_SIGNATURE"},
        "@nobody:hs.test": {"key": "M_NOT_FOUND"},
    }


async def test_new_cross_signing_keys_and_signatures_are_told(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    device = Device(alice)
    await device.upload()
    await bob.sync()

    signer = await with_keys(alice)
    assert (await bob.sync())["device_lists"]["changed"] == [alice.user_id]
    keys = (await keys_of(alice, alice.user_id))["devices"][alice.device_id]
    signed = signer.sign(keys, "self_signing")
    await alice.post(SIGN, {alice.user_id: {alice.device_id: signed}})
    assert (await bob.sync())["device_lists"]["changed"] == [alice.user_id]
    await alice.post(SIGN, {alice.user_id: {alice.device_id: signed}})
    assert "device_lists" not in await bob.sync()


async def test_a_deactivated_account_leaves_no_keys_behind(
    server: RunningServer, alice: Client, bob: Client
) -> None:
    await Device(alice).upload()
    await with_keys(alice)
    body = {"algorithm": "test", "auth_data": {}}
    version = (await alice.post("/room_keys/version", body))["version"]
    key = {
        "first_message_index": 0,
        "forwarded_count": 0,
        "is_verified": True,
        "session_data": {"secret": "x"},
    }
    await alice.put("/room_keys/keys/!room/session", key, version=version)
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": alice.user_id},
        "password": PASSWORD,
    }

    await alice.post("/account/deactivate", {"auth": auth})

    assert (await keys_of(bob, alice.user_id))["devices"] == {}
    assert (await keys_of(bob, alice.user_id))["master"] is None
    assert server.app is not None
    async with server.app.database.connection() as connection:
        for table in ("backed_up_keys", "key_backups", "cross_signing_keys", "device_keys"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0
