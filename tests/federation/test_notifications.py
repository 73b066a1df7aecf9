"""What comes from other servers notifies as what is sent here does."""

from __future__ import annotations

from tests.federation.test_receiving import joined_room
from tests.integration.test_unread_counts import read, unread
from tests.support.client import Client
from tests.support.peer import Peer
from tests.support.server import RunningServer


async def count(client: Client, room_id: str) -> tuple[int, int] | None:
    client.next_batch = None
    return unread(await client.sync(), room_id)


async def test_messages_of_another_server_count_and_highlight(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    await room.say("one")
    mention = {
        "msgtype": "m.text",
        "body": "you!",
        "m.mentions": {"user_ids": [alice.user_id]},
    }
    event = room.make("m.room.message", mention)
    await room.send(event)
    room.add(event)
    assert await count(alice, room.room_id) == (2, 1)
    await server.restart()
    assert await count(server.moved(alice), room.room_id) == (2, 1)
    await read(alice, room.room_id, event.event_id)
    assert await count(alice, room.room_id) == (0, 0)
