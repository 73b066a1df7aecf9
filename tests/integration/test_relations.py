"""Relations between events: bundles, /relations, /threads, and what may not be sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homeserver.json_types import JsonObject
from tests.support.client import Client, Refused, timeline
from tests.support.server import RunningServer


def related(rel_type: str, event_id: str, body: str = "…", **more: Any) -> JsonObject:
    relation = {"rel_type": rel_type, "event_id": event_id}
    return {"msgtype": "m.text", "body": body, "m.relates_to": relation, **more}


def edit_of(event_id: str, body: str) -> JsonObject:
    return related("m.replace", event_id, f"* {body}", **{"m.new_content": {"body": body}})


async def react(client: Client, room_id: str, event_id: str, key: str) -> str:
    relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
    return await client.send(room_id, {"m.relates_to": relation}, "m.reaction")


async def bundle(client: Client, room_id: str, event_id: str) -> Any:
    return (await client.event(room_id, event_id))["unsigned"].get("m.relations", {})


def ids(answer: Any) -> list[str]:
    return [event["event_id"] for event in answer["chunk"]]


async def children(
    client: Client, room_id: str, event_id: str, more: str = "", **query: str
) -> Any:
    path = f"/_matrix/client/v1/rooms/{room_id}/relations/{event_id}{more}"
    return await client.get(path, **query)


async def threads(client: Client, room_id: str, **query: str) -> Any:
    return await client.get(f"/_matrix/client/v1/rooms/{room_id}/threads", **query)


async def test_an_event_brings_its_newest_edit_its_references_and_its_thread(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    root = await alice.send(room_id, "root")
    await alice.send(room_id, edit_of(root, "first"))
    newest = await alice.send(room_id, edit_of(root, "second"))
    await bob.send(room_id, edit_of(root, "not by its sender"))
    await alice.send(room_id, related("m.replace", root, "without new content"))
    references = [await bob.send(room_id, related("m.reference", root)) for _ in range(2)]
    await bob.send(room_id, related("m.thread", root))
    last = await alice.send(room_id, related("m.thread", root))
    last_edit = await alice.send(room_id, edit_of(last, "edited"))
    await react(bob, room_id, root, "👍")

    for _ in range(2):  # from memory, then from the database
        found = await bundle(bob, room_id, root)
        assert found["m.replace"]["event_id"] == newest
        assert found["m.replace"]["room_id"] == room_id
        assert [e["event_id"] for e in found["m.reference"]["chunk"]] == references
        thread = found["m.thread"]
        assert (thread["count"], thread["current_user_participated"]) == (2, True)
        assert thread["latest_event"]["event_id"] == last
        inner = thread["latest_event"]["unsigned"]["m.relations"]
        assert inner["m.replace"]["event_id"] == last_edit
        assert "m.annotation" not in found
        await server.restart()
        alice, bob = server.moved(alice), server.moved(bob)


async def test_bundles_are_wherever_the_specification_asks_for_them(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    root = await alice.send(room_id, "root")
    edit = await alice.send(room_id, edit_of(root, "edited"))

    def edit_in(events: list[Any]) -> str:
        event = next(e for e in events if e["event_id"] == root)
        return str(event["unsigned"]["m.relations"]["m.replace"]["event_id"])

    for _ in range(2):
        assert edit_in((await alice.messages(room_id))["chunk"]) == edit
        context = await alice.get(f"/rooms/{room_id}/context/{edit}")
        assert edit_in(context["events_before"]) == edit
        limited = json.dumps({"room": {"timeline": {"limit": 2}}})
        answer = await alice.get("/sync", filter=limited)
        timeline = answer["rooms"]["join"][room_id]["timeline"]
        assert edit_in(timeline["events"]) == edit
        assert edit_in([(await alice.event(room_id, root))]) == edit
        await server.restart()
        alice = server.moved(alice)


async def test_a_sync_that_tells_everything_has_no_bundles(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    since = (await alice.sync())["next_batch"]
    root = await alice.send(room_id, "root")
    await alice.send(room_id, edit_of(root, "edited"))

    timeline = (await alice.sync(since=since))["rooms"]["join"][room_id]["timeline"]

    assert timeline["limited"] is False
    assert all("m.relations" not in event["unsigned"] for event in timeline["events"])


async def test_redacting_a_child_takes_it_out_of_the_bundle(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    root = await alice.send(room_id, "root")
    first = await alice.send(room_id, edit_of(root, "first"))
    second = await alice.send(room_id, edit_of(root, "second"))
    threaded = await alice.send(room_id, related("m.thread", root))

    await alice.redact(room_id, second)
    assert (await bundle(alice, room_id, root))["m.replace"]["event_id"] == first
    await alice.redact(room_id, threaded)
    assert "m.thread" not in await bundle(alice, room_id, root)
    await alice.redact(room_id, first)
    assert await bundle(alice, room_id, root) == {}
    assert ids(await children(alice, room_id, root)) == []


async def test_a_redacted_event_keeps_its_thread_and_loses_its_edits(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    root = await alice.send(room_id, "root")
    await alice.send(room_id, edit_of(root, "edited"))
    await alice.send(room_id, related("m.thread", root))
    await alice.redact(room_id, root)

    found = await bundle(alice, room_id, root)

    assert found.keys() == {"m.thread"}


async def test_ignored_users_are_left_out(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    root = await alice.send(room_id, "root")
    mine = await alice.send(room_id, related("m.thread", root))
    await bob.send(room_id, related("m.thread", root))
    bobs_root = await bob.send(room_id, "bob's")
    await alice.send(room_id, related("m.thread", bobs_root))
    ignored: JsonObject = {"ignored_users": {bob.user_id: {}}}
    await alice.put(f"/user/{alice.user_id}/account_data/m.ignored_user_list", ignored)

    thread = (await bundle(alice, room_id, root))["m.thread"]
    assert (thread["count"], thread["latest_event"]["event_id"]) == (1, mine)
    assert ids(await children(alice, room_id, root)) == [mine]
    listed = {e["event_id"]: e for e in (await threads(alice, room_id))["chunk"]}
    assert listed[bobs_root]["content"] == {}
    assert listed[root]["content"]["body"] == "root"


async def test_relations_of_other_rooms_do_not_count(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id, other = await alice.create_room(), await alice.create_room()
    root = await alice.send(room_id, "root")
    await alice.send(other, edit_of(root, "from elsewhere"))
    await alice.send(other, related("m.thread", root))

    assert await bundle(alice, room_id, root) == {}
    assert ids(await children(alice, room_id, root)) == []
    assert ids(await threads(alice, other)) == []


async def test_children_are_paged_in_both_directions(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    root = await alice.send(room_id, "root")
    sent = [await alice.send(room_id, related("m.reference", root)) for _ in range(5)]
    for direction, expected in (("b", sent[::-1]), ("f", sent)):
        seen: list[str] = []
        query = {"dir": direction, "limit": "2"}
        while True:
            answer = await children(alice, room_id, root, **query)
            assert ("prev_batch" in answer) is ("from" in query)
            seen += ids(answer)
            if "next_batch" not in answer:
                break
            query["from"] = answer["next_batch"]
        assert seen == expected


async def test_children_are_chosen_by_relation_and_type(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    root = await alice.send(room_id, "root")
    reference = await alice.send(room_id, related("m.reference", root))
    odd = await alice.send(room_id, related("m.reference", root), "org.example")
    reaction = await react(alice, room_id, root, "👍")

    assert ids(await children(alice, room_id, root)) == [reaction, odd, reference]
    assert ids(await children(alice, room_id, root, "/m.annotation")) == [reaction]
    assert ids(await children(alice, room_id, root, "/m.reference/org.example")) == [odd]
    assert ids(await children(alice, room_id, root, "/org.none")) == []


async def test_recursion_follows_three_levels(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    root = await alice.send(room_id, "root")
    chain = [root]
    for _ in range(4):
        chain.append(await alice.send(room_id, related("m.reference", chain[-1])))
    reaction = await react(alice, room_id, chain[1], "👍")

    answer = await children(alice, room_id, root, recurse="true")

    assert answer["recursion_depth"] == 3
    assert set(ids(answer)) == {chain[1], chain[2], chain[3], reaction}
    only = await children(alice, room_id, root, "/m.annotation", recurse="true")
    assert ids(only) == []


async def test_threads_are_listed_by_their_newest_event(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    roots = [await alice.send(room_id, f"root {n}") for n in range(3)]
    for root in (*roots, roots[0]):
        await alice.send(room_id, related("m.thread", root))
    await bob.send(room_id, related("m.thread", roots[1]))

    first = await threads(alice, room_id, limit="2")
    second = await threads(alice, room_id, limit="2", **{"from": first["next_batch"]})

    assert ids(first) == [roots[1], roots[0]]
    assert ids(second) == [roots[2]]
    assert "next_batch" not in second
    assert first["chunk"][1]["unsigned"]["m.relations"]["m.thread"]["count"] == 2
    assert ids(await threads(bob, room_id, include="participated")) == [roots[1]]


async def test_what_may_not_be_seen_is_not_in_a_bundle(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    root = await alice.send(room_id, "root")
    before = await alice.send(room_id, related("m.thread", root, "before"))
    await bob.leave(room_id)
    await alice.send(room_id, related("m.thread", root, "after"))
    await alice.send(room_id, edit_of(root, "after"))

    found = await bundle(bob, room_id, root)

    assert found.keys() == {"m.thread"}
    assert (found["m.thread"]["count"], found["m.thread"]["latest_event"]["event_id"]) == (
        1,
        before,
    )
    assert ids(await children(bob, room_id, root)) == [before]


async def test_events_are_filtered_by_who_relates_to_them(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    one, two, _ = [await alice.send(room_id, f"message {n}") for n in range(3)]
    await react(bob, room_id, one, "👍")
    await bob.send(room_id, related("m.thread", two))

    async def matching(**definition: Any) -> list[str]:
        return ids(await alice.messages(room_id, filter=json.dumps(definition)))

    async def synced(**definition: Any) -> list[str]:
        alice.next_batch = None
        answer = await alice.sync(filter=json.dumps({"room": {"timeline": definition}}))
        return [event["event_id"] for event in timeline(answer, room_id)]

    assert await matching(related_by_senders=[bob.user_id]) == [two, one]
    assert await synced(related_by_senders=[bob.user_id]) == [one, two]
    assert await synced(related_by_rel_types=["m.thread"]) == [two]
    assert await synced(related_by_rel_types=["m.thread"], related_by_senders=["@c:d"]) == []
    assert await matching(related_by_rel_types=["m.thread"]) == [two]
    assert await matching(related_by_senders=[alice.user_id]) == []


async def test_the_same_reaction_is_not_taken_twice(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    event_id = await alice.send(room_id, "hello")
    content = {"m.relates_to": {"rel_type": "m.annotation", "event_id": event_id, "key": "👍"}}
    first = await alice.send(room_id, content, "m.reaction", txn_id="one")

    assert await alice.send(room_id, content, "m.reaction", txn_id="one") == first
    with pytest.raises(Refused) as refused:
        await alice.send(room_id, content, "m.reaction")
    assert (refused.value.status, refused.value.errcode) == (400, "M_DUPLICATE_ANNOTATION")
    await react(bob, room_id, event_id, "👍")
    await react(alice, room_id, event_id, "👎")
    await alice.redact(room_id, first)
    await react(alice, room_id, event_id, "👍")


async def test_a_thread_cannot_start_at_a_related_event(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    root = await alice.send(room_id, "root")
    child = await alice.send(room_id, related("m.thread", root))
    with pytest.raises(Refused) as refused:
        await alice.send(room_id, related("m.thread", child))
    assert (refused.value.status, refused.value.errcode) == (400, "M_UNKNOWN")


async def test_relations_and_threads_are_not_for_strangers(server: RunningServer) -> None:
    alice, eve = await server.user("alice"), await server.user("eve")
    room_id = await alice.create_room()
    root = await alice.send(room_id, "root")
    with pytest.raises(Refused) as refused:
        await children(eve, room_id, root)
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")
    with pytest.raises(Refused) as refused:
        await threads(eve, room_id)
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")
    with pytest.raises(Refused) as refused:
        await children(alice, room_id, "$unknown")
    assert (refused.value.status, refused.value.errcode) == (404, "M_NOT_FOUND")
    for query in ({"limit": "0"}, {"from": "x"}, {"dir": "u"}):
        with pytest.raises(Refused) as refused:
            await children(alice, room_id, root, **query)
        assert (refused.value.status, refused.value.errcode) == (400, "M_INVALID_PARAM")
    with pytest.raises(Refused) as refused:
        await threads(alice, room_id, include="some")
    assert refused.value.status == 400


async def test_odd_relations_are_ignored(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    root = await alice.send(room_id, "root")
    odd: Any
    for odd in (
        7,
        [],
        {"rel_type": 7, "event_id": root},
        {"rel_type": "m.reference"},
        {"rel_type": "m.ref\0", "event_id": root},
        {"rel_type": "m.annotation", "event_id": root, "key": "\0"},
    ):
        await alice.send(room_id, {"body": "odd", "msgtype": "m.text", "m.relates_to": odd})
    assert await bundle(alice, room_id, root) == {}
