"""Events that are sent later (MSC4140)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from homeserver.backoff import Backoff
from homeserver.json_types import JsonObject
from homeserver.services import delayed_events
from homeserver.services.delayed_events import DelayedEvents
from homeserver.store import delayed_events as delayed_store
from homeserver.store.database import Connection
from homeserver.store.delayed_events import DelayedEvent
from tests.support.client import DEADLINE, Client, Refused, bodies, refusal
from tests.support.server import RunningServer

EVENTS = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events"
DELAY = "org.matrix.msc4140.delay"
CALL = "org.matrix.msc3401.call.member"


async def send_later(
    client: Client, room_id: str, body: str, delay: int, txn_id: str = "later"
) -> str:
    path = f"/rooms/{room_id}/send/m.room.message/{txn_id}"
    answer = await client.put(path, {"msgtype": "m.text", "body": body}, **{DELAY: str(delay)})
    assert answer.keys() == {"delay_id"}
    return str(answer["delay_id"])


async def set_state_later(client: Client, room_id: str, content: JsonObject, delay: int) -> str:
    path = f"/rooms/{room_id}/state/{CALL}/{client.user_id}"
    return str((await client.put(path, content, **{DELAY: str(delay)}))["delay_id"])


async def texts(client: Client, room_id: str) -> list[str]:
    return bodies((await client.messages(room_id))["chunk"])[::-1]


async def waiting(client: Client) -> list[Any]:
    events: list[Any] = (await client.get(EVENTS))["delayed_events"]
    return events


async def until_sent(client: Client) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            if not await waiting(client):
                return
            await asyncio.sleep(0.05)


async def test_a_delayed_message_is_sent_when_its_time_has_come(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    delay_id = await send_later(alice, room_id, "later", 300)
    await alice.send(room_id, "first")

    (listed,) = await waiting(alice)
    assert (listed["delay_id"], listed["room_id"], listed["delay"]) == (delay_id, room_id, 300)
    assert listed["content"]["body"] == "later"
    assert listed == await alice.get(f"{EVENTS}/{delay_id}")
    assert await texts(alice, room_id) == ["first"]
    await until_sent(alice)
    assert await texts(alice, room_id) == ["first", "later"]
    assert (await alice.get("/_matrix/client/versions"))["unstable_features"]["org.matrix.msc4140"]


async def test_the_same_transaction_is_one_delayed_event(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    first = await send_later(alice, room_id, "once", 60_000, "one")

    assert await send_later(alice, room_id, "once", 60_000, "one") == first
    assert await send_later(alice, room_id, "twice", 60_000, "two") != first
    assert len(await waiting(alice)) == 2


async def test_a_transaction_is_one_of_its_room(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_ids = [await alice.create_room() for _ in range(2)]
    for room_id in room_ids:
        await send_later(alice, room_id, "later", 60_000, "one")
    assert {event["room_id"] for event in await waiting(alice)} == set(room_ids)


async def test_an_event_is_restarted_cancelled_or_sent_at_once(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    at_once, never = [
        await send_later(alice, room_id, body, 60_000, body) for body in ("at once", "never")
    ]
    anybody = server.anonymous()

    await anybody.post(f"{EVENTS}/{at_once}", {"action": "send"})
    await anybody.post(f"{EVENTS}/{never}/cancel")
    assert await texts(alice, room_id) == ["at once"]
    assert await waiting(alice) == []

    delay_id = await send_later(alice, room_id, "kept back", 400, "three")
    before = (await waiting(alice))[0]["running_since"]
    for _ in range(4):
        await asyncio.sleep(0.15)
        await alice.post(f"{EVENTS}/{delay_id}", {"action": "restart"})
    (listed,) = await waiting(alice)
    assert listed["running_since"] > before
    assert await texts(alice, room_id) == ["at once"]
    await until_sent(alice)
    assert await texts(alice, room_id) == ["at once", "kept back"]


async def test_delayed_events_survive_a_restart(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    overdue = await send_later(alice, room_id, "overdue", 500, "one")
    kept = await send_later(alice, room_id, "kept", 60_000, "two")
    assert overdue
    await server.stop()
    await asyncio.sleep(0.6)
    await server.start()
    alice = server.moved(alice)

    async with asyncio.timeout(DEADLINE):
        while True:
            if [event["delay_id"] for event in await waiting(alice)] == [kept]:
                break
            await asyncio.sleep(0.05)
    assert await texts(alice, room_id) == ["overdue"]


async def test_somebody_elses_state_cancels_a_delayed_state_event(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    levels = {"events": {CALL: 0}, "state_default": 0}
    room_id = await alice.create_room(preset="public_chat", power_level_content_override=levels)
    await bob.join(room_id)
    path = f"/rooms/{room_id}/state/org.example/"
    await bob.put(path, {"from": "bob, later"}, **{DELAY: "60000"})

    await bob.put(path, {"from": "bob"})
    assert len(await waiting(bob)) == 1
    await alice.put(path, {"from": "alice"})
    await until_sent(bob)
    assert await bob.state(room_id, "org.example") == {"from": "alice"}


async def test_a_member_of_a_call_is_gone_when_nobody_says_otherwise(
    server: RunningServer,
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    await alice.set_state(room_id, CALL, {"application": "m.call"}, alice.user_id)
    await set_state_later(alice, room_id, {}, 300)
    await until_sent(alice)
    assert await alice.state(room_id, CALL, alice.user_id) == {}


async def test_what_may_not_be_sent_when_its_time_comes_is_dropped(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await send_later(bob, room_id, "late", 200)
    delay_id = await send_later(bob, room_id, "later", 60_000, "two")
    await alice.ban(room_id, bob.user_id)
    with pytest.raises(Refused) as refused:
        await bob.post(f"{EVENTS}/{delay_id}", {"action": "send"})
    assert refused.value.errcode == "M_FORBIDDEN"
    await until_sent(bob)
    assert await texts(alice, room_id) == []


async def test_bad_delays_are_refused(server: RunningServer) -> None:
    alice, eve = await server.user("alice"), await server.user("eve")
    room_id = await alice.create_room()
    with pytest.raises(Refused) as refused:
        await send_later(alice, room_id, "x", 10**12)
    assert refused.value.body["org.matrix.msc4140.errcode"] == "M_MAX_DELAY_EXCEEDED"
    assert refused.value.body["org.matrix.msc4140.max_delay"] > 0
    for delay in (0, -1):
        with pytest.raises(Refused) as refused:
            await send_later(alice, room_id, "x", delay)
        assert (refused.value.status, refused.value.errcode) == (400, "M_INVALID_PARAM")
    with pytest.raises(Refused) as refused:
        await send_later(eve, room_id, "x", 100)
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")
    delay_id = await send_later(alice, room_id, "mine", 60_000)
    with pytest.raises(Refused) as refused:
        await eve.get(f"{EVENTS}/{delay_id}")
    assert refused.value.status == 404
    with pytest.raises(Refused) as refused:
        await alice.post(f"{EVENTS}/{delay_id}", {"action": "explode"})
    assert (refused.value.status, refused.value.errcode) == (400, "M_INVALID_PARAM")
    with pytest.raises(Refused) as refused:
        await alice.post(f"{EVENTS}/unknown", {"action": "cancel"})
    assert (refused.value.status, refused.value.errcode) == (404, "M_NOT_FOUND")


async def test_there_is_a_limit_of_delayed_events(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    for number in range(100):
        await send_later(alice, room_id, "x", 60_000, f"txn{number}")
    with pytest.raises(Refused) as refused:
        await send_later(alice, room_id, "x", 60_000, "one too many")
    assert (refused.value.status, refused.value.errcode) == (429, "M_LIMIT_EXCEEDED")


@pytest.mark.parametrize("column", ["is_suspended", "is_locked", "is_deactivated"])
async def test_who_may_not_send_now_sends_nothing_later(server: RunningServer, column: str) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await send_later(bob, room_id, "late", 300)
    delay_id = await send_later(bob, room_id, "later", 60_000, "two")
    assert server.app is not None
    async with server.app.database.connection() as connection:
        await connection.execute(
            f"UPDATE accounts SET {column} = true WHERE user_id = $1", bob.user_id
        )
    refused = await refusal(alice.post(f"{EVENTS}/{delay_id}", {"action": "send"}))
    assert refused.status == 403
    async with asyncio.timeout(DEADLINE):
        while await count_of_delayed(server):  # noqa: ASYNC110 - the server ends it
            await asyncio.sleep(0.05)
    assert await texts(alice, room_id) == []


async def count_of_delayed(server: RunningServer) -> int:
    assert server.app is not None
    async with server.app.database.connection() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM delayed_events"))


async def test_who_restarts_what_was_just_cancelled_does_not_bring_it_back(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await server.user("alice")
    delay_id = await send_later(alice, await alice.create_room(), "never", 60_000)
    restart = delayed_store.restart

    async def cancelled_first(connection: Connection, delay_id: str, since: int) -> None:
        await delayed_store.delete(connection, [delay_id])
        await restart(connection, delay_id, since)

    monkeypatch.setattr(delayed_store, "restart", cancelled_first)
    await alice.post(f"{EVENTS}/{delay_id}", {"action": "restart"})
    assert await count_of_delayed(server) == 0


async def test_what_is_sent_before_it_is_written_down_is_not_left_over(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    insert = delayed_store.insert

    async def slow(connection: Connection, event: DelayedEvent) -> None:
        await until_sent(alice)
        await insert(connection, event)

    monkeypatch.setattr(delayed_store, "insert", slow)
    await send_later(alice, room_id, "at once", 1)
    async with asyncio.timeout(DEADLINE):
        while await count_of_delayed(server):  # noqa: ASYNC110 - the server ends it
            await asyncio.sleep(0.05)
    assert await texts(alice, room_id) == ["at once"]


async def test_a_fault_of_ours_is_not_the_end_of_a_delayed_event(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    monkeypatch.setattr(delayed_events, "BACKOFF_SECONDS", Backoff(0.05, 1.0))
    send, faults = DelayedEvents._send_event, iter([KeyError("a"), OSError("b")])

    async def send_at_third(self: DelayedEvents, event: DelayedEvent) -> None:
        if fault := next(faults, None):
            raise fault
        await send(self, event)

    monkeypatch.setattr(DelayedEvents, "_send_event", send_at_third)
    await send_later(alice, room_id, "at last", 50)
    await until_sent(alice)
    assert await texts(alice, room_id) == ["at last"]


async def test_a_delayed_event_is_known_by_its_delay_id(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    delay_id = await send_later(alice, room_id, "later", 60_000)
    [listed] = await waiting(alice)
    one = await alice.get(f"{EVENTS}/{delay_id}")
    await alice.post(f"{EVENTS}/{delay_id}/send")

    [event] = (await alice.messages(room_id, limit="1"))["chunk"]

    assert listed == one
    assert listed["delay_ms"] == listed["delay"] == 60_000
    assert listed["delayed_since_ts"] == listed["running_since"]
    assert event["unsigned"]["org.matrix.msc4140.delay_id"] == delay_id
    assert "transaction_id" not in event["unsigned"]


async def test_clients_learn_how_long_events_can_be_delayed(server: RunningServer) -> None:
    alice = await server.user("alice")
    answer = await alice.get("/capabilities")
    delayed = answer["capabilities"]["org.matrix.msc4140.delayed_events"]
    assert delayed == {"max_delay_ms": 86_400_000, "max_scheduled": 100}
