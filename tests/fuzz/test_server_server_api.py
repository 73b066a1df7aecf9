"""A hostile server's EDUs and requests: no 5xx, nothing logged as our error, nobody else disturbed.

FUZZ_SEED repeats a run, FUZZ_CASES asks more often.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
import structlog

from homeserver.clock import now_ms
from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import CanonicalJsonError
from homeserver.protocol.events import Event, sign_pdu
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.room_versions import ROOM_VERSIONS
from tests.federation.conftest import authority, peer, server, start_peer
from tests.federation.test_receiving import EVERYBODY_MAY, joined_room
from tests.support.client import Client
from tests.support.peer import Peer
from tests.support.remote_room import V1, V2, RemoteRoom
from tests.support.server import RunningServer

__all__ = ["authority", "peer", "server", "start_peer"]

SEED = int(os.environ.get("FUZZ_SEED", "1"))
CASES = int(os.environ.get("FUZZ_CASES", "4"))
TRANSACTION = 99
WORDS = (
    *("", "\0", "x" * 300, "a/b", "ü💣", "@", "@:", "$", "$x", "!", "*", "main", "true"),
    *("offline", "online", "ed25519:x", "mxc://a/b", "12", "n0_1", "-1", "1e400"),
)
NUMBERS = (0, -1, 1, 2**31, 2**53 - 1, 1 - 2**53)
CONTAINERS: tuple[Any, ...] = ([], {}, [[]], [{}], {"": {}}, {"a": [None]}, [1, "a", None])


def junk(random: Random) -> Any:
    """A value that nobody expects."""
    kind: tuple[Any, ...] = random.choice((WORDS, NUMBERS, CONTAINERS, (None, True, False)))
    return copy.deepcopy(random.choice(kind))


def mutated(random: Random, value: Any) -> Any:
    """The value with something in it replaced, renamed, left out or added."""
    if not isinstance(value, dict | list) or not value or random.random() < 0.12:
        return junk(random)
    value = copy.copy(value)
    key = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
    match random.randrange(8):
        case 0:
            del value[key]
        case 1 if isinstance(value, dict):
            value[random.choice(WORDS)] = value.pop(key)
        case 2 if isinstance(value, dict):
            value[random.choice(WORDS)] = junk(random)
        case _:
            value[key] = mutated(random, value[key])
    return value


@contextmanager
def without_errors() -> Iterator[None]:
    """Fails if we log an error meanwhile, and shows it."""
    with structlog.testing.capture_logs([structlog.processors.format_exc_info]) as lines:
        try:
            yield
        finally:
            errors = [line for line in lines if line["log_level"] in ("error", "critical")]
            assert not errors, "\n".join(f"{line}\n{line.get('exception')}" for line in errors)


def device_keys(user_id: str) -> JsonObject:
    return {
        "user_id": user_id,
        "device_id": "PHONE",
        "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": {"ed25519:PHONE": "x" * 43, "curve25519:PHONE": "y" * 43},
        "signatures": {user_id: {"ed25519:PHONE": "z" * 86}},
    }


def edus_of(room: RemoteRoom, event_id: str, alice: str) -> list[JsonObject]:
    """One EDU of each type as it should be."""
    bob = room.user_id
    cross = {"user_id": bob, "usage": ["master"], "keys": {"ed25519:" + "m" * 43: "m" * 43}}
    receipt = {"event_ids": [event_id], "data": {"ts": 7, "thread_id": "main"}}
    presence = {"user_id": bob, "presence": "online", "last_active_ago": 5, "status_msg": "here"}
    device = {"user_id": bob, "device_id": "PHONE", "stream_id": 5, "prev_id": [4]}
    messages = {alice: {"*": {"body": "x"}, "DEVICE": {}}}
    contents: dict[str, JsonObject] = {
        "m.typing": {"room_id": room.room_id, "user_id": bob, "typing": True},
        "m.receipt": {room.room_id: {"m.read": {bob: receipt}}},
        "m.presence": {"push": [presence, presence]},
        "m.device_list_update": {
            **device,
            "device_display_name": "Phone",
            "deleted": False,
            "keys": device_keys(bob),
        },
        "m.direct_to_device": {
            "sender": bob,
            "type": "org.x",
            "message_id": "1",
            "messages": messages,
        },
        "m.signing_key_update": {
            "user_id": bob,
            "master_key": cross,
            "self_signing_key": {**cross, "usage": ["self_signing"]},
        },
    }
    return [{"edu_type": name, "content": content} for name, content in contents.items()]


async def told(alice: Client, edu_type: str) -> set[str]:
    answer = await alice.sync()
    events = answer.get("to_device", {}).get("events", [])
    return {event["type"] for event in events if event["type"] == edu_type}


async def test_no_edu_does_harm_or_stops_those_after_it(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    event_id = await alice.send(room.room_id, "hello")
    devices = {"user_id": room.user_id, "stream_id": 4, "devices": []}
    peer.answer("GET", f"{V1}/user/devices/", devices)
    await alice.post("/keys/query", {"device_keys": {room.user_id: []}})  # from now on followed
    good = edus_of(room, event_id, alice.user_id)
    random = Random(SEED)
    with without_errors():
        for number in range(3 * CASES):
            edus = [mutated(random, random.choice(good)) for _ in range(TRANSACTION)]
            content = good[4]["content"] | {"message_id": f"last{number}", "type": f"org.{number}"}
            body = {"pdus": [], "edus": [*edus, {**good[4], "content": content}]}
            status, answer = await peer.request("PUT", f"{V1}/send/fuzz{number}", body)
            assert (status, answer) == (200, {"pdus": {}})
            assert await told(alice, f"org.{number}")
        await alice.post("/keys/query", {"device_keys": {room.user_id: []}})


def resigned(room: RemoteRoom, pdu: Any) -> Any:
    """The PDU as its server would have made it, if it can be signed at all."""
    try:
        unsigned = {k: v for k, v in pdu.items() if k not in ("hashes", "signatures")}
        return sign_pdu(unsigned, ROOM_VERSIONS[room.version], room.peer.signer).pdu
    except (Rejected, CanonicalJsonError, KeyError, TypeError, AttributeError, ValueError):
        return pdu


def some_events(room: RemoteRoom, root: str) -> list[Event]:
    """What others than members make of an event: relations, searches, notifications, names."""
    message = {"msgtype": "m.text", "body": "hello"}
    relations: list[JsonObject] = [
        {"rel_type": "m.thread", "event_id": root, "m.in_reply_to": {"event_id": root}},
        {"rel_type": "m.replace", "event_id": root},
        {"rel_type": "m.annotation", "event_id": root, "key": "x"},
    ]
    member = {"membership": "join", "displayname": "Bob", "avatar_url": "mxc://a/b"}
    mentions = {**message, "m.mentions": {"user_ids": [room.user_id], "room": True}}
    new_content = {**message, "m.new_content": message, "m.relates_to": relations[1]}
    state: dict[str, JsonObject] = {
        "m.room.name": {"name": "x"},
        "m.room.topic": {"topic": "x", "m.topic": {"m.text": [{"body": "x"}]}},
        "m.room.avatar": {"url": "mxc://a/b"},
        "m.room.canonical_alias": {"alias": "#a:b.test", "alt_aliases": ["#a:b.test"]},
        "m.room.encryption": {"algorithm": "x"},
        "m.room.history_visibility": {"history_visibility": "shared"},
        "m.room.guest_access": {"guest_access": "can_join"},
        "m.room.policy": {"via": "x", "public_keys": {"ed25519": "x"}},
        "m.room.pinned_events": {"pinned": [root]},
        "m.space.child": {"via": ["a.test"], "order": "x"},
    }
    return [
        *(room.make("m.room.message", {**message, "m.relates_to": r}) for r in relations),
        *(room.make("m.room.message", content) for content in (mentions, new_content)),
        *(room.make(name, content, state_key="") for name, content in state.items()),
        room.make("m.room.member", member, state_key=room.user_id),
        room.make("m.room.redaction", {"redacts": root}, redacts=root),
    ]


@pytest.mark.parametrize("version", ["1", "6", "12"])
async def test_no_pdu_does_harm_or_stops_those_after_it(
    server: RunningServer, peer: Peer, version: str
) -> None:
    options = {"power_level_content_override": EVERYBODY_MAY}
    alice, room = await joined_room(server, peer, version, **options)
    root = await alice.send(room.room_id, "root")
    good = some_events(room, root)
    random = Random(SEED)
    with without_errors():
        for number in range(2 * CASES):
            pdus = [mutated(random, random.choice(good).pdu) for _ in range(49)]
            last = room.message(f"last {number}")
            body = {"pdus": [*(resigned(room, pdu) for pdu in pdus), last.pdu], "edus": []}
            status, answer = await peer.request("PUT", f"{V1}/send/fuzz{number}", body)
            assert (status, answer["pdus"][last.event_id]) == (200, {})
            await alice.event(room.room_id, last.event_id)
            await alice.sync()


def requests_of(room: RemoteRoom, event_id: str, alice: str) -> list[tuple[str, list[str], Any]]:
    """Method, path in pieces (identifiers to be quoted, and queries), and body of each endpoint."""
    room_id, bob, name = room.room_id, room.user_id, room.peer.destination
    member = room.make("m.room.member", {"membership": "leave"}, state_key=bob).pdu
    ids = {"earliest_events": [], "latest_events": [event_id], "limit": 10, "min_depth": 0}
    signed = {"mxid": alice, "sender": bob, "token": "t", "signatures": {name: {"ed25519:0": "x"}}}
    third_party = {
        "type": "m.room.member",
        "room_id": room_id,
        "sender": bob,
        "state_key": alice,
        "content": {"membership": "invite", "third_party_invite": {"signed": signed}},
    }
    bound = {"mxid": alice, "invites": [{**third_party, "mxid": alice, "signed": signed}]}
    invite = {"event": member, "room_version": "12", "invite_room_state": [member]}
    directory = {
        "limit": 3,
        "since": "n0_1",
        "filter": {"generic_search_term": "x", "room_types": [None, "m.space"]},
        "include_all_networks": False,
        "third_party_instance_id": "x",
    }
    key = "/_matrix/key/v2"
    until = {"minimum_valid_until_ts": now_ms()}
    return [
        ("GET", [f"{key}/query", bob.partition(":")[2], "?minimum_valid_until_ts=", "5"], None),
        ("POST", [f"{key}/query"], {"server_keys": {name: {"ed25519:x": until}, "a.b": {}}}),
        ("GET", [f"{V1}/event", event_id], None),
        ("GET", [f"{V1}/state", room_id, "?event_id=", event_id], None),
        ("GET", [f"{V1}/state_ids", room_id, "?event_id=", event_id], None),
        ("GET", [f"{V1}/event_auth", room_id, event_id], None),
        ("GET", [f"{V1}/backfill", room_id, "?v=", event_id, "&limit=", "5"], None),
        ("POST", [f"{V1}/get_missing_events", room_id], ids),
        ("GET", [f"{V1}/timestamp_to_event", room_id, "?ts=", "5", "&dir=", "b"], None),
        ("GET", [f"{V1}/make_join", room_id, bob, "?ver=", "12"], None),
        ("GET", [f"{V1}/make_leave", room_id, bob], None),
        ("GET", [f"{V1}/make_knock", room_id, bob, "?ver=", "12"], None),
        ("PUT", [f"{V2}/send_join", room_id, event_id, "?omit_members=", "true"], member),
        ("PUT", [f"{V2}/send_leave", room_id, event_id], member),
        ("PUT", [f"{V1}/send_knock", room_id, event_id], member),
        ("PUT", [f"{V2}/invite", room_id, event_id], invite),
        ("PUT", [f"{V1}/invite", room_id, event_id], member),
        ("PUT", [f"{V1}/exchange_third_party_invite", room_id], third_party),
        ("PUT", [f"{V1}/3pid/onbind"], bound),
        ("GET", [f"{V1}/query/profile", "?user_id=", alice, "&field=", "displayname"], None),
        ("GET", [f"{V1}/query/directory", "?room_alias=", f"#x:{name}"], None),
        ("GET", [f"{V1}/publicRooms", "?limit=", "5", "&since=", "n0_1"], None),
        ("POST", [f"{V1}/publicRooms"], directory),
        ("GET", [f"{V1}/hierarchy", room_id, "?suggested_only=", "true"], None),
        ("GET", [f"{V1}/user/devices", alice], None),
        ("POST", [f"{V1}/user/keys/query"], {"device_keys": {alice: ["DEVICE"], bob: []}}),
        ("POST", [f"{V1}/user/keys/claim"], {"one_time_keys": {alice: {"D": "signed_curve25519"}}}),
        ("GET", [f"{V1}/media/download", "media", "?timeout_ms=", "5"], None),
        ("GET", [f"{V1}/media/thumbnail", "media", "?width=", "9", "&height=", "9"], None),
        ("GET", [f"{V1}/openid/userinfo", "?access_token=", "x"], None),
        ("PUT", [f"{V1}/send", "1"], {"pdus": [member], "edus": []}),
    ]


def path_of(random: Random, pieces: list[str]) -> str:
    """The path; one of its identifiers is exchanged now and then."""
    path = ""
    for piece in pieces:
        if piece.startswith(("/_matrix", "?", "&")):
            path += piece
            continue
        text = random.choice(WORDS) if random.random() < 0.2 else piece
        path += ("" if path.endswith("=") else "/") + quote(text, safe="")
    return path


@pytest.mark.parametrize("part", [0, 1])
async def test_no_request_of_a_server_fails_by_our_fault(
    server: RunningServer, peer: Peer, part: int
) -> None:
    alice, room = await joined_room(server, peer)
    event_id = await alice.send(room.room_id, "hello")
    random = Random(SEED + part)
    for method, pieces, body in requests_of(room, event_id, alice.user_id)[part::2]:
        for _ in range(2 * CASES):
            content = body if random.random() < 0.1 else mutated(random, body)
            content = None if body is None else content
            path = path_of(random, pieces)
            with without_errors():
                status, answer = await peer.request(method, path, content)
            case = (SEED, method, path, content, status, answer)
            assert status in (200, 504) or 400 <= status < 500, case
            assert status == 200 or isinstance(answer["errcode"], str), case
