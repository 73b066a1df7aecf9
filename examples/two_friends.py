"""Two friends talk: an ordinary matrix-nio program against a homeserver.

    python examples/two_friends.py http://127.0.0.1:8008

It registers two users, makes a room, invites, joins, sends messages both ways, reads the history
back and sets a display name.
"""

from __future__ import annotations

import asyncio
import secrets
import sys

from nio import (
    AsyncClient,
    JoinResponse,
    ProfileGetDisplayNameResponse,
    ProfileSetDisplayNameResponse,
    RegisterResponse,
    RoomCreateResponse,
    RoomMessagesResponse,
    RoomMessageText,
    RoomSendResponse,
)


class Friend:
    """A user who syncs for ever and remembers what was said."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.client = AsyncClient(url, f"{name.lower()}-{secrets.token_hex(3)}")
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self.client.add_event_callback(self._hear, RoomMessageText)

    async def register(self) -> None:
        answer = await self.client.register(self.client.user, secrets.token_urlsafe())
        assert isinstance(answer, RegisterResponse), answer
        answer = await self.client.set_displayname(self.name)
        assert isinstance(answer, ProfileSetDisplayNameResponse), answer
        answer = await self.client.get_displayname()
        assert isinstance(answer, ProfileGetDisplayNameResponse), answer
        assert answer.displayname == self.name
        print(f"{self.name} is {self.client.user_id}")

    async def say(self, room_id: str, text: str) -> None:
        answer = await self.client.room_send(
            room_id, "m.room.message", {"msgtype": "m.text", "body": text}
        )
        assert isinstance(answer, RoomSendResponse), answer

    async def hear(self, text: str) -> None:
        """Waits until somebody else says it."""
        async with asyncio.timeout(20):
            while await self.heard.get() != text:
                pass

    async def _hear(self, room: object, event: RoomMessageText) -> None:
        if event.sender != self.client.user_id:
            print(f"{self.name} hears: {event.body}")
            await self.heard.put(event.body)


async def talk(url: str) -> None:
    ann, ben = Friend(url, "Ann"), Friend(url, "Ben")
    await ann.register()
    await ben.register()

    made = await ann.client.room_create(name="Kitchen", invite=[ben.client.user_id])
    assert isinstance(made, RoomCreateResponse), made
    syncs = [asyncio.create_task(f.client.sync_forever(timeout=30_000)) for f in (ann, ben)]
    try:
        async with asyncio.timeout(20):
            while made.room_id not in ben.client.invited_rooms:
                await ben.client.synced.wait()
        joined = await ben.client.join(made.room_id)
        assert isinstance(joined, JoinResponse), joined

        await ann.say(made.room_id, "Is there any bread left?")
        await ben.hear("Is there any bread left?")
        await ben.say(made.room_id, "Half a loaf.")
        await ann.hear("Half a loaf.")
        await read_back(ann, made.room_id)
    finally:
        for sync in syncs:
            sync.cancel()
        await asyncio.gather(*syncs, return_exceptions=True)
        await ann.client.close()
        await ben.client.close()


async def read_back(friend: Friend, room_id: str) -> None:
    history = await friend.client.room_messages(room_id, limit=50)
    assert isinstance(history, RoomMessagesResponse), history
    said = [e.body for e in reversed(history.chunk) if isinstance(e, RoomMessageText)]
    assert said == ["Is there any bread left?", "Half a loaf."], said
    print(f"The history of {friend.client.rooms[room_id].display_name}: {said}")


if __name__ == "__main__":
    asyncio.run(talk(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8008"))
