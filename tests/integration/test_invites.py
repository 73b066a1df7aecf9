"""Unwanted invites, ignored users, invites by third-party id."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from nacl.signing import SigningKey
from signedjson.sign import sign_json

from homeserver.protocol.signatures import encode_base64
from tests.support.client import Client, bodies, refusal, timeline
from tests.support.server import RunningServer

CONFIG = "m.invite_permission_config"


async def set_account_data(client: Client, type_: str, content: Any) -> None:
    await client.put(f"/user/{client.user_id}/account_data/{type_}", content)


async def ignore(client: Client, *users: Client) -> None:
    ignored: Any = {user.user_id: {} for user in users}
    await set_account_data(client, "m.ignored_user_list", {"ignored_users": ignored})


def invites(answer: Any) -> set[str]:
    return set(answer.get("rooms", {}).get("invite", {}))


async def test_who_blocks_invites_gets_none(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    early = await alice.create_room(invite=[bob.user_id])
    assert invites(await bob.sync()) == {early}
    await set_account_data(bob, CONFIG, {"default_action": "block"})
    room_id = await alice.create_room()
    by_state = alice.set_state(room_id, "m.room.member", {"membership": "invite"}, bob.user_id)
    for attempt in (
        alice.invite(room_id, bob.user_id),
        by_state,
        alice.create_room(invite=[bob.user_id]),
    ):
        refused = await refusal(attempt)
        assert (refused.status, refused.errcode) == (403, "M_INVITE_BLOCKED")
    bob.next_batch = None
    assert invites(await bob.sync()) == set()
    await set_account_data(bob, CONFIG, {})
    await alice.invite(room_id, bob.user_id)
    bob.next_batch = None
    assert invites(await bob.sync()) == {early, room_id}


@pytest.mark.parametrize(
    ("lists", "outcome"),
    [
        ({"blocked_users": ["@alice:*"]}, "blocked"),
        ({"blocked_servers": ["hs.*"]}, "blocked"),
        ({"ignored_servers": ["hs.test"]}, "ignored"),
        ({"blocked_servers": ["*"], "allowed_users": ["@alice:hs.test"]}, "shown"),
        ({"blocked_users": ["@ali?e:hs.test"], "allowed_servers": ["hs.test"]}, "blocked"),
        ({"ignored_users": ["@alice:hs.test"], "blocked_users": ["*"]}, "ignored"),
        ({"blocked_users": "all of them", "blocked_servers": [1, "other.test"]}, "shown"),
    ],
)
async def test_invites_are_filtered_by_lists(
    server: RunningServer, lists: Any, outcome: str
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    await set_account_data(bob, "org.matrix.msc4155.invite_permission_config", lists)
    room_id = await alice.create_room()
    if outcome == "blocked":
        refused = await refusal(alice.invite(room_id, bob.user_id))
        assert (refused.status, refused.errcode) == (403, "M_INVITE_BLOCKED")
    else:
        await alice.invite(room_id, bob.user_id)
    assert invites(await bob.sync()) == ({room_id} if outcome == "shown" else set())


async def test_invites_of_ignored_users_are_not_shown(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    await ignore(bob, alice)
    await bob.sync()
    room_id = await alice.create_room(invite=[bob.user_id])
    assert invites(await bob.sync()) == set()
    body = {"lists": {"all": {"ranges": [[0, 9]], "timeline_limit": 1, "required_state": []}}}
    path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
    assert (await bob.post(path, body))["rooms"] == {}
    await ignore(bob)
    bob.next_batch = None
    assert invites(await bob.sync()) == {room_id}
    assert set((await bob.post(path, body))["rooms"]) == {room_id}


async def test_messages_of_ignored_users_are_not_shown_but_their_state_is(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await bob.sync()
    await ignore(bob, alice)
    await alice.send(room_id, "hidden")
    await alice.set_state(room_id, "m.room.name", {"name": "shown"})
    await bob.send(room_id, "my own")
    events = timeline(await bob.sync(), room_id)
    assert bodies(events) == ["my own"]
    assert [e["content"]["name"] for e in events if e["type"] == "m.room.name"] == ["shown"]
    await ignore(bob)
    bob.next_batch = None
    assert bodies(timeline(await bob.sync(), room_id)) == ["hidden", "my own"]


@pytest.mark.parametrize("content", [{"ignored_users": 3}, {}, {"ignored_users": {"x": 1}}])
async def test_an_odd_list_of_ignored_users_does_no_harm(
    server: RunningServer, content: Any
) -> None:
    alice = await server.user("alice")
    await set_account_data(alice, "m.ignored_user_list", content)
    room_id = await alice.create_room()
    await alice.send(room_id, "here")
    assert bodies(timeline(await alice.sync(), room_id)) == ["here"]


def signed_for(user: Client, sender: Client, key: Any, token: str = "abc") -> Any:
    key.alg, key.version = "ed25519", "0"
    claim = {"mxid": user.user_id, "sender": sender.user_id, "token": token}
    return sign_json(claim, "id.test", key)


async def third_party_invite(inviter: Client, room_id: str, key: SigningKey) -> None:
    public = encode_base64(bytes(key.verify_key))
    content = {
        "display_name": "b...@example.org",
        "key_validity_url": "https://id.test/isvalid",
        "public_key": public,
        "public_keys": [{"public_key": public}],
    }
    await inviter.set_state(room_id, "m.room.third_party_invite", content, "abc")


async def test_an_invite_by_mail_is_accepted_with_its_signature(server: RunningServer) -> None:
    alice, bob, carol = [await server.user(name) for name in ("alice", "bob", "carol")]
    room_id = await alice.create_room()
    key = SigningKey.generate()
    await third_party_invite(alice, room_id, key)
    signed = signed_for(bob, alice, key)
    for client, claim in (
        (carol, signed),
        (bob, signed_for(bob, alice, SigningKey.generate())),
        (bob, signed_for(bob, alice, key, "other")),
        (bob, {**signed, "token": "ab"}),
    ):
        refused = await refusal(client.join(room_id, third_party_signed=claim))
        assert refused.errcode == "M_FORBIDDEN"
    await bob.join(room_id, third_party_signed=signed)
    assert bob.user_id in await alice.joined_members(room_id)


@pytest.mark.parametrize("signed", [{}, {"token": 3, "signatures": {}}, "x"])
async def test_a_malformed_third_party_signature_is_bad_json(
    server: RunningServer, signed: Any
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room()
    refused = await refusal(bob.join(room_id, third_party_signed=signed))
    assert refused.errcode == "M_BAD_JSON"


async def test_identity_servers_are_not_trusted(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    third_party = {
        "id_server": "id.test",
        "id_access_token": "x",
        "medium": "email",
        "address": "bob@example.org",
    }
    by_mail = await refusal(alice.post(f"/rooms/{room_id}/invite", third_party))
    assert (by_mail.status, by_mail.errcode) == (403, "M_SERVER_NOT_TRUSTED")
    created = await refusal(alice.create_room(invite_3pid=[third_party]))
    assert created.errcode == "M_SERVER_NOT_TRUSTED"


async def test_a_new_room_has_only_so_many_invites(server: RunningServer) -> None:
    alice = await server.user("alice")
    many = [f"@user{number}:hs.test" for number in range(101)]
    refused = await refusal(alice.create_room(invite=many))
    assert (refused.status, refused.errcode) == (400, "M_INVALID_PARAM")
    assert (await alice.get("/joined_rooms"))["joined_rooms"] == []
    # Who is named twice, or made the room, is no invite more.
    room_id = await alice.create_room(invite=[*many[:100], many[0], alice.user_id])
    members = await alice.get(f"/rooms/{quote(room_id)}/members", membership="invite")
    assert len(members["chunk"]) == 100
