"""/messages, /context, /event and /timestamp_to_event for members."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest

from homeserver.json_types import JsonObject
from tests.support.client import Client, Refused, bodies
from tests.support.server import RunningServer


async def talk(client: Client, room_id: str, count: int) -> list[str]:
    """Sends `count` messages; their ids."""
    return [await client.send(room_id, f"message {n}") for n in range(count)]


def ids(events: list[Any]) -> list[str]:
    return [event["event_id"] for event in events]


async def all_pages(client: Client, room_id: str, **query: str) -> list[Any]:
    """Every event from `from` on, page by page."""
    events: list[Any] = []
    for _ in range(50):
        page = await client.messages(room_id, **query)
        events += page["chunk"]
        if "end" not in page:
            return events
        query["from"] = page["end"]
    raise AssertionError("the pages don't end")


async def test_pages_go_back_to_the_create_event(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    sent = await talk(alice, room_id, 25)

    events = await all_pages(alice, room_id, limit="7")

    assert ids(events)[:25] == sent[::-1]
    assert events[-1]["type"] == "m.room.create"
    assert len(ids(events)) == len(set(ids(events)))


async def test_every_page_but_an_empty_one_has_an_end(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()

    whole = await alice.messages(room_id, limit="100")
    beyond = await alice.messages(room_id, **{"from": whole["end"]})

    assert whole["chunk"][-1]["type"] == "m.room.create"
    assert beyond["chunk"] == []
    assert "end" not in beyond


async def test_who_may_not_read_learns_that_first(server: RunningServer) -> None:
    alice, eve = await server.user("alice"), await server.user("eve")
    room_id = await alice.create_room()
    for client, expected in (
        (alice, (400, "M_MISSING_PARAM")),
        (eve, (403, "M_FORBIDDEN")),
    ):
        with pytest.raises(Refused) as refused:
            await client.get(f"/rooms/{room_id}/messages")
        assert (refused.value.status, refused.value.errcode) == expected


async def test_pages_go_forward_from_the_beginning(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    sent = await talk(alice, room_id, 12)

    events = await all_pages(alice, room_id, dir="f", limit="5")

    assert events[0]["type"] == "m.room.create"
    assert ids(events)[-12:] == sent


async def test_a_page_goes_on_from_the_tokens_of_a_sync(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    sent = await talk(alice, room_id, 15)
    answer = await alice.sync()
    timeline = answer["rooms"]["join"][room_id]["timeline"]
    later = await alice.send(room_id, "later")

    before = await alice.messages(room_id, limit="3", **{"from": timeline["prev_batch"]})
    after = await alice.messages(room_id, dir="f", **{"from": answer["next_batch"]})
    up_to = await alice.messages(room_id, **{"from": answer["next_batch"], "limit": "1"})

    assert ids(before["chunk"]) == sent[4:1:-1]
    assert ids(after["chunk"]) == [later]
    assert ids(up_to["chunk"]) == [sent[-1]]


async def test_tokens_outlive_a_restart_and_history_is_read_from_the_database(
    server: RunningServer,
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    sent = await talk(alice, room_id, 60)
    first = await alice.messages(room_id, limit="20")
    await server.restart()
    alice = server.moved(alice)

    second = await alice.messages(room_id, limit="30", **{"from": first["end"]})
    everything = await all_pages(alice, room_id, limit="11")

    assert ids(second["chunk"]) == sent[39:9:-1]
    assert ids(everything)[:60] == sent[::-1]


async def test_to_ends_the_pages(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    sent = await talk(alice, room_id, 3)
    stop = (await alice.sync())["next_batch"]
    sent += await talk(alice, room_id, 4)

    page = await alice.messages(room_id, to=stop)
    forward = await alice.messages(room_id, dir="f", to=stop, limit="100")
    beyond = await alice.messages(room_id, to=stop, **{"from": page["end"]})

    assert ids(page["chunk"]) == sent[:2:-1]
    assert ids(forward["chunk"])[-3:] == sent[:3]
    assert beyond["chunk"] == []
    assert "end" not in beyond


async def test_a_filter_leaves_only_what_it_names(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await alice.send(room_id, "from alice")
    from_bob = await bob.send(room_id, "from bob")
    image = await alice.send(room_id, {"msgtype": "m.image", "body": "i", "url": "mxc://x/y"})

    async def matching(**definition: Any) -> list[Any]:
        return await all_pages(alice, room_id, filter=json.dumps(definition), limit="2")

    assert ids(await matching(senders=[bob.user_id], types=["m.room.message"])) == [from_bob]
    assert ids(await matching(contains_url=True)) == [image]
    assert {
        e["type"] for e in await matching(types=["m.room.*"], not_types=["m.room.message"])
    } >= {
        "m.room.create",
        "m.room.member",
    }
    assert ids(await matching(contains_url=False, types=["m.room.message"]))[0] == from_bob
    assert await matching(not_rooms=[room_id]) == []
    assert all(e["sender"] == alice.user_id for e in await matching(not_senders=[bob.user_id]))


async def test_lazy_loading_brings_the_members_who_speak(server: RunningServer) -> None:
    alice, bob, carol = [await server.user(name) for name in ("alice", "bob", "carol")]
    room_id = await alice.create_room(preset="public_chat")
    for member in (bob, carol):
        await member.join(room_id)
    await bob.send(room_id, "hello")
    lazy = json.dumps({"lazy_load_members": True})

    page = await alice.messages(room_id, limit="1", filter=lazy)
    assert [e["state_key"] for e in page["state"]] == [bob.user_id]
    assert page["state"][0]["content"]["membership"] == "join"

    # Whoever changed since is shown as they were then.
    await bob.set_state(
        room_id, "m.room.member", {"membership": "join", "displayname": "Robert"}, bob.user_id
    )
    await talk(alice, room_id, 2)
    page = await alice.messages(room_id, limit="1", filter=lazy, **{"from": page["start"]})
    assert "Robert" not in json.dumps(page["state"])
    assert "state" not in await alice.messages(room_id, limit="1")


async def test_events_have_the_unsigned_that_is_the_readers_own(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await alice.send(room_id, "before")
    await bob.join(room_id)
    event_id = await bob.send(room_id, "hello", txn_id="mine")
    await server.restart()
    alice, bob = server.moved(alice), server.moved(bob)
    other = await bob.another_device()

    assert await bob.send(room_id, "hello", txn_id="mine") == event_id
    seen = (await bob.messages(room_id, limit="3"))["chunk"]
    assert seen[0]["unsigned"]["transaction_id"] == "mine"
    assert seen[0]["unsigned"]["membership"] == "join"
    assert seen[0]["unsigned"]["age"] >= 0
    assert seen[0]["room_id"] == room_id
    assert seen[2]["unsigned"]["membership"] == "leave"
    for client in (alice, other):
        unsigned = (await client.event(room_id, event_id))["unsigned"]
        assert "transaction_id" not in unsigned


async def test_state_events_tell_what_they_replaced(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room(name="Old")
    old = (await alice.get(f"/rooms/{room_id}/state/m.room.name", format="event"))["event_id"]
    new = await alice.set_state(room_id, "m.room.name", {"name": "New"})

    unsigned = (await alice.event(room_id, new))["unsigned"]

    assert unsigned["prev_content"] == {"name": "Old"}
    assert unsigned["replaces_state"] == old


async def test_redacted_events_are_served_pruned_with_the_redaction(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    event_id = await alice.send(room_id, "secret")
    redaction_id = await alice.redact(room_id, event_id, reason="oops")
    for _ in range(2):  # from memory, then from the database
        event = await alice.event(room_id, event_id)
        assert event["content"] == {}
        assert event["unsigned"]["redacted_because"]["event_id"] == redaction_id
        assert event["unsigned"]["redacted_because"]["content"]["reason"] == "oops"
        await server.restart()
        alice = server.moved(alice)


async def test_context_shows_what_surrounds_an_event(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    sent = await talk(alice, room_id, 9)
    await alice.set_state(room_id, "m.room.name", {"name": "Later"})

    context = await alice.get(f"/rooms/{room_id}/context/{sent[4]}", limit="5")

    assert ids(context["events_before"]) == [sent[3], sent[2]]
    assert context["event"]["event_id"] == sent[4]
    assert ids(context["events_after"]) == sent[5:8]
    types = {event["type"] for event in context["state"]}
    assert "m.room.create" in types
    assert "m.room.name" not in types
    back = await alice.messages(room_id, limit="1", **{"from": context["start"]})
    on = await alice.messages(room_id, limit="1", dir="f", **{"from": context["end"]})
    assert ids(back["chunk"]) == [sent[1]]
    assert ids(on["chunk"]) == [sent[8]]


async def test_context_takes_a_filter_and_a_limit_of_nothing(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    sent = await talk(alice, room_id, 3)
    query = {"filter": json.dumps({"lazy_load_members": True, "types": ["m.room.me*"]})}

    nothing = await alice.get(f"/rooms/{room_id}/context/{sent[1]}", limit="0")
    lazy = await alice.get(f"/rooms/{room_id}/context/{sent[1]}", limit="2", **query)

    assert nothing["events_before"] == nothing["events_after"] == []
    assert [e["state_key"] for e in lazy["state"]] == [alice.user_id]


async def test_the_event_closest_to_a_time_is_found(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    first = await alice.send(room_id, "first")
    await asyncio.sleep(0.02)
    second = await alice.send(room_id, "second")
    times = [(await alice.event(room_id, e))["origin_server_ts"] for e in (first, second)]
    path = f"/_matrix/client/v1/rooms/{quote(room_id)}/timestamp_to_event"

    after = await alice.get(path, ts=str(times[0] + 1), dir="f")
    before = await alice.get(path, ts=str(times[1] - 1), dir="b")

    assert after == {"event_id": second, "origin_server_ts": times[1]}
    assert before == {"event_id": first, "origin_server_ts": times[0]}
    with pytest.raises(Refused) as refused:
        await alice.get(path, ts=str(times[1] + 1000), dir="f")
    assert (refused.value.status, refused.value.errcode) == (404, "M_NOT_FOUND")


@pytest.mark.parametrize(
    ("query", "errcode"),
    [
        ({"dir": "x"}, "M_INVALID_PARAM"),
        ({"from": "rubbish"}, "M_INVALID_PARAM"),
        ({"from": "s99999999999999"}, "M_INVALID_PARAM"),
        ({"from": "s-1"}, "M_INVALID_PARAM"),
        ({"to": "t9999999999999999999"}, "M_INVALID_PARAM"),
        ({"limit": "-1"}, "M_INVALID_PARAM"),
        ({"limit": "many"}, "M_INVALID_PARAM"),
        ({"filter": "{"}, "M_INVALID_PARAM"),
        ({"filter": '{"types": 7}'}, "M_INVALID_PARAM"),
    ],
)
async def test_bad_queries_are_refused(
    server: RunningServer, query: dict[str, str], errcode: str
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    with pytest.raises(Refused) as refused:
        await alice.messages(room_id, **query)
    assert (refused.value.status, refused.value.errcode) == (400, errcode)


async def test_huge_limits_are_cut_and_none_is_an_empty_page(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    await alice.send(room_id, "hello")

    everything = await alice.messages(room_id, limit="99999999999")
    nothing = await alice.messages(room_id, limit="0")

    assert bodies(everything["chunk"]) == ["hello"]
    assert nothing["chunk"] == []
    with pytest.raises(Refused) as refused:
        await alice.get(f"/rooms/{room_id}/messages")
    assert refused.value.errcode == "M_MISSING_PARAM"


async def test_events_of_other_rooms_and_unknown_ones_are_not_found(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    mine, theirs = await alice.create_room(), await bob.create_room()
    event_id = await bob.send(theirs, "hello")
    await server.restart()
    alice = server.moved(alice)
    for path in (
        f"/rooms/{mine}/event/{event_id}",
        f"/rooms/{theirs}/event/{event_id}",
        f"/rooms/{mine}/context/{event_id}",
        f"/rooms/{mine}/event/$unknown",
        f"/rooms/!unknown:hs.test/event/{event_id}",
        f"/events/{event_id}",
        "/events/rubbish",
    ):
        with pytest.raises(Refused) as refused:
            await alice.get(path)
        assert (refused.value.status, refused.value.errcode) == (404, "M_NOT_FOUND"), path


async def test_of_ignored_users_only_state_events_are_shown(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    mine = await alice.send(room_id, "mine")
    await bob.send(room_id, "bob's")
    ignored: JsonObject = {"ignored_users": {bob.user_id: {}}}
    await alice.put(f"/user/{alice.user_id}/account_data/m.ignored_user_list", ignored)
    for _ in range(2):
        events = await all_pages(alice, room_id, limit="3")
        assert bodies(events) == ["mine"]
        assert bob.user_id in {e["sender"] for e in events if e["type"] == "m.room.member"}
        context = await alice.get(f"/rooms/{room_id}/context/{mine}")
        assert context["events_after"] == []
        await server.restart()
        alice = server.moved(alice)
