"""Thread subscriptions (MSC4306), and how clients learn of them (MSC4308)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from homeserver.json_types import JsonObject
from tests.support.client import Client, Refused
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
