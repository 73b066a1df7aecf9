"""PDUs come in: what becomes of good ones and bad ones."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

import pytest

from homeserver.errors import Unavailable
from homeserver.json_types import JsonObject
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.protocol.state_resolution.auth_graph import AuthGraph
from homeserver.store.auth_chains import ChainLink
from homeserver.store.database import Connection
from homeserver.stream import resolve
from homeserver.stream.live_room import LiveRoom
from tests.support.client import Client, Refused, bodies, timeline
from tests.support.peer import Peer
from tests.support.remote_room import RemoteRoom
from tests.support.server import RunningServer

EVERYBODY_MAY = {"users_default": 100}


async def joined_room(
    server: RunningServer, peer: Peer, version: str = "12", **options: object
) -> tuple[Client, RemoteRoom]:
    """A public room of ours that a user of the peer's is in."""
    alice = await server.user()
    room_id = await alice.create_room(preset="public_chat", room_version=version, **options)
    room = RemoteRoom(peer, room_id, f"@bob:{peer.server_name}")
    await room.join()
    await alice.sync()
    return alice, room


async def is_shown(client: Client, room: RemoteRoom, event_id: str) -> bool:
    try:
        await client.event(room.room_id, event_id)
    except Refused:
        return False
    return True


@pytest.mark.parametrize("version", list(ROOM_VERSIONS))
async def test_a_remote_user_joins_and_speaks(
    server: RunningServer, peer: Peer, version: str
) -> None:
    alice, room = await joined_room(server, peer, version)
    member = await alice.state(room.room_id, "m.room.member", room.user_id)
    assert member["membership"] == "join"
    event = await room.say("hello")
    shown = await alice.sync_until_event(room.room_id, event.event_id)
    assert shown["content"]["body"] == "hello"
    assert shown["sender"] == room.user_id


