"""Invites by e-mail address, whose owner turns out to be a user of another server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from nacl.signing import SigningKey

from homeserver.json_types import JsonObject
from homeserver.protocol.events import add_signature, parse_event
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.protocol.signatures import encode_base64
from homeserver.protocol.signatures import sign_json as sign
from tests.federation.conftest import StartPeer, StartServers
from tests.federation.test_receiving import joined_room
from tests.support.client import Client
from tests.support.peer import Peer
from tests.support.remote_room import V1
from tests.support.server import RunningServer

THIRD_PARTY_INVITE = "m.room.third_party_invite"


class IdentityServer:
    """Its key, and what it signs. It is nobody's to ask: the room has the key."""

    def __init__(self) -> None:
        self.key = SigningKey.generate()

    def content(self) -> JsonObject:
        """Of the invite of an address."""
        public = encode_base64(bytes(self.key.verify_key))
        return {
            "display_name": "b...@example.org",
            "key_validity_url": "https://id.test/isvalid",
            "public_key": public,
            "public_keys": [{"public_key": public}],
        }

    def signed(self, user_id: str, token: str = "abc") -> JsonObject:
        return sign({"mxid": user_id, "token": token}, "id.test", "ed25519:0", self.key)

    def bound(self, user_id: str, *invites: tuple[str, str], **more: Any) -> JsonObject:
        """The body of /3pid/onbind: invites as (room id, sender)."""
        third = {"medium": "email", "address": "bob@example.org", "mxid": user_id}
        entries = [
            {**third, "room_id": room_id, "sender": sender, "signed": self.signed(user_id), **more}
            for room_id, sender in invites
        ]
        return {**third, "invites": entries}


async def tell(server: RunningServer, body: JsonObject) -> int:
    """Call /3pid/onbind like an identity server, unsigned."""
    client = await server.user()
    assert server.app is not None
    url = server.app.urls[-1] + f"{V1}/3pid/onbind"
    async with client.http.put(url, json=body, ssl=False) as response:
        return response.status


async def invited(client: Client, room_id: str) -> JsonObject:
    """The member event by which a client is invited."""

    def look(answer: Any) -> JsonObject | None:
        room = answer["rooms"].get("invite", {}).get(room_id)
        state = [] if room is None else room["invite_state"]["events"]
        own = [e for e in state if e.get("state_key") == client.user_id]
        return own[0] if own else None

    return await client.sync_until(look)


@pytest.mark.parametrize("version", ["2", "11", "12"])
async def test_the_inviters_server_is_asked_to_invite(
    start_servers: StartServers, version: str
) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    identity = IdentityServer()
    room_id = await alice.create_room(preset="private_chat", room_version=version)
    await alice.set_state(room_id, THIRD_PARTY_INVITE, identity.content(), "abc")
    body = identity.bound(bob.user_id, (room_id, alice.user_id))
    assert await tell(two, body) == 200
    member = await invited(bob, room_id)
    assert member["sender"] == alice.user_id
    assert member["content"]["third_party_invite"]["display_name"] == "b...@example.org"
    await bob.join(room_id)
    assert bob.user_id in await alice.joined_members(room_id)


