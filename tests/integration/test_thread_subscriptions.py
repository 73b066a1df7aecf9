"""Thread subscriptions (MSC4306), and how clients learn of them (MSC4308)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from homeserver.json_types import JsonObject
from tests.conftest import StartServer
from tests.support.client import Client, Refused, refusal
from tests.support.push_gateway import push_gateway
from tests.support.server import RunningServer

UNSTABLE = "/_matrix/client/unstable"
SLIDING = f"{UNSTABLE}/org.matrix.simplified_msc3575/sync"
NAME = "io.element.msc4308.thread_subscriptions"


def path(room_id: str, root_id: str) -> str:
    room, root = quote(room_id), quote(root_id)
    return f"{UNSTABLE}/io.element.msc4306/rooms/{room}/thread/{root}/subscription"


async def thread(client: Client) -> tuple[str, str, str]:
    """A room, the root of a thread in it, and an event of the thread."""
    room_id = await client.create_room()
    root = await client.send(room_id, "root")
    relates_to = {"rel_type": "m.thread", "event_id": root}
    content: JsonObject = {"msgtype": "m.text", "body": "reply", "m.relates_to": relates_to}
    return room_id, root, await client.send(room_id, content)


async def test_a_subscription_comes_and_goes(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id, root, _ = await thread(alice)
    with pytest.raises(Refused) as refused:
        await alice.get(path(room_id, root))
    assert refused.value.status == 404
    await alice.put(path(room_id, root), {})
    assert await alice.get(path(room_id, root)) == {"automatic": False}
    await alice.delete(path(room_id, root))
    with pytest.raises(Refused):
        await alice.get(path(room_id, root))


async def test_an_automatic_subscription_does_not_undo_a_later_decision(
    server: RunningServer,
) -> None:
    alice = await server.user("alice")
    room_id, root, reply = await thread(alice)
    await alice.put(path(room_id, root), {"automatic": reply})
    assert await alice.get(path(room_id, root)) == {"automatic": True}
    await alice.delete(path(room_id, root))
    with pytest.raises(Refused) as refused:
        await alice.put(path(room_id, root), {"automatic": reply})
    assert refused.value.status == 409
    assert refused.value.errcode == "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION"


async def test_an_event_outside_the_thread_causes_nothing(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id, root, _ = await thread(alice)
    other = await alice.send(room_id, "elsewhere")
    with pytest.raises(Refused) as refused:
        await alice.put(path(room_id, root), {"automatic": other})
    assert refused.value.errcode == "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD"


async def test_strangers_have_no_subscriptions(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id, root, _ = await thread(alice)
    with pytest.raises(Refused) as refused:
        await bob.put(path(room_id, root), {})
    assert refused.value.status == 404


async def test_sliding_sync_tells_and_the_rest_is_paged(server: RunningServer) -> None:
    alice = await server.user("alice")
    threads = [await thread(alice) for _ in range(3)]
    for room_id, root, _ in threads:
        await alice.put(path(room_id, root), {})
    body: JsonObject = {"extensions": {NAME: {"enabled": True, "limit": 2}}}

    answer: Any = await alice.post(SLIDING, body)

    told = answer["extensions"][NAME]
    assert set(told["subscribed"]) == {threads[2][0], threads[1][0]}
    rest = await alice.get(
        f"{UNSTABLE}/io.element.msc4308/thread_subscriptions", **{"from": told["prev_batch"]}
    )
    assert set(rest["subscribed"]) == {threads[0][0]}
    assert "end" not in rest
    await alice.delete(path(*threads[0][:2]))
    answer = await alice.post(SLIDING, body, pos=answer["pos"], timeout="5000")
    assert list(answer["extensions"][NAME]) == ["unsubscribed"]


THREADED = '{"room": {"timeline": {"unread_thread_notifications": true}}}'
RULE = "/pushrules/global/postcontent/.io.element.msc4306.rule"


@pytest.fixture
async def watching(start_server: StartServer) -> RunningServer:
    """A server with the push rules of MSC4306."""
    return await start_server(push={"thread_subscriptions": True, "require_https": False})


async def reply(client: Client, room_id: str, root: str, **more: Any) -> str:
    relates_to = {"rel_type": "m.thread", "event_id": root}
    content = {"msgtype": "m.text", "body": "more", "m.relates_to": relates_to, **more}
    return await client.send(room_id, content)


async def a_thread_with_bob(server: RunningServer) -> tuple[Client, Client, str, str]:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    root = await alice.send(room_id, "root")
    body = {"thread_id": "main"}
    await bob.post(f"/rooms/{quote(room_id)}/receipt/m.read/{quote(root)}", body)
    return alice, bob, room_id, root


async def unread(client: Client, room_id: str) -> dict[str, int]:
    """The notifications of the room's threads, counted from scratch."""
    client.next_batch = None
    room = (await client.sync(filter=THREADED))["rooms"]["join"][room_id]
    found = room.get("unread_thread_notifications", {})
    main = {"main": room["unread_notifications"]}
    return {
        thread: count
        for thread, counts in (found | main).items()
        if (count := counts["notification_count"])
    }


