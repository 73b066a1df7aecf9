"""What guests may do. client-server-api#guest-access"""

from __future__ import annotations

import pytest

from homeserver.http.endpoint import Auth
from homeserver.http.routes import ROUTES
from tests.support.client import PASSWORD, Client, refusal
from tests.support.server import RunningServer

V3 = "/_matrix/client/v3"
V1 = "/_matrix/client/v1"
LISTED = {
    ("GET", f"{V3}/rooms/{{room_id}}/state"),
    ("GET", f"{V3}/rooms/{{room_id}}/context/{{event_id}}"),
    ("GET", f"{V3}/rooms/{{room_id}}/event/{{event_id}}"),
    ("GET", f"{V3}/rooms/{{room_id}}/state/{{event_type}}/{{state_key}}"),
    ("GET", f"{V3}/rooms/{{room_id}}/messages"),
    ("GET", f"{V3}/rooms/{{room_id}}/members"),
    ("GET", f"{V3}/rooms/{{room_id}}/initialSync"),
    ("GET", f"{V3}/sync"),
    ("GET", f"{V3}/events"),
    ("GET", f"{V1}/media/download/{{server_name}}/{{media_id}}"),
    ("GET", f"{V1}/media/download/{{server_name}}/{{media_id}}/{{file_name}}"),
    ("GET", f"{V1}/media/thumbnail/{{server_name}}/{{media_id}}"),
    ("POST", f"{V3}/rooms/{{room_id}}/join"),
    ("POST", f"{V3}/rooms/{{room_id}}/leave"),
    ("PUT", f"{V3}/rooms/{{room_id}}/send/{{event_type}}/{{txn_id}}"),
    ("PUT", f"{V3}/rooms/{{room_id}}/state/{{event_type}}/{{state_key}}"),
    ("PUT", f"{V3}/sendToDevice/{{event_type}}/{{txn_id}}"),
    ("PUT", f"{V3}/profile/{{user_id}}/{{key}}"),
    ("DELETE", f"{V3}/profile/{{user_id}}/{{key}}"),
    ("GET", f"{V3}/devices"),
    ("GET", f"{V3}/devices/{{device_id}}"),
    ("PUT", f"{V3}/devices/{{device_id}}"),
    ("GET", f"{V3}/account/whoami"),
    ("POST", f"{V3}/keys/upload"),
    ("POST", f"{V3}/keys/query"),
    ("POST", f"{V3}/keys/claim"),
}
BESIDES = {
    # Other forms of what is listed.
    ("GET", f"{V3}/rooms/{{room_id}}/state/{{event_type}}"),
    ("PUT", f"{V3}/rooms/{{room_id}}/state/{{event_type}}"),
    ("POST", f"{V3}/rooms/{{room_id}}/send/{{event_type}}"),
    ("POST", f"{V3}/join/{{room_id_or_alias}}"),
    # Whoever has a session can end it, and ask what the server can do.
    ("POST", f"{V3}/logout"),
    ("POST", f"{V3}/logout/all"),
    ("GET", f"{V3}/capabilities"),
    # What anybody may ask by GET, who says more exactly what.
    ("POST", f"{V3}/publicRooms"),
    # `voip.turn_guests` decides.
    ("GET", f"{V3}/voip/turnServer"),
}


async def guest(server: RunningServer) -> Client:
    client = server.anonymous()
    client._logged_in(await client.post("/register", {}, kind="guest"))
    return client


async def open_room(owner: Client, guest_access: str = "can_join") -> str:
    """A public room with that guest access."""
    event = {"type": "m.room.guest_access", "content": {"guest_access": guest_access}}
    return await owner.create_room(preset="public_chat", initial_state=[event])


def test_guests_may_use_what_the_guest_module_lists() -> None:
    declared = {
        (declaration.method, path)
        for group in ROUTES
        for declaration in group.declarations
        if declaration.auth is Auth.GUEST
        for path in declaration.paths[:2]
        if path.startswith((V3, V1))
    }
    declared -= {(m, p) for m, p in declared if p.endswith("/") or "keys/upload/" in p}
    assert declared == LISTED | BESIDES


