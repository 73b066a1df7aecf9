"""Who may redact what, and what a redaction does."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from homeserver.store import events as event_store
from homeserver.store.database import Connection
from homeserver.store.events import EventRow
from tests.support.client import Refused, bodies, refusal
from tests.support.server import RunningServer


async def test_one_may_redact_ones_own_events_and_moderators_those_of_others(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    by_alice = await alice.send(room_id, "alice's")
    by_bob = await bob.send(room_id, "bob's")
    another = await bob.send(room_id, "bob's second")

    with pytest.raises(Refused) as refused:
        await bob.redact(room_id, by_alice)
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")
    await bob.redact(room_id, by_bob)
    await alice.redact(room_id, another)

    assert bodies([e for e in (await bob.messages(room_id))["chunk"] if e["content"]]) == [
        "alice's"
    ]


async def test_only_moderators_redact_what_is_not_known(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    unknown = "$" + "a" * 43
    assert (await refusal(bob.redact(room_id, unknown))).errcode == "M_FORBIDDEN"
    await alice.redact(room_id, unknown)


async def test_outsiders_redact_nothing(server: RunningServer) -> None:
    alice, eve = await server.user("alice"), await server.user("eve")
    room_id = await alice.create_room()
    event_id = await alice.send(room_id, "hello")
    with pytest.raises(Refused) as refused:
        await eve.redact(room_id, event_id)
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")
    assert (await alice.event(room_id, event_id))["content"]["body"] == "hello"


async def test_an_event_is_redacted_only_in_its_own_room(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    mine, theirs = await alice.create_room(), await bob.create_room()
    event_id = await bob.send(theirs, "hello")
    for _ in range(2):  # with the other room in memory, and without it
        with pytest.raises(Refused) as refused:
            await alice.redact(mine, event_id)
        assert (refused.value.status, refused.value.errcode) == (400, "M_INVALID_PARAM")
        await server.restart()
        alice, bob = server.moved(alice), server.moved(bob)
    assert (await bob.event(theirs, event_id))["content"]["body"] == "hello"


async def test_the_create_event_is_never_redacted(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    create = (await alice.get(f"/rooms/{room_id}/state/m.room.create", format="event"))["event_id"]
    with pytest.raises(Refused) as refused:
        await alice.redact(room_id, create)
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")


@pytest.mark.parametrize("version", ["1", "6", "10", "11", "12"])
async def test_a_redaction_names_its_event_at_both_places(
    server: RunningServer, version: str
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room(room_version=version)
    event_id = await alice.send(room_id, "hello")
    redaction_id = await alice.redact(room_id, event_id, reason="oops")

    redaction = await alice.event(room_id, redaction_id)

    assert redaction["redacts"] == redaction["content"]["redacts"] == event_id
    assert redaction["content"]["reason"] == "oops"
    assert (await alice.event(room_id, event_id))["content"] == {}


async def test_bad_redactions_are_refused(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    event_id = await alice.send(room_id, "hello")
    path = f"/rooms/{room_id}/redact/{event_id}/1"
    with pytest.raises(Refused) as refused:
        await alice.put(path, {"reason": 7})
    assert (refused.value.status, refused.value.errcode) == (400, "M_BAD_JSON")
    with pytest.raises(Refused) as refused:
        await alice.put(f"/rooms/{room_id}/send/m.room.redaction/2", {"reason": "what?"})
    assert (refused.value.status, refused.value.errcode) == (400, "M_BAD_JSON")
    assert await alice.put(path, {}) == await alice.put(path, {})


async def test_related_events_are_redacted_too_if_asked_for(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    root = await bob.send(room_id, "root")
    kept, gone, by_alice = [
        await client.send(
            room_id,
            {"body": "x", "msgtype": "m.text", "m.relates_to": {"rel_type": t, "event_id": root}},
        )
        for client, t in ((bob, "m.reference"), (bob, "m.thread"), (alice, "m.thread"))
    ]
    with_relations = {"org.matrix.msc3912.with_relations": ["m.thread"]}

    await bob.put(f"/rooms/{room_id}/redact/{root}/1", with_relations)

    contents = {e: (await alice.event(room_id, e))["content"] for e in (root, kept, gone, by_alice)}
    assert [bool(content) for content in contents.values()] == [False, True, False, True]
    with pytest.raises(Refused) as refused:
        bad = {"org.matrix.msc3912.with_relations": "m.thread"}
        await bob.put(f"/rooms/{room_id}/redact/{kept}/2", bad)
    assert (refused.value.status, refused.value.errcode) == (400, "M_BAD_JSON")


async def test_who_reads_an_event_while_it_is_redacted_gets_it_redacted(
    server: RunningServer,
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    event_id = await alice.send(room_id, "secret")
    assert server.app is not None
    rooms = server.app.stream.rooms
    async with server.app.database.connection() as connection:
        rows = await event_store.by_ids(connection, [event_id])
        rooms.drop(room_id)
        rooms.events.drop(event_id)
        await alice.redact(room_id, event_id)
        rooms.drop(room_id)
        rooms.events.drop(event_id)
        [stored] = await rooms.events.adopt(connection, rows, rooms.rules_of)
    assert stored.redacted_by is not None
    assert b"secret" not in stored.client


async def test_a_redacted_event_is_not_met_before_its_redaction_is_read(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    event_id = await alice.send(room_id, "secret")
    await alice.redact(room_id, event_id)
    assert server.app is not None
    rooms = server.app.stream.rooms
    by_numbers, met = event_store.by_numbers, []

    async def looking(connection: Connection, numbers: Collection[int]) -> list[EventRow]:
        met.append(rooms.events.peek(event_id))
        return await by_numbers(connection, numbers)

    monkeypatch.setattr(event_store, "by_numbers", looking)
    rooms.drop(room_id)
    rooms.events.drop(event_id)
    async with server.app.database.connection() as connection:
        rows = await event_store.by_ids(connection, [event_id])
        [stored] = await rooms.events.adopt(connection, rows, rooms.rules_of)
    assert met == [None]
    assert b'"redacted_because"' in stored.client
    assert b"secret" not in stored.client
