"""/search: words, pairs of characters, edits, redactions; only what the searcher may see."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.json_types import JsonObject
from tests.support.client import Client, Refused
from tests.support.server import RunningServer


async def search(client: Client, term: str, next_batch: str = "", **criteria: Any) -> Any:
    body = {"search_categories": {"room_events": {"search_term": term, **criteria}}}
    query = {"next_batch": next_batch} if next_batch else {}
    answer = await client.post("/search", body, **query)
    return answer["search_categories"]["room_events"]


def ids(answer: Any) -> list[str]:
    return [result["result"]["event_id"] for result in answer["results"]]


async def find(client: Client, term: str, *event_ids: str, **criteria: Any) -> Any:
    """One search, which finds exactly these: what was sent before can be found."""
    answer = await search(client, term, **criteria)
    assert set(ids(answer)) == set(event_ids)
    return answer


async def test_messages_names_and_topics_are_found_by_their_words(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    message = await alice.send(room_id, "The Quick brown fox")
    name = await alice.set_state(room_id, "m.room.name", {"name": "quick talk"})
    topic = await alice.set_state(room_id, "m.room.topic", {"topic": "being quick"})
    await alice.send(room_id, "slow")

    answer = await find(alice, "quick", message, name, topic)

    assert answer["count"] == 3
    assert answer["highlights"] == ["quick"]
    assert answer["results"][0]["rank"] > 0
    assert answer["results"][0]["result"]["room_id"] == room_id
    assert ids(await search(alice, "quick FOX")) == [message]
    assert ids(await search(alice, "quick", keys=["content.name"])) == [name]
    assert ids(await search(alice, "quick", filter={"types": ["m.room.topic"]})) == [topic]
    assert await search(alice, "!?") == {"results": [], "count": 0, "highlights": []}


async def test_scripts_without_spaces_are_found_by_pairs(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    japanese = await alice.send(room_id, "明日は日本語のテストです")
    cat = await alice.send(room_id, "私の猫")

    await find(alice, "日本語", japanese)
    await find(alice, "猫", cat)
    assert ids(await search(alice, "本日")) == []


async def test_an_edited_message_is_found_by_its_newest_text(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    event_id = await alice.send(room_id, "apples")
    relation = {"rel_type": "m.replace", "event_id": event_id}

    async def edit(client: Client, text: str) -> str:
        new = {"msgtype": "m.text", "body": text}
        content = {"body": f"* {text}", "m.new_content": new, "m.relates_to": relation}
        return await client.send(room_id, {"msgtype": "m.text", **content})

    await find(alice, "apples", event_id)
    edited = await edit(alice, "pears")
    await edit(bob, "oranges")

    answer = await find(alice, "pears", event_id)
    bundled = answer["results"][0]["result"]["unsigned"]["m.relations"]
    assert bundled["m.replace"]["event_id"] == edited
    await find(alice, "apples")
    assert ids(await search(alice, "oranges")) == []
    await alice.redact(room_id, edited)
    await find(alice, "apples", event_id)
    await find(alice, "pears")


async def test_redacted_messages_vanish(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    event_id = await alice.send(room_id, "regrettable")
    await find(alice, "regrettable", event_id)
    await alice.redact(room_id, event_id)
    assert (await find(alice, "regrettable"))["count"] == 0


async def test_only_what_the_searcher_may_see_is_found(server: RunningServer) -> None:
    alice, bob, eve = [await server.user(name) for name in ("alice", "bob", "eve")]
    state = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room_id = await alice.create_room(preset="public_chat", initial_state=[state])
    before = await alice.send(room_id, "secret before")
    await bob.join(room_id)
    during = await alice.send(room_id, "secret during")
    await bob.leave(room_id)
    after = await alice.send(room_id, "secret after")

    await find(alice, "secret", before, during, after)
    assert ids(await search(bob, "secret")) == [during]
    assert ids(await search(eve, "secret")) == []
    context = await search(bob, "secret", event_context={})
    around = context["results"][0]["context"]
    seen = [e["event_id"] for e in (*around["events_before"], *around["events_after"])]
    assert before not in seen
    assert after not in seen
    ignored: JsonObject = {"ignored_users": {alice.user_id: {}}}
    await bob.put(f"/user/{bob.user_id}/account_data/m.ignored_user_list", ignored)
    assert ids(await search(bob, "secret")) == []


async def test_filters_choose_rooms_and_senders(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    one, two = [await alice.create_room(preset="public_chat") for _ in range(2)]
    await bob.join(one)
    first = await alice.send(one, "needle")
    second = await bob.send(one, "needle")
    third = await alice.send(two, "needle")
    await find(alice, "needle", first, second, third)

    async def found(**definition: Any) -> set[str]:
        return set(ids(await search(alice, "needle", filter=definition)))

    assert await found(rooms=[one]) == {first, second}
    assert await found(not_rooms=[one]) == {third}
    assert await found(senders=[bob.user_id]) == {second}
    assert await found(not_senders=[bob.user_id]) == {first, third}
    assert await found(limit=0) == set()


@pytest.mark.parametrize("order_by", ["recent", "rank"])
async def test_results_are_paged_in_order(server: RunningServer, order_by: str) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    sent = [await alice.send(room_id, "needle" + " hay" * n) for n in range(7)]
    await find(alice, "needle", *sent, order_by=order_by)

    seen: list[str] = []
    token = ""
    while True:
        page = await search(alice, "needle", token, order_by=order_by, filter={"limit": 3})
        assert page["count"] == 7
        seen += ids(page)
        if "next_batch" not in page:
            assert len(page["results"]) == 1
            break
        token = page["next_batch"]

    assert sorted(seen) == sorted(sent)
    if order_by == "recent":
        assert seen == sent[::-1]
    else:
        assert seen[0] == sent[0]


async def test_the_page_after_a_full_one_may_be_empty(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    sent = [await alice.send(room_id, "needle") for _ in range(2)]
    await find(alice, "needle", *sent)

    full = await search(alice, "needle", filter={"limit": 2})
    after = await search(alice, "needle", full["next_batch"], filter={"limit": 2})

    assert full["results"][0]["result"]["user_id"] == alice.user_id
    assert (after["results"], after["count"]) == ([], 2)
    assert "next_batch" not in after


async def test_results_come_in_groups_that_page_on_their_own(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    one, two = [await alice.create_room(preset="public_chat") for _ in range(2)]
    await bob.join(one)
    sent = {one: [], two: []}  # type: dict[str, list[str]]
    for _ in range(3):
        sent[one].append(await bob.send(one, "needle"))
        sent[two].append(await alice.send(two, "needle"))
    every = [*sent[one], *sent[two]]
    groupings = {"group_by": [{"key": "room_id"}, {"key": "sender"}]}
    wanted: JsonObject = {"order_by": "recent", "groupings": groupings, "filter": {"limit": 4}}
    await find(alice, "needle", *every)

    page = await search(alice, "needle", **wanted)

    rooms = page["groups"]["room_id"]
    assert rooms[one]["results"] == sent[one][:0:-1]
    assert page["groups"]["sender"][bob.user_id]["results"] == sent[one][:0:-1]
    rest = await search(alice, "needle", rooms[one]["next_batch"], **wanted)
    assert ids(rest) == [sent[one][0]]


async def test_context_profiles_and_state_come_with_the_results(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room(name="The pub")
    sent = [await alice.send(room_id, f"message {n}") for n in range(3)]
    needle = await alice.send(room_id, "needle")
    later = [await alice.send(room_id, f"later {n}") for n in range(3)]
    wanted = {
        "event_context": {"before_limit": 2, "after_limit": 1, "include_profile": True},
        "include_state": True,
    }

    answer = await find(alice, "needle", needle, **wanted)

    context = answer["results"][0]["context"]
    assert [e["event_id"] for e in context["events_before"]] == [sent[2], sent[1]]
    assert [e["event_id"] for e in context["events_after"]] == [later[0]]
    assert context["profile_info"].keys() == {alice.user_id}
    assert "m.room.name" in {e["type"] for e in answer["state"][room_id]}
    before = await alice.messages(room_id, limit="1", **{"from": context["start"]})
    assert before["chunk"][0]["event_id"] == sent[0]


async def test_the_index_goes_on_after_a_restart(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    first = await alice.send(room_id, "needle one")
    await server.restart()
    alice = server.moved(alice)
    second = await alice.send(room_id, "needle two")
    await find(alice, "needle", first, second)


@pytest.mark.parametrize(
    ("body", "query", "errcode"),
    [
        ({}, {}, "M_MISSING_PARAM"),
        ({"search_categories": {"room_events": {}}}, {}, "M_BAD_JSON"),
        ({"search_categories": {"room_events": {"search_term": 7}}}, {}, "M_BAD_JSON"),
        (
            {"search_categories": {"room_events": {"search_term": "x", "order_by": "luck"}}},
            {},
            "M_BAD_JSON",
        ),
        (
            {"search_categories": {"room_events": {"search_term": "x", "keys": ["content.url"]}}},
            {},
            "M_BAD_JSON",
        ),
        (
            {"search_categories": {"room_events": {"search_term": "x"}}},
            {"next_batch": "rubbish"},
            "M_INVALID_PARAM",
        ),
    ],
)
async def test_bad_searches_are_refused(
    server: RunningServer, body: JsonObject, query: dict[str, str], errcode: str
) -> None:
    alice = await server.user("alice")
    with pytest.raises(Refused) as refused:
        await alice.post("/search", body, **query)
    assert (refused.value.status, refused.value.errcode) == (400, errcode)
    assert await alice.post("/search", {"search_categories": {}}) == {"search_categories": {}}
