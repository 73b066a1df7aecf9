"""Server-side key backups: versions, keys in all forms, and which key replaces which."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from homeserver.json_types import JsonObject
from tests.support.client import Client, Refused
from tests.support.server import RunningServer

ALGORITHM = "m.megolm_backup.v1.curve25519-aes-sha2"
ROOM, OTHER_ROOM = "!room:hs.test", "!other:hs.test"


@pytest.fixture
async def alice(server: RunningServer) -> Client:
    return await server.user("alice")


async def new_backup(client: Client, key: str = "public") -> str:
    body = {"algorithm": ALGORITHM, "auth_data": {"public_key": key}}
    return str((await client.post("/room_keys/version", body))["version"])


def key(
    data: str = "data", index: int = 0, forwarded: int = 0, verified: bool = True
) -> JsonObject:
    return {
        "first_message_index": index,
        "forwarded_count": forwarded,
        "is_verified": verified,
        "session_data": {"ciphertext": data},
    }


async def put(client: Client, version: str, path: str, body: Any) -> Any:
    return await client.put(f"/room_keys/keys{path}", body, version=version)


async def keys(client: Client, version: str, path: str = "") -> Any:
    return await client.get(f"/room_keys/keys{path}", version=version)


async def delete(client: Client, version: str, path: str = "") -> Any:
    return await client.request("DELETE", f"/room_keys/keys{path}", query={"version": version})


async def test_versions_count_up_and_the_newest_is_current(alice: Client) -> None:
    with pytest.raises(Refused, match="No current backup"):
        await alice.get("/room_keys/version")
    first, second = await new_backup(alice), await new_backup(alice, "another")

    assert first != second
    expected = {"algorithm": ALGORITHM, "auth_data": {"public_key": "another"}, "count": 0}
    found = await alice.get("/room_keys/version")
    assert found == {**expected, "version": second, "etag": found["etag"]}
    assert (await alice.get(f"/room_keys/version/{first}"))["version"] == first


async def test_a_deleted_version_is_gone_and_never_given_again(alice: Client) -> None:
    first, second = await new_backup(alice), await new_backup(alice)
    await put(alice, second, f"/{ROOM}/s", key())
    for _ in range(2):
        await alice.delete(f"/room_keys/version/{second}")

    for path in (f"/room_keys/version/{second}", "/room_keys/version/77", "/room_keys/version/x"):
        with pytest.raises(Refused) as refused:
            await alice.get(path)
        assert refused.value.errcode == "M_NOT_FOUND"
    with pytest.raises(Refused):
        await alice.delete("/room_keys/version/77")
    assert (await alice.get("/room_keys/version"))["version"] == first
    assert await new_backup(alice) not in (first, second)


async def test_only_the_auth_data_of_a_version_changes(alice: Client) -> None:
    version = await new_backup(alice)
    path = f"/room_keys/version/{version}"
    body: JsonObject = {"algorithm": ALGORITHM, "auth_data": {"signed": True}}

    await alice.put(path, {**body, "version": version})
    await alice.put(path, body)

    assert (await alice.get(path))["auth_data"] == {"signed": True}
    for wrong in ({**body, "algorithm": "other"}, {**body, "version": "77"}):
        with pytest.raises(Refused) as refused:
            await alice.put(path, wrong)
        assert refused.value.errcode == "M_INVALID_PARAM"


async def test_keys_go_in_and_come_out_in_every_form(alice: Client) -> None:
    version = await new_backup(alice)
    await put(alice, version, f"/{ROOM}/one", key("1"))
    await put(alice, version, f"/{ROOM}", {"sessions": {"two": key("2")}})
    body = {"rooms": {OTHER_ROOM: {"sessions": {"one": key("3"), "a/b": key("4")}}}}
    answer = await put(alice, version, "", body)

    assert answer["count"] == 4
    assert await keys(alice, version) == {
        "rooms": {
            ROOM: {"sessions": {"one": key("1"), "two": key("2")}},
            OTHER_ROOM: {"sessions": {"one": key("3"), "a/b": key("4")}},
        }
    }
    assert await keys(alice, version, f"/{ROOM}") == {
        "sessions": {"one": key("1"), "two": key("2")}
    }
    assert await keys(alice, version, f"/{OTHER_ROOM}/a%2Fb") == key("4")
    assert await keys(alice, version, "/!none:hs.test") == {"sessions": {}}
    with pytest.raises(Refused, match="Key not found"):
        await keys(alice, version, f"/{ROOM}/three")


async def test_keys_are_deleted_in_every_form(alice: Client) -> None:
    version = await new_backup(alice)
    sessions = {"sessions": {name: key() for name in ("one", "two", "three")}}
    await put(alice, version, "", {"rooms": {ROOM: sessions, OTHER_ROOM: sessions}})

    counts = [
        (await delete(alice, version, path))["count"]
        for path in (f"/{ROOM}/one", f"/{ROOM}/one", f"/{ROOM}", "")
    ]

    assert counts == [5, 5, 3, 0]
    assert await keys(alice, version) == {"rooms": {}}
    with pytest.raises(Refused, match="Unknown backup version"):
        await delete(alice, "77")


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (key("a", index=9, forwarded=9), key("b", verified=False)),
        (key("a", index=1, forwarded=9), key("b", index=2)),
        (key("a", forwarded=1), key("b", forwarded=2)),
        (key("a", verified=False), key("b", index=1, verified=False)),
    ],
)
async def test_the_better_key_stays(alice: Client, better: JsonObject, worse: JsonObject) -> None:
    version = await new_backup(alice)
    await put(alice, version, f"/{ROOM}/s", worse)
    first = await put(alice, version, f"/{ROOM}/s", better)
    second = await put(alice, version, f"/{ROOM}/s", worse)

    assert await keys(alice, version, f"/{ROOM}/s") == better
    assert first == second
    assert first["count"] == 1


async def test_the_first_of_equally_good_keys_stays(alice: Client) -> None:
    version = await new_backup(alice)
    before = await put(alice, version, f"/{ROOM}/s", key("first"))

    assert await put(alice, version, f"/{ROOM}/s", key("second")) == before
    assert await keys(alice, version, f"/{ROOM}/s") == key("first")


async def test_the_etag_changes_with_the_keys(alice: Client) -> None:
    version = await new_backup(alice)
    etags = [
        (await put(alice, version, f"/{ROOM}/{name}", key()))["etag"] for name in ("a", "b", "b")
    ]
    etags.append((await delete(alice, version, f"/{ROOM}/a"))["etag"])
    etags.append((await alice.get("/room_keys/version"))["etag"])

    assert len(set(etags)) == 3
    assert etags[1] == etags[2]
    assert etags[3] == etags[4]


async def test_keys_go_to_the_current_version_only(alice: Client) -> None:
    with pytest.raises(Refused) as refused:
        await put(alice, "1", f"/{ROOM}/s", key())
    assert refused.value.errcode == "M_NOT_FOUND"
    old, current = await new_backup(alice), await new_backup(alice)

    with pytest.raises(Refused) as refused:
        await put(alice, old, f"/{ROOM}/s", key())

    assert refused.value.status == 403
    assert refused.value.errcode == "M_WRONG_ROOM_KEYS_VERSION"
    assert refused.value.body["current_version"] == current


@pytest.mark.parametrize(
    "body",
    [
        {},
        {**key(), "first_message_index": "0"},
        {**key(), "forwarded_count": -1},
        {**key(), "is_verified": 1},
    ],
)
async def test_malformed_keys_are_refused(alice: Client, body: JsonObject) -> None:
    version = await new_backup(alice)

    with pytest.raises(Refused) as refused:
        await put(alice, version, f"/{ROOM}/s", body)

    assert refused.value.status == 400


async def test_users_see_only_their_own_backups(server: RunningServer, alice: Client) -> None:
    version = await new_backup(alice)
    bob = await server.user("bob")

    with pytest.raises(Refused):
        await keys(bob, version)


async def test_nothing_is_lost_when_devices_back_up_at_once(alice: Client) -> None:
    version = await new_backup(alice)

    await asyncio.gather(
        *(
            put(alice, version, f"/{ROOM}", {"sessions": {f"{n}-{m}": key() for m in range(10)}})
            for n in range(20)
        ),
    )

    assert (await alice.get(f"/room_keys/version/{version}"))["count"] == 200
    assert len((await keys(alice, version, f"/{ROOM}"))["sessions"]) == 200


async def test_what_an_algorithm_defines_may_be_any_json(alice: Client) -> None:
    body = {"algorithm": "org.example.other", "auth_data": "a text"}
    version = (await alice.post("/room_keys/version", body))["version"]
    another = {**key(), "session_data": ["a", 1]}

    await put(alice, version, f"/{ROOM}/s", another)

    assert (await alice.get("/room_keys/version"))["auth_data"] == "a text"
    assert await keys(alice, version, f"/{ROOM}/s") == another
