"""Account data and tags. client-server-api#client-config, #room-tagging"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

import msgspec

from homeserver.errors import NotFound
from homeserver.json_types import JsonObject
from homeserver.store import account_data as account_data_store
from homeserver.store.account_data import AccountDataRow
from homeserver.store.database import Database
from homeserver.stream.changes import AccountDataChange
from homeserver.stream.writer import StreamWriter

TAGS = "m.tag"
DIRECT = "m.direct"


class AccountData:
    """What clients keep with an account, globally (`room_id` '') or for a room."""

    def __init__(self, database: Database, writer: StreamWriter) -> None:
        self._database = database
        self._writer = writer
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def get(self, user_id: str, room_id: str, type_: str) -> bytes:
        """The content, a JSON object. Raises NotFound."""
        async with self._database.connection() as connection:
            content = await account_data_store.get(connection, user_id, room_id, type_)
        if content is None:
            raise NotFound("There is no account data of this type")
        return content

    async def put(self, user_id: str, room_id: str, type_: str, content: JsonObject) -> None:
        """Set the content; every device of the user is told."""
        position = self._writer.allocate()
        row = AccountDataRow(user_id, room_id, type_, msgspec.json.encode(content), position)
        await self._writer.append(AccountDataChange(position, row))

    async def update(
        self,
        user_id: str,
        room_id: str,
        type_: str,
        change: Callable[[JsonObject], JsonObject | None],
    ) -> None:
        """Change the content by a function of what stands there ({} if nothing does), in turn.

        Nothing is written where the function returns None.
        """
        lock = self._locks.setdefault(user_id, asyncio.Lock())
        async with lock:
            async with self._database.connection() as connection:
                standing = await account_data_store.get(connection, user_id, room_id, type_)
            content = change({} if standing is None else msgspec.json.decode(standing))
            if content is not None:
                await self.put(user_id, room_id, type_, content)

    async def tags(self, user_id: str, room_id: str) -> JsonObject:
        """The tags of a room."""
        try:
            content = msgspec.json.decode(await self.get(user_id, room_id, TAGS))
        except NotFound:
            return {}
        tags = content.get("tags")
        return tags if isinstance(tags, dict) else {}

    async def set_tag(self, user_id: str, room_id: str, tag: str, value: JsonObject) -> None:
        """Put a tag on a room."""

        def add(content: JsonObject) -> JsonObject:
            tags = content.get("tags")
            return {"tags": {**(tags if isinstance(tags, dict) else {}), tag: value}}

        await self.update(user_id, room_id, TAGS, add)

    async def remove_tag(self, user_id: str, room_id: str, tag: str) -> None:
        """Take a tag off a room, if it has it."""

        def remove(content: JsonObject) -> JsonObject | None:
            tags = content.get("tags")
            if not isinstance(tags, dict) or tag not in tags:
                return None
            return {"tags": {name: value for name, value in tags.items() if name != tag}}

        await self.update(user_id, room_id, TAGS, remove)

    async def follow_upgrade(self, user_id: str, old_room_id: str, new_room_id: str) -> None:
        """Give the new room the tags of the one it replaces, and whose direct chat that was."""
        tags = await self.tags(user_id, old_room_id)
        if tags:
            await self.update(user_id, new_room_id, TAGS, lambda content: content or {"tags": tags})

        def add(content: JsonObject) -> JsonObject | None:
            changed = {
                other: [*rooms, new_room_id]
                for other, rooms in content.items()
                if isinstance(rooms, list) and old_room_id in rooms and new_room_id not in rooms
            }
            return {**content, **changed} if changed else None

        await self.update(user_id, "", DIRECT, add)