async def test_a_server_in_the_room_invites_by_itself(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob, carol = await one.user("alice"), await two.user("bob"), await two.user("carol")
    identity = IdentityServer()
    room_id = await alice.create_room(preset="private_chat")
    await alice.invite(room_id, carol.user_id)
    await invited(carol, room_id)
    await carol.join(room_id)
    await alice.set_state(room_id, THIRD_PARTY_INVITE, identity.content(), "abc")
    sent = await alice.send(room_id, "come")
    await carol.sync_until_event(room_id, sent)
    assert await tell(two, identity.bound(bob.user_id, (room_id, alice.user_id))) == 200
    member = await invited(bob, room_id)
    assert member["sender"] == alice.user_id
    await bob.join(room_id)
    joined = await carol.send(room_id, "bob is here")
    await alice.sync_until_event(room_id, joined)
    assert bob.user_id in await alice.joined_members(room_id)


async def test_a_client_joins_with_the_identity_servers_word(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    identity = IdentityServer()
    room_id = await alice.create_room(preset="private_chat")
    await alice.set_state(room_id, THIRD_PARTY_INVITE, identity.content(), "abc")
    claim = {"mxid": bob.user_id, "sender": alice.user_id, "token": "abc"}
    signed = sign(claim, "id.test", "ed25519:0", identity.key)
    body = {"third_party_signed": signed}
    await bob.request("POST", f"/join/{room_id}", body, query={"via": "one.test"})
    assert bob.user_id in await alice.joined_members(room_id)


async def test_what_isnt_signed_by_the_rooms_identity_server_is_refused(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    identity, other = IdentityServer(), IdentityServer()
    await alice.set_state(room.room_id, THIRD_PARTY_INVITE, identity.content(), "abc")
    carol = f"@carol:{peer.server_name}"
    good = partial(room.room_id, alice.user_id, carol, identity.signed(carol))
    wrong = [
        partial(room.room_id, alice.user_id, carol, other.signed(carol)),
        partial(room.room_id, alice.user_id, carol, identity.signed(carol, "abcd")),
        partial(room.room_id, alice.user_id, carol, identity.signed(room.user_id)),
        partial(room.room_id, room.user_id, carol, identity.signed(carol)),
        partial(room.room_id, alice.user_id, room.user_id, identity.signed(room.user_id)),
    ]
    path = f"{V1}/exchange_third_party_invite/{room.room_id}"
    for body in wrong:
        status, answer = await peer.request("PUT", path, body)
        assert (status, answer["errcode"]) == (403, "M_FORBIDDEN")
    for body in ({**good, "type": "m.room.name"}, {**good, "room_id": "!x:y"}):
        status, answer = await peer.request("PUT", path, body)
        assert (status, answer["errcode"]) == (400, "M_INVALID_PARAM")
    assert peer.asked("/_matrix/federation/v2/invite") == 0


def partial(room_id: str, sender: str, user_id: str, signed: JsonObject) -> JsonObject:
    third_party = {"display_name": "x", "signed": signed}
    return {
        "type": "m.room.member",
        "room_id": room_id,
        "sender": sender,
        "state_key": user_id,
        "content": {"membership": "invite", "third_party_invite": third_party},
    }


@pytest.mark.parametrize(("version", "status"), [("2", 200), ("11", 404)])
async def test_a_server_that_knows_only_the_old_way_is_asked_in_it(
    server: RunningServer, peer: Peer, version: str, status: int
) -> None:
    async def old(request: web.Request) -> web.StreamResponse:
        pdu = json.loads(await request.read())
        event = add_signature(parse_event(pdu, ROOM_VERSIONS["2"]), peer.signer)
        return web.json_response([200, {"event": event.pdu}])

    peer.answer("PUT", "/_matrix/federation/v1/invite", old)
    alice, room = await joined_room(server, peer, version)
    identity = IdentityServer()
    await alice.set_state(room.room_id, THIRD_PARTY_INVITE, identity.content(), "abc")
    carol = f"@carol:{peer.server_name}"
    body = partial(room.room_id, alice.user_id, carol, identity.signed(carol))
    path = f"{V1}/exchange_third_party_invite/{room.room_id}"
    assert (await peer.request("PUT", path, body))[0] == status
    assert peer.asked("/_matrix/federation/v1/invite") == (status == 200)


async def test_a_server_that_isnt_let_in_gets_no_invite(
    server: RunningServer, start_peer: StartPeer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    banned = await start_peer(server)
    acl = {"allow": ["*"], "deny": [banned.server_name], "allow_ip_literals": True}
    await alice.set_state(room.room_id, "m.room.server_acl", acl)
    carol = f"@carol:{banned.server_name}"
    body = partial(room.room_id, alice.user_id, carol, IdentityServer().signed(carol))
    path = f"{V1}/exchange_third_party_invite/{room.room_id}"
    status, answer = await banned.request("PUT", path, body)
    assert (status, answer["errcode"]) == (403, "M_FORBIDDEN")


async def test_of_a_binding_only_invites_of_that_user_are_followed(
    server: RunningServer, peer: Peer
) -> None:
    bob = await server.user("bob")
    identity = IdentityServer()
    peer.answer("PUT", f"{V1}/exchange_third_party_invite", {})
    inviter = f"@alice:{peer.server_name}"
    room_id = f"!room:{peer.server_name}"
    body = identity.bound(bob.user_id, (room_id, inviter), mxid="@other:hs.test")
    body["invites"] += [3, {}, {**body["invites"][0], "mxid": bob.user_id, "signed": {}}]
    assert await tell(server, body) == 200
    assert peer.asked(f"{V1}/exchange_third_party_invite") == 0
    assert await tell(server, identity.bound(bob.user_id, (room_id, inviter))) == 200
    assert peer.asked(f"{V1}/exchange_third_party_invite") == 1
    nobody = identity.bound("@nobody:hs.test", (room_id, inviter))
    assert await tell(server, nobody) == 404
