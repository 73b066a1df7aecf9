"""What can't be an event is refused with a sentence, and nothing of it is stored."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import StartServer
from tests.support.client import Client, Refused
from tests.support.server import RunningServer


async def refused(client: Client, method: str, path: str, **more: Any) -> tuple[int, str]:
    with pytest.raises(Refused) as error:
        await client.request(method, path, **more)
    assert error.value.body["error"]
    return error.value.status, error.value.errcode


async def nothing_new(client: Client) -> None:
    assert "rooms" not in await client.sync(set_presence="offline")


BAD_BODIES = {
    b'{"body": 1.5}': "M_BAD_JSON",
    b'{"body": 9007199254740992}': "M_BAD_JSON",
    b'{"body": -9007199254740992}': "M_BAD_JSON",
    b'{"body": 1e3}': "M_BAD_JSON",
    b'{"body": "\\ud800"}': "M_NOT_JSON",
    b'{"body": ': "M_NOT_JSON",
    b'{"body": "\xff"}': "M_NOT_JSON",
    b"": "M_NOT_JSON",
    b"[]": "M_BAD_JSON",
    b'"text"': "M_BAD_JSON",
    b"NaN": "M_NOT_JSON",
    b'{"a":' * 200 + b"1" + b"}" * 200: "M_BAD_JSON",
}


@pytest.mark.parametrize("body", BAD_BODIES)
async def test_content_without_canonical_form_is_refused(
    server: RunningServer, body: bytes
) -> None:
    alice = await server.user("alice")
    room = quote(await alice.create_room())
    await alice.sync(set_presence="offline")
    for path in (f"/rooms/{room}/send/m.room.message/1", f"/rooms/{room}/state/org.example/"):
        status, errcode = await refused(alice, "PUT", path, data=body)
        assert (status, errcode) == (400, BAD_BODIES[body])
    await nothing_new(alice)


async def test_an_event_is_at_most_65536_bytes_long(server: RunningServer) -> None:
    alice = await server.user("alice")
    room = quote(await alice.create_room())
    await alice.sync(set_presence="offline")
    path = f"/rooms/{room}/send/m.room.message/"
    assert await refused(
        alice, "PUT", path + "1", body={"msgtype": "m.text", "body": "x" * 65_000}
    ) == (
        413,
        "M_TOO_LARGE",
    )
    await nothing_new(alice)
    await alice.put(path + "2", {"msgtype": "m.text", "body": "x" * 60_000})


async def test_a_body_is_limited_too(start_server: StartServer) -> None:
    server = await start_server(limits={"request_body": 100_000})
    alice = await server.user("alice")
    room = quote(await alice.create_room())
    path = f"/rooms/{room}/send/m.room.message/1"
    data = b'{"body":"' + b"x" * 200_000 + b'"}'
    assert await refused(alice, "PUT", path, data=data) == (413, "M_TOO_LARGE")


@pytest.mark.parametrize("where", ["send/{long}/1", "state/{long}/", "state/org.example/{long}"])
async def test_types_and_state_keys_are_at_most_255_bytes_long(
    server: RunningServer, where: str
) -> None:
    alice = await server.user("alice")
    room = quote(await alice.create_room())
    await alice.sync(set_presence="offline")
    for long in ("x" * 256, "é" * 128):
        path = f"/rooms/{room}/{where.format(long=quote(long))}"
        status, _ = await refused(alice, "PUT", path, body={})
        assert status in (400, 413)
    await nothing_new(alice)


async def test_state_keys_of_others_are_theirs(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room = quote(await alice.create_room())
    path = f"/rooms/{room}/state/org.example/{quote(bob.user_id)}"
    assert await refused(alice, "PUT", path, body={}) == (403, "M_FORBIDDEN")


async def test_an_unknown_room_version_is_refused(server: RunningServer) -> None:
    alice = await server.user("alice")
    for version in ("13", "org.example.none", ""):
        status, errcode = await refused(
            alice, "POST", "/createRoom", body={"room_version": version}
        )
        assert (status, errcode) == (400, "M_UNSUPPORTED_ROOM_VERSION")


@pytest.mark.parametrize(
    "body",
    [
        {"visibility": "secret"},
        {"preset": "best_chat"},
        {"invite": "@bob:hs.test"},
        {"invite": ["bob"]},
        {"initial_state": [{"content": {}}]},
        {"creation_content": []},
        {"power_level_content_override": 3},
        {"name": 7},
        {"is_direct": "yes"},
        {"room_alias_name": "with:colon"},
    ],
)
async def test_a_wrong_field_of_a_new_room_is_named(
    server: RunningServer, body: dict[str, Any]
) -> None:
    alice = await server.user("alice")
    status, errcode = await refused(alice, "POST", "/createRoom", body=body)
    assert status == 400
    assert errcode in ("M_BAD_JSON", "M_INVALID_PARAM", "M_MISSING_PARAM")
    assert (await alice.get("/joined_rooms"))["joined_rooms"] == []


async def test_a_room_that_can_not_be_made_leaves_nothing_behind(server: RunningServer) -> None:
    alice = await server.user("alice")
    locked_out = {"users": {"@somebody:else.test": 100}, "events": {"m.room.name": 100}}
    status, errcode = await refused(
        alice,
        "POST",
        "/createRoom",
        body={
            "name": "mine",
            "room_version": "10",
            "room_alias_name": "mine",
            "power_level_content_override": locked_out,
        },
    )
    assert status in (400, 403)
    assert errcode in ("M_INVALID_ROOM_STATE", "M_FORBIDDEN")
    assert (await alice.get("/joined_rooms"))["joined_rooms"] == []
    status, _ = await refused(alice, "GET", f"/directory/room/{quote('#mine:hs.test')}")
    assert status == 404


async def test_strangers_cannot_send(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room = quote(await alice.create_room(preset="public_chat"))
    path = f"/rooms/{room}/send/m.room.message/1"
    text = {"msgtype": "m.text", "body": "hi"}
    assert await refused(bob, "PUT", path, body=text) == (403, "M_FORBIDDEN")
    unknown = f"/rooms/{quote('!unknown:hs.test')}/send/m.room.message/1"
    status, _ = await refused(bob, "PUT", unknown, body=text)
    assert status in (403, 404)


async def test_what_postgres_cannot_hold_is_refused_and_disturbs_nobody(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room, user = quote(await alice.create_room()), quote(alice.user_id)
    bobs = await bob.create_room()
    long = "".join(map(chr, range(0x4E00, 0x4E00 + 3000)))  # too long for an index, compressed too
    requests: list[tuple[str, str, Any]] = [
        ("PUT", f"/rooms/{room}/send/m.x%00/1", {}),
        ("PUT", f"/rooms/{room}/send/m.x/1%00", {}),
        ("PUT", f"/rooms/{room}/state/m.x/%00", {}),
        ("POST", "/createRoom", {"initial_state": [{"type": "a\0", "content": {}}]}),
        ("PUT", f"/user/{user}/account_data/a%00", {}),
        ("PUT", f"/user/{user}/account_data/{quote(long)}", {}),
        ("PUT", f"/user/{user}/rooms/{room}/account_data/{quote(long)}", {}),
        ("POST", f"/rooms/{room}/receipt/m.read/$unknown", {"thread_id": "a\0"}),
        ("POST", f"/rooms/{room}/receipt/m.read/$unknown", {"thread_id": long}),
        ("PUT", f"/sendToDevice/{quote(long)}/1", {"messages": {alice.user_id: {"*": {}}}}),
        ("PUT", f"/presence/{user}/status", {"presence": "online", "status_msg": "a\0"}),
        ("GET", f"/rooms/{room}/event/%24a%00", None),
    ]
    for method, path, body in requests:
        status, _ = await refused(alice, method, path, body=body)
        assert status in (400, 413), path
        assert await bob.send(bobs, "still here")


async def test_any_number_of_milliseconds_may_be_typed(server: RunningServer) -> None:
    alice = await server.user("alice")
    room = quote(await alice.create_room())
    for patience in (10**400, -(10**400)):
        body = {"typing": True, "timeout": patience}
        await alice.put(f"/rooms/{room}/typing/{quote(alice.user_id)}", body)
