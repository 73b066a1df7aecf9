"""The sections of /sync, one by one: what is in them, and what is left out."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from homeserver.json_types import JsonObject
from homeserver.stream.sections import timeline as timeline_section
from homeserver.stream.sections.windows import WINDOWS_PER_ROOM
from tests.support.client import Client, Refused, timeline
from tests.support.server import RunningServer

TOPIC = "m.room.topic"
LAZY: JsonObject = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 2}}}


def members(room: Any, name: str = "state") -> set[str]:
    return {e["state_key"] for e in room[name]["events"] if e["type"] == "m.room.member"}


async def room_of(server: RunningServer, size: int) -> tuple[str, list[Client]]:
    clients = [await server.user(f"user_{n}") for n in range(size)]
    room_id = await clients[0].create_room(preset="public_chat")
    for client in clients[1:]:
        await client.join(room_id)
    return room_id, clients


async def joined(client: Client, room_id: str, **query: str) -> Any:
    query.setdefault("since", client.next_batch or "")
    answer = await client.get("/sync", **query)
    client.next_batch = answer["next_batch"]
    return answer.get("rooms", {}).get("join", {}).get(room_id)


async def test_a_gap_is_filled_by_state_and_a_token_to_page_back(server: RunningServer) -> None:
    room_id, (alice, bob) = await room_of(server, 2)
    await bob.sync()
    await alice.set_state(room_id, "m.room.topic", {"topic": "in the gap"})
    sent = [await alice.send(room_id, f"{n}") for n in range(15)]

    room = await joined(bob, room_id)

    assert room["timeline"]["limited"] is True
    assert [e["event_id"] for e in room["timeline"]["events"]] == sent[5:]
    assert [e["content"]["topic"] for e in room["state"]["events"]] == ["in the gap"]
    before = await bob.messages(room_id, **{"from": room["timeline"]["prev_batch"]}, limit="3")
    assert [e["event_id"] for e in before["chunk"]] == sent[4:1:-1]


async def test_state_after_is_the_state_at_the_end(server: RunningServer) -> None:
    room_id, (alice, bob) = await room_of(server, 2)
    await bob.sync()
    await alice.set_state(room_id, "m.room.topic", {"topic": "first"})
    last = await alice.set_state(room_id, "m.room.topic", {"topic": "second"})
    since = bob.next_batch or ""
    for query, name in (
        ("use_state_after", "state_after"),
        ("org.matrix.msc4222.use_state_after", "org.matrix.msc4222.state_after"),
    ):
        room = await joined(bob, room_id, since=since, **{query: "true"})
        assert [e["event_id"] for e in room[name]["events"]] == [last]
        assert len(room["timeline"]["events"]) == 2
        assert "state" not in room


async def test_full_state_shows_everything_again(server: RunningServer) -> None:
    room_id, (alice, bob) = await room_of(server, 2)
    first = await joined(bob, room_id)
    room = await joined(bob, room_id, full_state="true")
    types = {e["type"] for e in first["state"]["events"]} | {
        e["type"] for e in first["timeline"]["events"] if "state_key" in e
    }
    assert {e["type"] for e in room["state"]["events"]} == types
    assert members(room) == {alice.user_id, bob.user_id}
    assert room["timeline"]["events"] == []


async def test_lazy_members_are_those_who_speak_each_once(server: RunningServer) -> None:
    room_id, clients = await room_of(server, 5)
    alice, bob, carol, *_ = clients
    for client in (carol, carol):
        await client.send(room_id, "hello")
    lazy = json.dumps(LAZY)

    room = await joined(bob, room_id, filter=lazy)
    assert members(room) == {bob.user_id, carol.user_id}

    await carol.send(room_id, "again")
    await alice.send(room_id, "me too")
    room = await joined(bob, room_id, filter=lazy)
    assert members(room) == {alice.user_id}

    before = bob.next_batch or ""
    await alice.send(room_id, "and again")
    assert members(await joined(bob, room_id, filter=lazy)) == set()
    # An older token has not seen what came after it.
    redundant = {"room": {"state": {"lazy_load_members": True, "include_redundant_members": True}}}
    room = await joined(bob, room_id, since=before, filter=json.dumps(redundant))
    assert members(room) == {alice.user_id}


async def test_an_older_token_gets_lazy_members_again(server: RunningServer) -> None:
    room_id, (alice, bob) = await room_of(server, 2)
    lazy = json.dumps(LAZY)
    await bob.send(room_id, "so that alice is out of the timeline")
    await bob.send(room_id, "really")
    await joined(bob, room_id, filter=lazy)
    since = bob.next_batch or ""
    await alice.send(room_id, "hello")
    for _ in range(2):
        room = await joined(bob, room_id, since=since, filter=lazy)
        assert members(room) == {alice.user_id}


async def test_a_summary_names_the_others(server: RunningServer) -> None:
    room_id, clients = await room_of(server, 4)
    room = await joined(clients[0], room_id)
    assert set(room["summary"]["m.heroes"]) == {client.user_id for client in clients[1:]}
    assert room["summary"]["m.joined_member_count"] == 4
    await clients[3].leave(room_id)
    room = await joined(clients[0], room_id)
    assert room["summary"]["m.joined_member_count"] == 3


async def test_leaving_moves_a_room_to_leave_up_to_that_moment(server: RunningServer) -> None:
    room_id, (alice, bob) = await room_of(server, 2)
    await bob.sync()
    last_seen = await alice.send(room_id, "last words")
    await alice.kick(room_id, bob.user_id)
    await alice.send(room_id, "not for bob")

    answer = await bob.sync()

    events = timeline(answer, room_id, "leave")
    assert events[0]["event_id"] == last_seen
    assert events[-1]["content"]["membership"] == "leave"
    assert len(events) == 2
    assert room_id not in answer["rooms"].get("join", {})
    assert "rooms" not in await bob.sync()


async def test_left_rooms_are_shown_from_scratch_if_asked_for(server: RunningServer) -> None:
    room_id, (alice, bob) = await room_of(server, 2)
    await bob.leave(room_id)
    await alice.send(room_id, "not for bob")

    assert "leave" not in (await bob.sync()).get("rooms", {})
    bob.next_batch = None
    answer = await bob.sync(filter=json.dumps({"room": {"include_leave": True}}))

    events = timeline(answer, room_id, "leave")
    assert events[-1]["content"]["membership"] == "leave"
    await bob.post(f"/rooms/{quote(room_id)}/forget")
    bob.next_batch = None
    answer = await bob.sync(filter=json.dumps({"room": {"include_leave": True}}))
    assert room_id not in answer.get("rooms", {}).get("leave", {})


async def test_a_rejected_invite_is_gone(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(invite=[bob.user_id])
    assert room_id in (await bob.sync())["rooms"]["invite"]
    await bob.leave(room_id)
    answer = await bob.sync()
    assert room_id in answer["rooms"]["leave"]
    assert "rooms" not in await bob.sync()
    bob.next_batch = None
    assert "invite" not in (await bob.sync()).get("rooms", {})


async def test_a_knock_is_shown_to_the_one_who_knocks(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
    room_id = await alice.create_room(name="door", initial_state=[rules])
    await bob.sync()
    await bob.post(f"/knock/{quote(room_id)}", {"reason": "please"})
    answer = await bob.sync()
    events = answer["rooms"]["knock"][room_id]["knock_state"]["events"]
    assert {"m.room.name", "m.room.member"} <= {e["type"] for e in events}


async def test_filters_choose_rooms_types_and_senders(server: RunningServer) -> None:
    room_id, (alice, bob) = await room_of(server, 2)
    other = await alice.create_room()
    await alice.send(room_id, "from alice")
    from_bob = await bob.send(room_id, "from bob")

    async def sync(definition: JsonObject) -> Any:
        alice.next_batch = None
        return (await alice.sync(filter=json.dumps(definition))).get("rooms", {}).get("join", {})

    rooms = await sync({"room": {"rooms": [room_id]}})
    assert set(rooms) == {room_id}
    rooms = await sync({"room": {"not_rooms": [room_id]}})
    assert set(rooms) == {other}
    senders = {"timeline": {"senders": [bob.user_id], "types": ["m.room.message"]}}
    room = (await sync({"room": senders}))[room_id]
    assert [e["event_id"] for e in room["timeline"]["events"]] == [from_bob]
    room = (await sync({"room": {"state": {"not_types": ["*"]}}}))[room_id]
    assert room["state"]["events"] == []


async def test_event_fields_cut_events_down(server: RunningServer) -> None:
    room_id, (alice, _) = await room_of(server, 2)
    await alice.send(room_id, "hello")
    definition = json.dumps({"event_fields": ["type", "content.body"]})
    room = await joined(alice, room_id, filter=definition)
    assert room["timeline"]["events"][-1] == {
        "type": "m.room.message",
        "content": {"body": "hello"},
    }


async def test_events_come_in_the_format_of_federation_if_asked_for(server: RunningServer) -> None:
    room_id, (alice, bob) = await room_of(server, 2)
    kept, gone = await alice.send(room_id, "kept"), await alice.send(room_id, "gone")
    await alice.redact(room_id, gone)
    bob.next_batch = None
    plain = await joined(bob, room_id)
    bob.next_batch = None
    room = await joined(bob, room_id, filter=json.dumps({"event_format": "federation"}))
    events = {event["event_id"]: event for event in room["timeline"]["events"]}
    assert events[kept]["content"]["body"] == "kept"
    assert "hs.test" in events[kept]["signatures"]
    assert events[kept]["unsigned"]["age"] >= 0
    assert events[gone]["content"] == {}
    assert list(events) == [event["event_id"] for event in plain["timeline"]["events"]]
    assert all("auth_events" in event for event in room["state"]["events"])


async def test_only_the_sending_device_sees_the_transaction_id(server: RunningServer) -> None:
    room_id, (alice, bob) = await room_of(server, 2)
    laptop = await alice.another_device()
    for client in (alice, bob, laptop):
        await client.sync()
    await alice.send(room_id, "hello", txn_id="my-transaction")
    for client, expected in ((alice, "my-transaction"), (bob, None), (laptop, None)):
        room = await joined(client, room_id)
        event = room["timeline"]["events"][-1]
        assert event["unsigned"].get("transaction_id") == expected


async def test_events_say_what_the_reader_was_when_they_were_sent(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    before = await alice.send(room_id, "before bob")
    await bob.join(room_id)
    after = await alice.send(room_id, "after bob")
    room = await joined(bob, room_id)
    was = {e["event_id"]: e["unsigned"]["membership"] for e in room["timeline"]["events"]}
    assert (was[before], was[after]) == ("leave", "join")


async def test_who_joins_sees_history_only_where_it_is_shared(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    hidden = {
        "type": "m.room.history_visibility",
        "state_key": "",
        "content": {"history_visibility": "joined"},
    }
    room_id = await alice.create_room(preset="public_chat", initial_state=[hidden])
    secret = await alice.send(room_id, "before bob")
    await bob.join(room_id)
    seen = await alice.send(room_id, "after bob")
    room = await joined(bob, room_id)
    ids = [e["event_id"] for e in room["timeline"]["events"]]
    assert secret not in ids
    assert seen in ids
    assert room["timeline"]["limited"] is True


async def test_a_redaction_reaches_what_is_in_memory(server: RunningServer) -> None:
    room_id, (alice, bob) = await room_of(server, 2)
    event_id = await alice.send(room_id, "oops")
    await alice.redact(room_id, event_id, reason="typo")
    room = await joined(bob, room_id)
    shown = {e["event_id"]: e for e in room["timeline"]["events"]}
    assert shown[event_id]["content"] == {}
    assert shown[event_id]["unsigned"]["redacted_because"]["content"]["reason"] == "typo"


ELSEWHERE = ("s99999999999", "nonsense", "t12", "s-1", "s1_x", "s" + "9" * 30)


@pytest.mark.parametrize("since", ELSEWHERE)
async def test_a_token_from_elsewhere_is_refused(server: RunningServer, since: str) -> None:
    alice = await server.user("alice")
    with pytest.raises(Refused) as refused:
        await alice.sync(since=since)
    assert (refused.value.status, refused.value.errcode) == (400, "M_INVALID_PARAM")


async def test_nothing_new_is_answered_at_the_deadline(server: RunningServer) -> None:
    alice = await server.user("alice")
    first = await alice.sync(set_presence="offline")
    answer = await alice.sync(timeout_ms=100, set_presence="offline")
    assert "rooms" not in answer
    assert answer["next_batch"].startswith("s")
    assert first["next_batch"].startswith("s")


async def test_full_state_tells_also_of_rooms_left_since(server: RunningServer) -> None:
    room_id, (alice, bob) = await room_of(server, 2)
    other_id = await alice.create_room()
    since = str((await bob.sync())["next_batch"])
    await alice.kick(room_id, bob.user_id)
    await alice.invite(other_id, bob.user_id)
    await bob.leave(other_id)

    answer = await bob.get("/sync", since=since, full_state="true")
    later = await bob.get("/sync", since=answer["next_batch"], full_state="true")

    assert answer["rooms"]["leave"].keys() == {room_id, other_id}
    assert "rooms" not in later


async def test_state_that_a_filter_hides_from_the_timeline_is_in_state(
    server: RunningServer,
) -> None:
    room_id, (alice, bob) = await room_of(server, 2)
    texts = json.dumps({"room": {"timeline": {"types": ["m.room.message"]}}})
    await joined(bob, room_id, filter=texts)
    first = await alice.send(room_id, "first")
    await alice.set_state(room_id, "m.room.topic", {"topic": "between"})
    last = await alice.send(room_id, "last")
    since = bob.next_batch or ""

    for query in ({"since": since}, {"since": ""}, {"since": since, "full_state": "true"}):
        room = await joined(bob, room_id, filter=texts, **query)
        topics = [e["content"]["topic"] for e in room["state"]["events"] if e["type"] == TOPIC]
        assert [e["event_id"] for e in room["timeline"]["events"]] == [first, last]
        assert topics == ["between"]


async def test_state_is_told_where_a_filter_finds_nothing_in_a_busy_room(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline_section, "DATABASE_PAGES", 1)
    room_id, (alice, bob) = await room_of(server, 2)
    since = (await bob.sync())["next_batch"]
    for number in range(60):
        await alice.send(room_id, {"number": number}, "org.example")
        if number == 40:
            await alice.set_state(room_id, TOPIC, {"topic": "lately"})
    assert server.app is not None
    server.app.stream.rooms.drop(room_id)  # it is loaded anew, without most of these
    texts = json.dumps({"room": {"timeline": {"types": ["m.room.message"]}}})

    for query in ({"since": since}, {"since": ""}):
        room = await joined(bob, room_id, filter=texts, **query)
        assert room["timeline"]["events"] == []
        topics = [e["content"]["topic"] for e in room["state"]["events"] if e["type"] == TOPIC]
        assert topics == ["lately"]


async def test_state_from_a_time_that_one_may_not_see_is_in_state(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    only_members = {"history_visibility": "joined"}
    state = [{"type": "m.room.history_visibility", "content": only_members}]
    room_id = await alice.create_room(preset="public_chat", initial_state=state)
    await bob.join(room_id)
    await bob.leave(room_id)
    await alice.set_state(room_id, TOPIC, {"topic": "while bob was away"})
    await bob.join(room_id)

    room = await joined(bob, room_id)

    told = [*room["state"]["events"], *room["timeline"]["events"]]
    assert [e["content"]["topic"] for e in told if e["type"] == TOPIC] == ["while bob was away"]


async def test_a_quiet_room_holds_only_so_many_windows(server: RunningServer) -> None:
    """Everybody who was away comes back with a token of their own."""
    room_id, (alice, bob) = await room_of(server, 2)
    first = int((await bob.sync())["next_batch"][1:])
    path = f"/user/{bob.user_id}/account_data/org.example"
    for number in range(WINDOWS_PER_ROOM + 5):
        await bob.put(path, {"number": number})
    event_id = await alice.send(room_id, "hello")
    for position in range(first, first + WINDOWS_PER_ROOM + 5):
        answer = await bob.get("/sync", since=f"s{position}")
        assert [event["event_id"] for event in timeline(answer, room_id)] == [event_id]
    assert server.app is not None
    room = server.app.stream.rooms.peek(room_id)
    assert room is not None
    assert len(room.windows) == WINDOWS_PER_ROOM


async def test_who_joined_and_left_between_two_syncs_is_told_the_whole_state(
    server: RunningServer,
) -> None:
    room_id, (alice, _) = await room_of(server, 2)
    bob = await server.user("bob")
    await alice.set_state(room_id, "x.state", {"n": 1})
    asked = {"timeline": {"types": []}, "state": {"types": ["x.state"]}, "include_leave": True}
    since = str((await bob.sync())["next_batch"])
    await bob.join(room_id)
    await bob.leave(room_id)

    answer = await bob.get("/sync", since=since, filter=json.dumps({"room": asked}))

    room = answer["rooms"]["leave"][room_id]
    assert [e["content"] for e in room["state"]["events"]] == [{"n": 1}]
    assert room["timeline"]["limited"] is True


async def test_a_left_room_shows_the_state_that_the_filter_asks_for(server: RunningServer) -> None:
    room_id, (_, bob) = await room_of(server, 2)
    await bob.leave(room_id)
    asked = {"state": {"types": ["m.room.create"]}, "timeline": {"limit": 1}, "include_leave": True}

    answer = await bob.get("/sync", filter=json.dumps({"room": asked}))

    room = answer["rooms"]["leave"][room_id]
    assert [e["type"] for e in room["state"]["events"]] == ["m.room.create"]


async def test_who_was_removed_from_a_room_is_told_so_by_a_first_sync(
    server: RunningServer,
) -> None:
    banned_from, (alice, bob) = await room_of(server, 2)
    left = await alice.create_room(preset="public_chat")
    await bob.join(left)
    await bob.leave(left)
    await alice.ban(banned_from, bob.user_id)

    answer = await bob.get("/sync")

    assert answer["rooms"].keys() == {"leave"}
    assert answer["rooms"]["leave"].keys() == {banned_from}
    await bob.post(f"/rooms/{quote(banned_from)}/forget")
    assert "rooms" not in await bob.get("/sync")


async def test_who_left_and_declined_to_come_back_sees_the_state_of_their_stay(
    server: RunningServer,
) -> None:
    room_id, (alice, bob) = await room_of(server, 2)
    await alice.set_state(room_id, TOPIC, {"topic": "for bob"})
    await bob.leave(room_id)
    await alice.set_state(room_id, TOPIC, {"topic": "not for bob"})
    await alice.invite(room_id, bob.user_id)
    await bob.leave(room_id)

    for limit in (1, 50):
        asked = json.dumps({"room": {"timeline": {"limit": limit}, "include_leave": True}})
        room = (await bob.get("/sync", filter=asked))["rooms"]["leave"][room_id]
        told = [*room["state"]["events"], *room["timeline"]["events"]]
        assert [e["content"]["topic"] for e in told if e["type"] == TOPIC] == ["for bob"]
        assert room["timeline"]["events"][-1]["content"]["membership"] == "leave"