async def test_the_rules_are_served_between_content_and_room(watching: RunningServer) -> None:
    alice = await watching.user("alice")
    rules = (await alice.get("/pushrules/"))["global"]["postcontent"]
    assert [rule["rule_id"] for rule in rules] == [
        ".io.element.msc4306.rule.unsubscribed_thread",
        ".io.element.msc4306.rule.subscribed_thread",
    ]
    versions = await alice.get("/_matrix/client/versions")
    assert versions["unstable_features"]["org.matrix.msc4306"] is True
    refused = await refusal(alice.put("/pushrules/global/postcontent/mine", {"actions": []}))
    assert (refused.status, refused.errcode) == (400, "M_INVALID_PARAM")


async def test_without_the_option_there_are_no_such_rules(server: RunningServer) -> None:
    alice = await server.user("alice")
    assert "postcontent" not in (await alice.get("/pushrules/"))["global"]
    refused = await refusal(alice.get(f"{RULE}.subscribed_thread"))
    assert (refused.status, refused.errcode) == (404, "M_NOT_FOUND")
    versions = await alice.get("/_matrix/client/versions")
    assert "org.matrix.msc4306" not in versions["unstable_features"]


async def test_threads_count_for_who_subscribed(watching: RunningServer) -> None:
    alice, bob, room_id, root = await a_thread_with_bob(watching)
    await reply(alice, room_id, root)
    assert await unread(bob, room_id) == {}
    await bob.put(path(room_id, root), {})
    await reply(alice, room_id, root)
    assert await unread(bob, room_id) == {root: 1}
    await bob.delete(path(room_id, root))
    await reply(alice, room_id, root)
    assert await unread(bob, room_id) == {root: 1}
    await watching.restart()
    assert await unread(watching.moved(bob), room_id) == {root: 1}


async def test_a_subscription_outlives_a_restart(watching: RunningServer) -> None:
    alice, bob, room_id, root = await a_thread_with_bob(watching)
    await bob.put(path(room_id, root), {})
    await watching.restart()
    await reply(watching.moved(alice), room_id, root)
    assert await unread(watching.moved(bob), room_id) == {root: 1}


async def test_mentions_count_without_a_subscription(watching: RunningServer) -> None:
    alice, bob, room_id, root = await a_thread_with_bob(watching)
    await reply(alice, room_id, root, **{"m.mentions": {"user_ids": [bob.user_id]}})
    assert await unread(bob, room_id) == {root: 1}


async def test_the_rules_can_be_switched_off(watching: RunningServer) -> None:
    alice, bob, room_id, root = await a_thread_with_bob(watching)
    await bob.put(f"{RULE}.unsubscribed_thread/enabled", {"enabled": False})
    await reply(alice, room_id, root)
    assert await unread(bob, room_id) == {root: 1}


async def test_a_subscribed_thread_of_a_muted_room_is_pushed(watching: RunningServer) -> None:
    async with push_gateway() as gateway:
        alice, bob, room_id, root = await a_thread_with_bob(watching)
        await bob.put(f"/pushrules/global/room/{quote(room_id)}", {"actions": []})
        await bob.put(path(room_id, root), {})
        await gateway.set_pusher(bob)
        await alice.send(room_id, "not told")
        event_id = await reply(alice, room_id, root)
        (told,) = await gateway.wait_for(1)
        assert told["event_id"] == event_id
        assert told["devices"][0]["tweaks"] == {"sound": "default"}
