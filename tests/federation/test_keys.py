"""Keys: ours published, others' fetched and passed on."""

from __future__ import annotations

import json

import pytest
from nacl.signing import SigningKey

from homeserver.clock import now_ms
from homeserver.protocol.canonical_json import encode_lenient
from homeserver.protocol.signatures import (
    Signer,
    decode_verify_key,
    encoded_verify_key,
    sign_json,
    verify_signature,
)
from homeserver.remote import key_fetcher
from tests.conftest import StartServer
from tests.federation.conftest import StartPeer
from tests.support.certificates import Authority
from tests.support.peer import Peer
from tests.support.server import RunningServer

OUR_KEYS = "/_matrix/key/v2/server"
PROFILE = "/_matrix/federation/v1/query/profile?user_id=%40nobody%3Ahs.test"
VERSION = "/_matrix/federation/v1/version"


async def test_our_keys_are_published_and_signed(server: RunningServer) -> None:
    keys = await server.anonymous().get(OUR_KEYS)
    assert keys["server_name"] == server.config.server_name
    assert keys["valid_until_ts"] > now_ms() + 3600 * 1000
    [(key_id, key)] = keys["verify_keys"].items()
    verify_signature(keys, keys["server_name"], key_id, decode_verify_key(key["key"]))


async def test_our_keys_are_written_as_they_were_signed(server: RunningServer) -> None:
    """Verifiers that look for the signed text in what they got find it."""
    client = server.anonymous()
    async with client.http.get(server.url + OUR_KEYS) as response:
        text = await response.read()
    assert text == encode_lenient(json.loads(text))


async def test_the_key_survives_a_restart(server: RunningServer) -> None:
    before = (await server.anonymous().get(OUR_KEYS))["verify_keys"]
    await server.restart()
    assert (await server.anonymous().get(OUR_KEYS))["verify_keys"] == before


async def test_old_keys_are_published(start_server: StartServer) -> None:
    old = {"key_id": "ed25519:old", "key": "A" * 43, "expired_ts": 12}
    server = await start_server(federation={"old_signing_keys": [old]})
    keys = await server.anonymous().get(OUR_KEYS + "/ed25519:old")
    assert keys["old_verify_keys"] == {"ed25519:old": {"key": "A" * 43, "expired_ts": 12}}


async def test_the_version_is_told(server: RunningServer) -> None:
    answer = await server.anonymous().get(VERSION)
    assert answer["server"]["name"] == "homeserver"


async def test_a_notary_passes_keys_on_and_signs_them(server: RunningServer, peer: Peer) -> None:
    client = server.anonymous()
    answer = await client.get(f"/_matrix/key/v2/query/{peer.server_name}")
    [keys] = answer["server_keys"]
    assert keys["verify_keys"] == peer.published_keys()["verify_keys"]
    [key_id] = keys["signatures"][server.config.server_name]
    ours = (await client.get(OUR_KEYS))["verify_keys"][key_id]["key"]
    verify_signature(keys, server.config.server_name, key_id, decode_verify_key(ours))
    again = await client.post(
        "/_matrix/key/v2/query", {"server_keys": {peer.server_name: {"ed25519:peer": {}}}}
    )
    assert again["server_keys"][0]["verify_keys"] == keys["verify_keys"]
    assert peer.asked("/_matrix/key") == 1


async def test_a_notary_asks_again_for_keys_that_are_stale_or_not_valid_for_long_enough(
    server: RunningServer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_fetcher, "ASK_AGAIN_MS", 0)
    path = f"/_matrix/key/v2/query/{peer.server_name}"
    client = server.anonymous()
    await client.get(path)
    await client.get(path, minimum_valid_until_ts=str(now_ms() + 3600_000))
    assert peer.asked("/_matrix/key") == 1
    peer.valid_for_ms *= 3
    until = now_ms() + peer.valid_for_ms // 2
    [keys] = (await client.get(path, minimum_valid_until_ts=str(until)))["server_keys"]
    assert (keys["valid_until_ts"] >= until, peer.asked("/_matrix/key")) == (True, 2)
    peer.valid_for_ms = 2
    await client.get(path, minimum_valid_until_ts=str(2**53))
    query = {peer.server_name: {"ed25519:peer": {"minimum_valid_until_ts": 0}}}
    await client.post("/_matrix/key/v2/query", {"server_keys": query})
    assert peer.asked("/_matrix/key") == 4  # half of its lifetime has passed


async def test_a_notary_says_nothing_about_a_server_that_lies(
    server: RunningServer, peer: Peer
) -> None:
    keys = peer.published_keys()
    peer.answer("GET", OUR_KEYS, {**keys, "valid_until_ts": keys["valid_until_ts"] + 1})
    answer = await server.anonymous().get(f"/_matrix/key/v2/query/{peer.server_name}")
    assert answer == {"server_keys": []}


async def test_keys_of_a_dead_server_come_from_a_notary(
    server: RunningServer,
    start_server: StartServer,
    authority: Authority,
    peer: Peer,
    start_peer: StartPeer,
) -> None:
    notary = await start_peer(server)
    notary_path = "/_matrix/key/v2/query"
    keys = peer.published_keys()
    countersigned = sign_json(keys, notary.server_name, "ed25519:peer", notary.signer.key)
    notary.answer("POST", notary_path, {"server_keys": [countersigned]})
    peer.answer("GET", OUR_KEYS, {"errcode": "M_UNKNOWN", "error": "broken"}, status=500)
    second = await start_server(
        server_name="second.test",
        outgoing={"ca_file": str(authority.ca_file)},
        federation={"notaries": [notary.server_name]},
    )
    answer = await second.anonymous().get(f"/_matrix/key/v2/query/{peer.server_name}/ed25519:peer")
    [told] = answer["server_keys"]
    assert told["verify_keys"] == keys["verify_keys"]
    assert notary.asked(notary_path) == 1


async def test_an_expired_key_signs_no_requests(server: RunningServer, peer: Peer) -> None:
    peer.valid_for_ms = -1000
    status, body = await peer.request("GET", PROFILE)
    assert (status, body["errcode"]) == (401, "M_UNAUTHORIZED")


@pytest.mark.parametrize("expires_in", [-1000, 3_600_000])
async def test_an_old_key_signs_no_requests(
    server: RunningServer, peer: Peer, expires_in: int
) -> None:
    old = Signer(peer.server_name, "ed25519:old", SigningKey.generate())
    peer.old_verify_keys = {
        "ed25519:old": {"key": encoded_verify_key(old.key), "expired_ts": now_ms() + expires_in}
    }
    current, peer.signer = peer.signer, old
    header = peer.header("GET", PROFILE)
    peer.signer = current
    status, _ = await peer.request("GET", PROFILE, header=header)
    assert status == 401