async def test_a_message_and_its_answer(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    await room.say("one")
    await alice.send(room.room_id, "two")
    await room.say("three")  # on a fork: the peer has not seen "two"
    answer = await alice.messages(room.room_id)
    assert bodies(answer["chunk"])[:3] == ["three", "two", "one"]


async def test_a_repeated_transaction_changes_nothing(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    event = await room.say("once")
    assert await room.send(event) == {event.event_id: {}}
    answer = await alice.messages(room.room_id)
    assert bodies(answer["chunk"]).count("once") == 1


async def test_a_transaction_in_disorder_is_put_in_order(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    events = []
    for text in ("one", "two", "three"):
        events.append(room.message(text))
        room.add(events[-1])
    await room.send(*reversed(events))
    answer = await alice.sync()
    assert bodies(timeline(answer, room.room_id)) == ["one", "two", "three"]


async def test_an_event_with_a_wrong_signature_is_dropped(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    pdu = room.message("forged").pdu
    pdu["signatures"] = {peer.server_name: {"ed25519:peer": "A" * 86}}
    [(event_id, result)] = (await room.send(pdu)).items()
    assert "signature" in result["error"]
    assert not await is_shown(alice, room, event_id)


async def test_an_event_with_a_wrong_hash_is_redacted(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    event = room.message("original")
    pdu = event.pdu
    pdu["content"]["body"] = "tampered with"
    assert await room.send(pdu) == {event.event_id: {}}
    shown = await alice.event(room.room_id, event.event_id)
    assert shown["content"] == {}


async def test_an_event_that_its_sender_may_not_send_is_rejected(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    event = room.make("m.room.name", {"name": "mine"}, state_key="")
    assert await room.send(event) == {event.event_id: {}}
    assert not await is_shown(alice, room, event.event_id)
    with pytest.raises(Refused):
        await alice.state(room.room_id, "m.room.name")
    # What follows a rejected event may be fine.
    room.add(event)
    del room.state["m.room.name", ""]
    after = await room.say("after the rejected one")
    assert await is_shown(alice, room, after.event_id)


async def test_wrong_auth_events_reject_an_event(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    wrong = room.state["m.room.history_visibility", ""]
    event = room.message("by the wrong rights", auth_events=[wrong])
    await room.send(event)
    assert not await is_shown(alice, room, event.event_id)


async def test_who_was_banned_meanwhile_is_soft_failed(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    before = list(room.heads)
    await alice.ban(room.room_id, room.user_id)
    event = room.message("I was never banned", prev_events=before)
    assert await room.send(event) == {event.event_id: {}}
    assert bodies(timeline(await alice.sync(), room.room_id)) == []
    assert not await is_shown(alice, room, event.event_id)


async def test_an_event_after_soft_failed_ones_takes_the_place_of_what_was_before_them(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    levels = await alice.state(room.room_id, "m.room.power_levels")
    levels["events"]["org.test"] = 50
    forbids = await alice.set_state(room.room_id, "m.room.power_levels", levels)
    good = await room.say("allowed")
    for _ in range(2):
        failed = room.make("org.test", {})
        room.add(failed)
        assert await room.send(failed) == {failed.event_id: {}}
    path = f"/_matrix/federation/v1/make_leave/{quote(room.room_id)}/{quote(room.user_id)}"
    _, offer = await peer.request("GET", path)
    assert set(offer["event"]["prev_events"]) == {forbids, good.event_id}
    room.heads.append(forbids)
    after = await room.say("allowed, too")
    _, offer = await peer.request("GET", path)
    assert offer["event"]["prev_events"] == [after.event_id]


async def test_too_large_events_are_refused_one_by_one(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    good = room.message("small")
    bad = good.pdu
    bad["content"] = {"body": "x" * 70_000}
    results = await room.send(bad, good)
    assert results[good.event_id] == {}
    assert await is_shown(alice, room, good.event_id)


async def test_two_names_on_two_branches_are_resolved(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer, power_level_content_override=EVERYBODY_MAY)
    fork, state = list(room.heads), dict(room.state)
    first = room.make("m.room.topic", {"topic": "first"}, state_key="")
    room.add(first)
    room.heads, room.state = fork, state
    second = room.make("m.room.topic", {"topic": "second"}, state_key="")
    room.heads = [first.event_id, second.event_id]
    room.events[second.event_id] = second
    merge = room.message("merged")
    await room.send(first, second, merge)
    topic = (await alice.state(room.room_id, "m.room.topic"))["topic"]
    assert topic in ("first", "second")
    assert await is_shown(alice, room, merge.event_id)
    await server.restart()
    server.moved(alice)
    assert (await alice.state(room.room_id, "m.room.topic"))["topic"] == topic


async def test_a_remote_topic_shows_in_sync(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer, power_level_content_override=EVERYBODY_MAY)
    event = room.make("m.room.topic", {"topic": "ours"}, state_key="")
    room.add(event)
    await room.send(event)
    shown = await alice.sync_until_event(room.room_id, event.event_id)
    assert shown["content"] == {"topic": "ours"}


async def test_redactions_that_go_in_circles_do_no_harm(server: RunningServer, peer: Peer) -> None:
    """Only in room versions 1 and 2, where an event's id is chosen, can they."""
    alice, room = await joined_room(server, peer, "1")
    itself, one, other = (f"${name}:{peer.server_name}" for name in ("itself", "one", "other"))
    for event_id, target in ((itself, itself), (one, other), (other, one)):
        event = room.make("m.room.redaction", {}, redacts=target, event_id=event_id)
        room.add(event)
        assert await room.send(event) == {event_id: {}}
    shown = {event["event_id"]: event for event in timeline(await alice.sync(), room.room_id)}
    assert {itself, one, other} <= set(shown)
    assert shown[other]["unsigned"]["redacted_because"]["event_id"] == one
    await server.restart()
    shown = {e["event_id"]: e for e in (await server.moved(alice).messages(room.room_id))["chunk"]}
    assert {itself, one, other} <= set(shown)


async def test_many_redactions_of_redactions_are_shown(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    target = (await room.say("redacted, and so on")).event_id
    for _ in range(20):
        event = room.make("m.room.redaction", {"redacts": target})
        room.add(event)
        assert await room.send(event) == {event.event_id: {}}
        target = event.event_id
    events = timeline(await alice.sync(), room.room_id)
    because = events[0]["unsigned"]["redacted_because"]
    assert because["event_id"] == events[1]["event_id"]
    assert "redacted_because" not in because["unsigned"]


async def test_a_server_that_is_not_in_the_room_is_refused(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    event = room.message("by a stranger", sender=f"@eve:{peer.server_name}")
    await room.send(event)
    assert not await is_shown(alice, room, event.event_id)


async def test_a_server_acl_keeps_a_server_out(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    acl = {"allow": ["*"], "deny": ["127.0.0.*"]}
    await alice.set_state(room.room_id, "m.room.server_acl", acl)
    event = room.message("let me in")
    results = await room.send(event)
    assert results[event.event_id]["errcode"] == "M_FORBIDDEN"
    assert not await is_shown(alice, room, event.event_id)


async def test_edus_of_no_form_are_left_out(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    typing = {"room_id": room.room_id, "user_id": room.user_id, "typing": True}
    edus: list[object] = [
        7,
        {},
        {"edu_type": [], "content": {}},
        {"edu_type": "m.typing", "content": []},
        {"edu_type": "m.presence", "content": {"push": [{"user_id": []}, 7]}},
        {"edu_type": "m.receipt", "content": {room.room_id: {"m.read": {room.user_id: 7}}}},
        {"edu_type": "m.typing", "content": typing},
    ]
    body = {"origin": peer.server_name, "origin_server_ts": 1, "pdus": [], "edus": edus}
    assert await peer.request("PUT", "/_matrix/federation/v1/send/edus", body) == (
        200,
        {"pdus": {}},
    )
    ephemeral = (await alice.sync())["rooms"]["join"][room.room_id]["ephemeral"]["events"]
    assert {"type": "m.typing", "content": {"user_ids": [room.user_id]}} in ephemeral


@pytest.mark.parametrize("version", ["1", "12"])
async def test_a_deeply_nested_event_keeps_nothing_else_out(
    server: RunningServer, peer: Peer, version: str
) -> None:
    """Synapse takes it, so that any user of one could cut a server off that refuses the request."""
    alice, room = await joined_room(server, peer, version)
    nested: list[object] = []
    for _ in range(900):
        nested = [nested]
    deep = room.make("m.room.message", {"msgtype": "m.text", "body": "deep", "x": nested})
    room.add(deep)
    last = room.message("last")
    assert await room.send(deep, last) == {deep.event_id: {}, last.event_id: {}}
    assert bodies(timeline(await alice.sync(), room.room_id)) == ["deep", "last"]


async def test_of_users_with_historical_names_only_events_are_told(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    old = f"@Jürgen:{peer.server_name}"
    join = room.make("m.room.member", {"membership": "join"}, sender=old, state_key=old)
    assert await room.send(join) == {join.event_id: {}}
    message: JsonObject = {alice.user_id: {"*": {}}}
    presence = {"user_id": old, "presence": "online", "last_active_ago": 1}
    contents: dict[str, JsonObject] = {
        "m.typing": {"room_id": room.room_id, "user_id": old, "typing": True},
        "m.presence": {"push": [presence]},
        "m.direct_to_device": {
            "sender": old,
            "type": "x",
            "message_id": "1",
            "messages": message,
        },
    }
    edus = [{"edu_type": name, "content": content} for name, content in contents.items()]
    await peer.request("PUT", "/_matrix/federation/v1/send/edus", {"pdus": [], "edus": edus})
    answer = await alice.sync()
    assert [e["state_key"] for e in timeline(answer, room.room_id)] == [old]
    for section in ("presence", "to_device"):
        assert old not in str(answer.get(section))
    assert old not in str(answer["rooms"]["join"][room.room_id].get("ephemeral"))


@pytest.mark.parametrize("version", ["1", "2", "11", "12"])
async def test_a_state_event_on_a_fork_counts_at_once(
    server: RunningServer, peer: Peer, version: str
) -> None:
    options: dict[str, object] = {"power_level_content_override": EVERYBODY_MAY}
    alice, room = await joined_room(server, peer, version, **options)
    await alice.set_state(room.room_id, "org.example.ours", {"by": "alice"})
    event = room.make("org.example.theirs", {"by": "bob"}, state_key="")  # who didn't see ours
    await room.send(event)
    await alice.sync_until_event(room.room_id, event.event_id)
    assert await alice.state(room.room_id, "org.example.theirs") == {"by": "bob"}
    assert await alice.state(room.room_id, "org.example.ours") == {"by": "alice"}


async def test_a_query_that_fails_while_a_fork_is_resolved_leaves_nothing_half_known(
    server: RunningServer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, room = await joined_room(server, peer, power_level_content_override=EVERYBODY_MAY)
    topics = [room.make("m.room.topic", {"topic": t}, state_key="") for t in ("one", "two")]
    await room.send(topics[0])

    async def fails(_connection: Connection, _event_ids: Iterable[str]) -> list[ChainLink]:
        raise Unavailable("The database is away")

    monkeypatch.setattr(resolve, "auth_chain", fails)
    status, _ = await room.try_send(topics[1])
    assert status == 503
    monkeypatch.undo()
    assert await room.send(topics[1]) == {topics[1].event_id: {}}
    live, graph = graph_of(server, room)
    assert [event_id for event_id in live.state.values() if event_id not in graph] == []


async def test_what_an_event_cites_is_known_when_forks_are_resolved_later(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer, power_level_content_override=EVERYBODY_MAY)
    for text in ("one", "two"):
        await room.send(room.make("m.room.topic", {"topic": text}, state_key=""))
    rules = ("m.room.join_rules", "")
    old, _ = [
        await alice.set_state(room.room_id, rules[0], {"join_rule": "public", "number": number})
        for number in range(2)
    ]
    room.heads = list(graph_of(server, room)[0].head.forward_extremities)
    names = [
        room.make(
            "m.room.member", {"membership": "join", "displayname": name}, state_key=room.user_id
        )
        for name in ("one", "two")
    ]
    cited = [old if id_ == room.state[rules] else id_ for id_ in names[0].auth_events]
    await room.send(
        room.make("m.room.member", names[0].content, state_key=room.user_id, auth_events=cited)
    )
    await room.send(names[1])
    assert old in graph_of(server, room)[1]


async def test_state_set_after_a_fork_counts_when_the_next_is_resolved(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer, power_level_content_override=EVERYBODY_MAY)
    for text in ("one", "two"):
        await room.send(room.make("m.room.topic", {"topic": text}, state_key=""))
    event_id = await alice.set_state(room.room_id, "m.room.name", {"name": "new"})
    assert event_id in graph_of(server, room)[1]


def graph_of(server: RunningServer, room: RemoteRoom) -> tuple[LiveRoom, AuthGraph]:
    """Our room, and what we know of its auth events."""
    assert server.app is not None
    live = server.app.stream.rooms.peek(room.room_id)
    assert live is not None
    assert live.auth_graph is not None
    return live, live.auth_graph
