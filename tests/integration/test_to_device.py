"""Messages from device to device: delivered once, in order, and kept until acknowledged."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from homeserver.json_types import JsonObject
from tests.support.client import Client, Refused, refusal
from tests.support.server import RunningServer

txn_ids = itertools.count(1)


async def send(
    sender: Client, receiver: Client, content: JsonObject, txn_id: str | None = None, to: str = ""
) -> None:
    messages = {receiver.user_id: {to or receiver.device_id: content}}
    path = f"/sendToDevice/test.message/{txn_id or next(txn_ids)}"
    await sender.put(path, {"messages": messages})


def received(answer: Any) -> list[Any]:
    return [e["content"].get("n") for e in answer.get("to_device", {}).get("events", [])]


async def test_a_message_wakes_the_device_and_names_its_sender(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    await bob.sync()
    waiting = asyncio.create_task(bob.sync(timeout_ms=10_000))
    await asyncio.sleep(0.05)

    await send(alice, bob, {"n": 1})

    events = (await waiting)["to_device"]["events"]
    assert events == [{"type": "test.message", "sender": alice.user_id, "content": {"n": 1}}]


async def test_a_message_stays_until_the_next_token_acknowledges_it(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    before = (await bob.sync())["next_batch"]
    await send(alice, bob, {"n": 1})

    assert received(await bob.sync(since=before)) == [1]
    assert received(await bob.sync(since=before)) == [1]
    assert received(await bob.sync()) == []
    assert received(await bob.sync()) == []


async def test_messages_wait_for_a_device_over_a_restart(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    await bob.sync()
    for n in range(5):
        await send(alice, bob, {"n": n})
    await server.restart()
    server.moved(alice)
    server.moved(bob)

    await send(alice, bob, {"n": 5})
    assert received(await bob.sync()) == [0, 1, 2, 3, 4, 5]
    assert received(await bob.sync()) == []


async def test_a_star_reaches_all_devices_of_a_user(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    phone = await bob.another_device()

    await send(alice, bob, {"n": 1}, to="*")

    assert received(await bob.sync()) == received(await phone.sync()) == [1]
    assert received(await alice.sync()) == []


async def test_only_the_addressed_device_gets_a_message(server: RunningServer) -> None:
    alice = await server.user("alice")
    phone = await alice.another_device()

    await send(alice, phone, {"n": 1})

    assert received(await alice.sync()) == []
    assert received(await phone.sync()) == [1]


async def test_a_repeated_transaction_sends_once(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    await asyncio.gather(*(send(alice, bob, {"n": 1}, txn_id="same") for _ in range(5)))
    await server.restart()
    server.moved(alice)
    server.moved(bob)
    await send(alice, bob, {"n": 2}, txn_id="same")

    assert received(await bob.sync()) == [1]
    another = await alice.another_device()
    await send(another, bob, {"n": 3}, txn_id="same")
    assert received(await bob.sync()) == [3]


@pytest.mark.parametrize("waiting_in_memory", [True, False])
async def test_many_messages_come_a_hundred_at_a_time(
    server: RunningServer, waiting_in_memory: bool
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    await bob.sync()
    for n in range(450):
        await send(alice, bob, {"n": n})
    if not waiting_in_memory:
        await server.restart()
        server.moved(alice)
        server.moved(bob)

    got: list[int] = []
    while found := received(await bob.sync()):
        assert len(found) <= 100
        got += found

    assert got == list(range(450))


async def test_a_token_of_a_full_answer_can_be_used_again(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    await bob.sync()
    for n in range(150):
        await send(alice, bob, {"n": n})

    first = await bob.sync()
    again = [received(await bob.sync(since=first["next_batch"])) for _ in range(2)]

    assert received(first) == list(range(100))
    assert again == [list(range(100, 150))] * 2


async def test_a_token_of_a_full_answer_is_good_for_history_too(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await bob.create_room()
    event_id = await bob.send(room_id, "before")
    await bob.sync()
    for n in range(101):
        await send(alice, bob, {"n": n})
    token = (await bob.sync())["next_batch"]
    assert "_" in token

    newest = (await bob.messages(room_id, **{"from": token, "limit": "1"}))["chunk"]
    assert [event["event_id"] for event in newest] == [event_id]
    await bob.get("/keys/changes", **{"from": token, "to": token})


async def test_a_device_that_does_not_exist_is_passed_over(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    await send(alice, bob, {"n": 1}, to="NOBODY")
    await send(alice, bob, {"n": 2}, to="\0")
    await send(alice, bob, {"n": 3})

    assert received(await bob.sync()) == [3]


async def test_a_new_device_of_the_same_name_has_an_empty_inbox(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    phone = await bob.another_device()
    await phone.sync()
    await send(alice, phone, {"n": 1})
    await phone.post("/logout")
    again = await Client(bob.http, bob.url).login(bob.user_id, device_id=phone.device_id)

    assert received(await again.sync()) == []
    await send(alice, again, {"n": 2})
    assert received(await again.sync()) == [2]


async def test_contents_must_be_objects(server: RunningServer) -> None:
    alice = await server.user("alice")

    malformed: list[Any] = [{alice.user_id: {"*": "text"}}, {"nobody": {"*": {}}}, []]
    for messages in malformed:
        with pytest.raises(Refused) as refused:
            await alice.put("/sendToDevice/test/1", {"messages": messages})
        assert refused.value.errcode == "M_BAD_JSON"


async def test_delivered_messages_are_deleted(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    await bob.sync()
    await send(alice, bob, {"n": 1})
    await bob.sync()
    assert await waiting_rows(server) == 1

    await bob.sync()
    for _ in range(100):
        if not await waiting_rows(server):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("a delivered message was still there after 10 seconds")


async def waiting_rows(server: RunningServer) -> int:
    assert server.app is not None
    async with server.app.database.connection() as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM to_device_messages")
    return count


async def test_a_message_is_for_only_so_many_servers(server: RunningServer) -> None:
    alice = await server.user("alice")
    messages: JsonObject = {f"@u:s{number}.test": {"*": {}} for number in range(1001)}
    refused = await refusal(alice.put("/sendToDevice/m.test/1", {"messages": messages}))
    assert (refused.status, refused.errcode) == (400, "M_INVALID_PARAM")
    assert server.app is not None
    async with server.app.database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM outgoing_to_device") == 0
