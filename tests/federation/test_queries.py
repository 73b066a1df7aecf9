"""What servers ask each other: profiles, the directory, spaces, states, who is asked what."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from aiohttp import web

from homeserver.json_types import JsonObject
from tests.federation.conftest import StartPeer, StartServers
from tests.federation.test_receiving import joined_room
from tests.support.client import PASSWORD, Refused, refusal
from tests.support.peer import Peer
from tests.support.remote_room import RemoteRoom
from tests.support.server import RunningServer

V1 = "/_matrix/federation/v1"


async def test_profiles_and_aliases_of_other_servers(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    assert (await bob.get(f"/profile/{alice.user_id}"))["displayname"] == "alice"
    with pytest.raises(Refused) as refused:
        await bob.get("/profile/@nobody:one.test")
    assert refused.value.status == 404
    assert (await two.anonymous().get(f"/profile/{alice.user_id}"))["displayname"] == "alice"
    room_id = await alice.create_room(preset="public_chat", room_alias_name="hall")
    await bob.join("#hall:one.test")
    assert room_id in (await bob.get("/joined_rooms"))["joined_rooms"]


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"displayname": "\xff"}', b"[]", b""])
async def test_an_answer_that_cannot_be_read_is_no_answer(
    server: RunningServer, peer: Peer, body: bytes
) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    peer.answer("GET", f"{V1}/query/profile", answer)
    alice = await server.user("alice")
    refused = await refusal(alice.get(f"/profile/@bob:{peer.server_name}"))
    assert refused.status == 502


async def test_the_public_rooms_of_another_server(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(visibility="public", name="hall")
    answer = await bob.get("/publicRooms", server="one.test")
    assert [room["room_id"] for room in answer["chunk"]] == [room_id]


async def test_a_space_with_rooms_of_two_servers(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    space = await alice.create_room(preset="public_chat", creation_content={"type": "m.space"})
    public = await alice.create_room(preset="public_chat", name="public")
    private = await alice.create_room(name="private")
    for child in (public, private):
        await alice.set_state(space, "m.space.child", {"via": ["one.test"]}, child)
    await bob.request("POST", f"/join/{space}", {}, query={"via": "one.test"})
    answer = await bob.get(f"/_matrix/client/v1/rooms/{quote(space)}/hierarchy")
    assert [room["room_id"] for room in answer["rooms"]] == [space, public]
    assert answer["rooms"][1]["name"] == "public"


async def test_a_restricted_room_elsewhere_is_shown_to_those_who_may_join(
    start_servers: StartServers,
) -> None:
    one, two = await start_servers("one", "two")
    alice, bob, carol = await one.user("alice"), await two.user("bob"), await two.user("carol")
    club = await alice.create_room(preset="public_chat")
    allow = [{"type": "m.room_membership", "room_id": club}]
    rule = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    room_id = await alice.create_room(initial_state=[rule])
    space = await bob.create_room(preset="public_chat", creation_content={"type": "m.space"})
    await bob.set_state(space, "m.space.child", {"via": ["one.test"]}, room_id)
    await carol.join(space)
    await bob.request("POST", f"/join/{club}", {}, query={"via": "one.test"})
    for client, rooms in ((bob, [space, room_id]), (carol, [space])):
        answer = await client.get(f"/_matrix/client/v1/rooms/{quote(space)}/hierarchy")
        assert [room["room_id"] for room in answer["rooms"]] == rooms


async def test_what_a_server_says_of_others_rooms_counts_nowhere_else(
    server: RunningServer, start_peer: StartPeer
) -> None:
    honest, liar = await start_peer(server), await start_peer(server)
    club, theirs = f"!club:{honest.server_name}", f"!theirs:{liar.server_name}"
    lost = f"!lost:{honest.server_name}"
    room = {"room_id": theirs, "room_type": "m.space", "children_state": [], "name": ["no text"]}
    lies = {"children": [{"room_id": club, "name": "a trap"}], "inaccessible_children": [lost]}
    liar.answer("GET", f"{V1}/hierarchy/", {"room": room, **lies})
    for room_id in (club, lost):
        told = {"room_id": room_id, "name": "real", "num_joined_members": "many"}
        path = f"{V1}/hierarchy/{quote(room_id, '')}"
        honest.answer("GET", path, {"room": {**told, "children_state": [7]}, "children": []})
    alice = await server.user("alice")
    spaces = [await alice.create_room(creation_content={"type": "m.space"}) for _ in range(2)]
    await alice.set_state(spaces[0], "m.space.child", {"via": [liar.server_name]}, theirs)
    for room_id in (club, lost):
        content = {"via": [honest.server_name, 7]}
        await alice.set_state(spaces[1], "m.space.child", content, room_id)
    found = [
        (await alice.get(f"/_matrix/client/v1/rooms/{quote(space)}/hierarchy"))["rooms"][1:]
        for space in spaces
    ]
    assert [(r["room_id"], r.get("name"), r["num_joined_members"]) for r in found[0]] == [
        (theirs, None, 0)
    ]
    assert [(r["room_id"], r["name"], r["num_joined_members"]) for r in found[1]] == [
        (club, "real", 0),
        (lost, "real", 0),
    ]


async def test_rooms_that_we_left_or_keep_to_ourselves_are_told_nothing_of(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    space = await alice.create_room(preset="public_chat", creation_content={"type": "m.space"})
    ours = await alice.create_room(preset="public_chat", creation_content={"m.federate": False})
    for child in (room.room_id, ours):
        await alice.set_state(space, "m.space.child", {"via": ["hs.test"]}, child)
    path = f"{V1}/hierarchy/{quote(space, '')}"
    _, answer = await peer.request("GET", path)
    assert [child["room_id"] for child in answer["children"]] == [room.room_id]
    assert answer["inaccessible_children"] == [ours]
    await alice.leave(room.room_id)
    _, answer = await peer.request("GET", path)
    assert (answer["children"], answer["inaccessible_children"]) == ([], [ours])


async def test_of_another_directory_clients_are_told_what_they_can_read(
    server: RunningServer, peer: Peer
) -> None:
    room_id = f"!a:{peer.server_name}"
    listed = {"room_id": room_id, "name": 7, "topic": "t", "num_joined_members": None, "x": {}}
    chunk = [listed, {"name": "no id"}, 7]
    answer = {"chunk": chunk, "next_batch": 7, "total_room_count_estimate": 3}
    peer.answer("GET", f"{V1}/publicRooms", answer)
    alice = await server.user("alice")
    shown = await alice.get("/publicRooms", server=peer.server_name)
    flags = {"world_readable": False, "guest_can_join": False}
    room = {"room_id": room_id, "topic": "t", "num_joined_members": 0, **flags}
    assert shown == {"chunk": [room], "total_room_count_estimate": 3}


@pytest.mark.parametrize(
    ("asked", "query"),
    [
        ({"include_all_networks": True}, "include_all_networks=true"),
        ({"third_party_instance_id": "irc"}, "third_party_instance_id=irc"),
    ],
)
async def test_another_directory_is_asked_for_the_same_network(
    server: RunningServer, peer: Peer, asked: JsonObject, query: str
) -> None:
    peer.answer("GET", f"{V1}/publicRooms", {"chunk": []})
    alice = await server.user("alice")
    assert await alice.post("/publicRooms", asked, server=peer.server_name) == {"chunk": []}
    assert query in peer.requests[-1][1]


@pytest.mark.parametrize("user_id", ["@alice:elsewhere.test", "alice", "@alice"])
async def test_only_profiles_of_our_own_users_are_told(peer: Peer, user_id: str) -> None:
    path = f"{V1}/query/profile?user_id={quote(user_id, '')}"
    status, answer = await peer.request("GET", path)
    assert (status, answer["errcode"]) == (400, "M_INVALID_PARAM")


async def test_states_and_events_are_for_servers_in_the_room(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    event_id = await alice.send(room.room_id, "hello")
    path = quote(room.room_id, "")
    query = f"event_id={quote(event_id, '')}"
    status, answer = await peer.request("GET", f"{V1}/state_ids/{path}?{query}")
    assert status == 200
    assert set(room.state.values()) <= set(answer["pdu_ids"])
    status, full = await peer.request("GET", f"{V1}/state/{path}?{query}")
    assert (status, len(full["pdus"])) == (200, len(answer["pdu_ids"]))
    status, answer = await peer.request("GET", f"{V1}/event/{quote(event_id, '')}")
    assert answer["pdus"][0]["content"]["body"] == "hello"
    status, answer = await peer.request("GET", f"{V1}/event_auth/{path}/{quote(event_id, '')}")
    assert (status, bool(answer["auth_chain"])) == (200, True)
    other = await alice.create_room(preset="public_chat")
    for wanted in ("state_ids", "state", "backfill", "state_ids/", "state/", "backfill/"):
        name, slash, _ = wanted.partition("/")  # servers of old ask with a slash at the end
        url = f"{V1}/{name}/{quote(other, '')}{slash}?{query}"
        status, answer = await peer.request("GET", url)
        assert (status, answer["errcode"]) == (403, "M_FORBIDDEN")


async def test_what_a_server_may_not_see_is_redacted(server: RunningServer, peer: Peer) -> None:
    alice = await server.user()
    joined = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room_id = await alice.create_room(preset="public_chat", initial_state=[joined])
    secret = await alice.send(room_id, "secret")
    room = RemoteRoom(peer, room_id, f"@bob:{peer.server_name}")
    await room.join()
    shown = await alice.send(room_id, "hello")
    for event_id, content in ((secret, {}), (shown, {"msgtype": "m.text", "body": "hello"})):
        _, answer = await peer.request("GET", f"{V1}/event/{quote(event_id, '')}")
        assert answer["pdus"][0]["content"] == content


async def test_events_of_erased_users_are_served_redacted(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    bob = await server.user("bob")  # the server stays in the room
    await bob.join(room.room_id)
    event_id = await alice.send(room.room_id, "secret")
    path = f"{V1}/event/{quote(event_id, '')}"
    _, answer = await peer.request("GET", path)
    assert answer["pdus"][0]["content"]["body"] == "secret"
    password = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": alice.user_id},
        "password": PASSWORD,
    }
    await alice.post("/account/deactivate", {"auth": password, "erase": True})
    _, answer = await peer.request("GET", path)
    assert answer["pdus"][0]["content"] == {}


async def test_backfill_and_missing_events(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    ids = [await alice.send(room.room_id, f"{number}") for number in range(5)]
    path = quote(room.room_id, "")
    _, answer = await peer.request("GET", f"{V1}/backfill/{path}?v={quote(ids[-1], '')}&limit=3")
    assert [pdu["content"]["body"] for pdu in answer["pdus"]] == ["4", "3", "2"]
    body = {"earliest_events": [ids[0]], "latest_events": [ids[4]], "limit": 10, "min_depth": 0}
    _, answer = await peer.request("POST", f"{V1}/get_missing_events/{path}", body)
    assert [pdu["content"]["body"] for pdu in answer["events"]] == ["1", "2", "3"]


async def test_a_room_elsewhere_is_summarised(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    options = {"preset": "public_chat", "name": "far", "room_alias_name": "far"}
    room_id = await alice.create_room(**options)
    secret = await alice.create_room(name="secret")
    summary = "/_matrix/client/v1/room_summary/"
    by_id = await bob.get(summary + quote(room_id), via="one.test")
    assert (by_id["name"], by_id["membership"]) == ("far", "leave")
    assert await bob.get(summary + quote("#far:one.test")) == by_id
    for client, name in ((bob, secret), (two.anonymous(), room_id)):
        refused = await refusal(client.get(summary + quote(name), via="one.test"))
        assert refused.status == 404