async def test_guests_join_rooms_that_take_guests(server: RunningServer) -> None:
    alice, visitor = await server.user("alice"), await guest(server)
    room_id = await open_room(alice)
    await visitor.join(room_id)
    await visitor.send(room_id, "hello")
    await visitor.set_state(room_id, "m.room.member", {"membership": "join"}, visitor.user_id)
    await visitor.leave(room_id)


@pytest.mark.parametrize("how", ["join", "state"])
async def test_guests_stay_outside_of_other_rooms(server: RunningServer, how: str) -> None:
    alice, visitor = await server.user("alice"), await guest(server)
    room_id = await open_room(alice, "forbidden")
    attempt = (
        visitor.join(room_id)
        if how == "join"
        else visitor.set_state(room_id, "m.room.member", {"membership": "join"}, visitor.user_id)
    )
    refused = await refusal(attempt)
    assert (refused.status, refused.errcode) == (403, "M_GUEST_ACCESS_FORBIDDEN")


async def test_guests_go_when_a_room_takes_them_no_more(server: RunningServer) -> None:
    alice, bob, visitor = await server.user("alice"), await server.user("bob"), await guest(server)
    room_id = await open_room(alice)
    for client in (bob, visitor):
        await client.join(room_id)
    await visitor.sync()
    await alice.set_state(room_id, "m.room.guest_access", {"guest_access": "forbidden"})
    await visitor.sync_until(lambda answer: room_id in answer.get("rooms", {}).get("leave", {}))
    assert await alice.joined_members(room_id) == {alice.user_id, bob.user_id}


async def test_guests_change_only_their_display_name(server: RunningServer) -> None:
    visitor = await guest(server)
    profile = f"/profile/{visitor.user_id}"
    await visitor.put(f"{profile}/displayname", {"displayname": "Passer-by"})
    refused = await refusal(visitor.put(f"{profile}/avatar_url", {"avatar_url": "mxc://x/y"}))
    assert (refused.status, refused.errcode) == (403, "M_GUEST_ACCESS_FORBIDDEN")


async def test_guests_make_no_rooms(server: RunningServer) -> None:
    refused = await refusal((await guest(server)).create_room())
    assert (refused.status, refused.errcode) == (403, "M_GUEST_ACCESS_FORBIDDEN")


async def test_guests_have_no_password_to_change(server: RunningServer) -> None:
    client = await guest(server)
    for path in ("/account/password", "/account/deactivate"):
        refused = await refusal(client.post(path, {"new_password": "new"}))
        assert (refused.status, refused.errcode) == (403, "M_GUEST_ACCESS_FORBIDDEN")


async def test_a_guest_becomes_a_full_user(server: RunningServer) -> None:
    alice, visitor, other = await server.user("alice"), await guest(server), await guest(server)
    room_id = await open_room(alice)
    await visitor.join(room_id)
    name = visitor.user_id[1:].partition(":")[0]
    wish = {
        "username": name,
        "password": PASSWORD,
        "auth": {"type": "m.login.dummy"},
    }
    for token in ("rubbish", other.token, alice.token):
        refused = await refusal(
            server.anonymous().post("/register", {**wish, "guest_access_token": token})
        )
        assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")
    taken = await refusal(server.anonymous().post("/register", wish))
    assert taken.errcode == "M_USER_IN_USE"

    answer = await server.anonymous().post(
        "/register", {**wish, "guest_access_token": visitor.token}
    )

    assert answer["user_id"] == visitor.user_id
    assert (await visitor.get("/account/whoami"))["is_guest"] is False
    member = await server.anonymous().login(name)
    assert (await member.get("/joined_rooms"))["joined_rooms"] == [room_id]
    await member.create_room()
