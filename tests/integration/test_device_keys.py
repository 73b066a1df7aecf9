"""Keys of devices: uploaded, asked for, claimed."""

from __future__ import annotations

import asyncio

import pytest

from homeserver.json_types import JsonObject
from tests.support.client import Refused, refusal
from tests.support.encryption import Device, claim, one_time_keys
from tests.support.server import RunningServer


async def test_uploaded_keys_are_found_by_others(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    device = Device(alice)
    keys = device.keys()
    await alice.post("/keys/upload", {"device_keys": keys})
    await alice.put(f"/devices/{alice.device_id}", {"display_name": "Phone"})

    answer = await bob.post("/keys/query", {"device_keys": {alice.user_id: []}})

    expected = {**keys, "unsigned": {"device_display_name": "Phone"}}
    assert answer["device_keys"] == {alice.user_id: {alice.device_id: expected}}
    assert answer["failures"] == {}


async def test_a_query_can_name_devices(server: RunningServer) -> None:
    alice = await server.user("alice")
    other = await alice.another_device()
    await Device(alice).upload()
    await Device(other).upload()

    asked = {alice.user_id: [other.device_id], "@nobody:hs.test": [], "no user": []}
    answer = await alice.post("/keys/query", {"device_keys": asked})

    assert list(answer["device_keys"][alice.user_id]) == [other.device_id]
    assert answer["device_keys"]["@nobody:hs.test"] == {}


async def test_a_device_uploads_only_its_own_keys(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    keys = Device(bob).keys()

    with pytest.raises(Refused) as refused:
        await alice.post("/keys/upload", {"device_keys": keys})

    assert refused.value.errcode == "M_INVALID_PARAM"


@pytest.mark.parametrize(
    "wrong",
    [
        {"algorithms": None},
        {"keys": None},
        {"keys": {"ed25519:X": 5}},
        {"signatures": None},
    ],
)
async def test_a_device_needs_algorithms_keys_and_signatures(
    server: RunningServer, wrong: JsonObject
) -> None:
    alice = await server.user("alice")
    changed = {**Device(alice).keys(), **wrong}
    keys = {name: value for name, value in changed.items() if value is not None}

    refused = await refusal(alice.post("/keys/upload", {"device_keys": keys}))

    assert (refused.status, refused.errcode) == (400, "M_BAD_JSON")


async def test_a_device_without_a_name_has_an_empty_unsigned(server: RunningServer) -> None:
    alice = await server.user("alice")
    await Device(alice).upload()

    answer = await alice.post("/keys/query", {"device_keys": {alice.user_id: []}})

    assert answer["device_keys"][alice.user_id][alice.device_id]["unsigned"] == {}


@pytest.mark.parametrize(
    "body",
    [
        {"one_time_keys": {"no_colon": "key"}},
        {"one_time_keys": {"signed_curve25519:A": {"key": 1.5}}},
        {"one_time_keys": {"signed_curve25519:A": 7}},
        {"fallback_keys": {"signed_curve25519:\0": "key"}},
        {"one_time_keys": {"signed_curve25519:A": {"key": "abc"}}},
        {"one_time_keys": {"signed_curve25519:A": {"signatures": {}}}},
        {"device_keys": "none"},
    ],
)
async def test_malformed_keys_are_refused(server: RunningServer, body: object) -> None:
    alice = await server.user("alice")

    with pytest.raises(Refused) as refused:
        await alice.post("/keys/upload", body)

    assert refused.value.status == 400


async def test_one_time_keys_are_given_out_in_upload_order_each_once(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    for name in ("Z", "A", "M"):
        counts = await alice.post("/keys/upload", {"one_time_keys": one_time_keys(name)})
    assert counts == {"one_time_key_counts": {"signed_curve25519": 3}}

    claimed = [await claim(bob, alice) for _ in range(4)]

    assert claimed == ["Z", "A", "M", None]


async def test_a_repeated_upload_does_not_bring_back_what_was_given_out(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    keys = {"one_time_keys": one_time_keys("A", "B")}
    await alice.post("/keys/upload", keys)
    first = await claim(bob, alice)
    answer = await alice.post("/keys/upload", keys)

    assert answer["one_time_key_counts"]["signed_curve25519"] == 1
    assert {first, await claim(bob, alice)} == {"A", "B"}
    assert await claim(bob, alice) is None


async def test_a_key_id_never_stands_for_two_keys(server: RunningServer) -> None:
    alice = await server.user("alice")
    await alice.post("/keys/upload", {"one_time_keys": one_time_keys("A")})
    other = {"signed_curve25519:A": {"key": "another", "signatures": {}}, **one_time_keys("B")}

    with pytest.raises(Refused, match="already exists"):
        await alice.post("/keys/upload", {"one_time_keys": other})

    answer = await alice.post("/keys/upload", {})
    assert answer["one_time_key_counts"]["signed_curve25519"] == 1


async def test_the_fallback_key_is_used_when_no_other_is_left(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    keys = {"one_time_keys": one_time_keys("A"), "fallback_keys": one_time_keys("F")}
    await alice.post("/keys/upload", keys)
    assert (await alice.sync())["device_unused_fallback_key_types"] == ["signed_curve25519"]

    claimed = [await claim(bob, alice) for _ in range(3)]

    assert claimed == ["A", "F", "F"]
    assert (await alice.sync())["device_unused_fallback_key_types"] == []
    await alice.post("/keys/upload", {"fallback_keys": one_time_keys("G")})
    assert (await alice.sync())["device_unused_fallback_key_types"] == ["signed_curve25519"]
    assert await claim(bob, alice) == "G"


async def test_sync_counts_the_keys_that_are_left(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    assert (await alice.sync())["device_one_time_keys_count"] == {"signed_curve25519": 0}

    await alice.post("/keys/upload", {"one_time_keys": one_time_keys("A", "B")})
    assert (await alice.sync())["device_one_time_keys_count"] == {"signed_curve25519": 2}

    await claim(bob, alice)
    assert (await alice.sync())["device_one_time_keys_count"] == {"signed_curve25519": 1}


async def test_a_hundred_claimers_get_fifty_keys_and_then_the_fallback(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    names = [f"key{n}" for n in range(50)]
    keys = {"one_time_keys": one_time_keys(*names), "fallback_keys": one_time_keys("F")}
    await alice.post("/keys/upload", keys)

    claimed = await asyncio.gather(*(claim(bob, alice) for _ in range(100)))

    assert sorted(filter(None, claimed)) == sorted([*names, *["F"] * 50])


async def test_a_claim_takes_one_key_of_each_device(server: RunningServer) -> None:
    alice = await server.user("alice")
    devices = [await alice.another_device() for _ in range(3)]
    for device in devices:
        await device.post("/keys/upload", {"one_time_keys": one_time_keys("A", "B")})

    asked = {alice.user_id: {d.device_id: "signed_curve25519" for d in devices}}
    asked[alice.user_id]["nothing"] = "signed_curve25519"
    answer = await alice.post("/keys/claim", {"one_time_keys": asked})

    found = answer["one_time_keys"][alice.user_id]
    assert {d.device_id: 1 for d in devices} == {d: len(keys) for d, keys in found.items()}


async def test_a_deleted_device_has_no_keys_left(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    phone = await alice.another_device()
    await Device(phone).upload(one_time_keys=one_time_keys("A"))
    await phone.post("/logout")

    answer = await bob.post("/keys/query", {"device_keys": {alice.user_id: []}})

    assert answer["device_keys"] == {alice.user_id: {}}
    assert await claim(bob, phone) is None


async def test_an_unknown_server_is_named_as_a_failure(server: RunningServer) -> None:
    alice = await server.user("alice")
    asked: dict[str, list[str]] = {"@bob:nowhere.invalid": [], alice.user_id: []}

    answer = await alice.post("/keys/query", {"device_keys": asked, "timeout": 5000})

    assert list(answer["failures"]) == ["nowhere.invalid"]
    assert answer["device_keys"] == {alice.user_id: {}}


async def test_a_device_has_only_so_many_keys(server: RunningServer) -> None:
    alice = await server.user("alice")

    def some(kind: str, numbers: range, algorithm: str = "signed_curve25519") -> JsonObject:
        return {kind: {f"{algorithm}:{number}": "k" for number in numbers}}

    for start in (0, 250):
        await alice.post("/keys/upload", some("one_time_keys", range(start, start + 250)))
    again = await alice.post("/keys/upload", some("one_time_keys", range(10)))
    assert again["one_time_key_counts"] == {"signed_curve25519": 500}
    fallback = {f"a{number}:x": "k" for number in range(21)}
    more = [some("one_time_keys", range(500, 501)), some("one_time_keys", range(1), "other")]
    for body in (*more, {"fallback_keys": fallback}):
        refused = await refusal(alice.post("/keys/upload", body))
        assert (refused.status, refused.errcode) == (400, "M_INVALID_PARAM")
    counts = (await alice.post("/keys/upload", {}))["one_time_key_counts"]
    assert counts == {"signed_curve25519": 500}
