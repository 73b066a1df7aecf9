"""EDUs that must arrive: messages to devices, device lists, cross-signing keys, from Postgres.

server-server-api#device-management, #send-to-device-messaging
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from homeserver.json_types import JsonObject
from homeserver.services.federation_sender.passing_edus import edu
from homeserver.store import cross_signing as cross_signing_store
from homeserver.store import device_keys as device_key_store
from homeserver.store import device_lists as device_list_store
from homeserver.store import devices as device_store
from homeserver.store import to_device as to_device_store
from homeserver.store.database import Connection, Database
from homeserver.store.device_lists import Update

DEVICE_LISTS_AT_ONCE = 40
TO_DEVICE_AT_ONCE = 40
TO_DEVICE_BYTES = 512 * 1024
"""A message may be for hundreds of devices, and servers (or what stands before them) refuse big
requests: a refused one would come again for ever. One message is sent whatever its size."""


class StoredEdus(Struct, frozen=True):
    """A batch. `lists_upto`: device lists were read up to this position. `to_device_upto`: to be
    deleted up to here when they have arrived. `is_all`: there is no more.
    """

    edus: list[JsonObject]
    lists_upto: int
    to_device_upto: int | None
    is_all: bool


class StoredEduReader:
    """Reads what a destination has not been told yet.

    `tells_names`: also what users call their devices.
    """

    def __init__(self, database: Database, server_name: str, *, tells_names: bool) -> None:
        self._database = database
        self._server_name = server_name
        self._tells_names = tells_names
        self._introducing: dict[Sequence[str], asyncio.Task[list[JsonObject]]] = {}

    async def read(self, destination: str, after: int, upto: int) -> StoredEdus:
        """The oldest of them; device lists of the positions `after < position <= upto`."""
        span = (self._server_name, after, upto)
        async with self._database.connection() as connection:
            updates = await device_list_store.updates_for_server(
                connection, destination, span, DEVICE_LISTS_AT_ONCE
            )
            edus = await self._device_lists(connection, updates)
            waiting = await to_device_store.outgoing(connection, destination, TO_DEVICE_AT_ONCE)
        messages = _first_of(waiting)
        edus += [edu("m.direct_to_device", msgspec.json.decode(json)) for _, json in messages]
        done = len(updates) < DEVICE_LISTS_AT_ONCE
        return StoredEdus(
            edus,
            upto if done else updates[-1].position,
            messages[-1][0] if messages else None,
            done and len(messages) == len(waiting) < TO_DEVICE_AT_ONCE,
        )

    async def introductions(self, user_ids: Sequence[str]) -> list[JsonObject]:
        """All devices of users, for a server that was told nothing of them: an EDU for each.

        No `prev_id` says that the other server has nothing that they build on. All servers of a
        room ask at once when somebody joins: it is read once for them.
        """
        users = tuple(user_ids)
        reading = self._introducing.get(users)
        if reading is None:
            reading = self._introducing[users] = asyncio.create_task(self._introductions(users))
            reading.add_done_callback(lambda _: self._introducing.pop(users, None))
        return await asyncio.shield(reading)

    async def _introductions(self, user_ids: Sequence[str]) -> list[JsonObject]:
        async with self._database.connection() as connection:
            updates = await device_list_store.newest_of_devices(connection, user_ids)
            edus = await self._device_lists(connection, updates)
        return [one for one in edus if not one["content"].get("deleted")]

    async def delete_to_device(self, destination: str, upto: int) -> None:
        """The destination has taken them."""
        async with self._database.connection() as connection:
            await to_device_store.delete_outgoing(connection, destination, upto)

    async def _device_lists(
        self, connection: Connection, updates: Sequence[Update]
    ) -> list[JsonObject]:
        users = sorted({update.user_id for update in updates})
        if not users:
            return []
        names = await device_store.names_of_users(connection, users)
        rows = await device_key_store.of_users(connection, users)
        keys = {(row.user_id, row.device_id): row.json for row in rows}
        edus = []
        for update in updates:
            if update.device_id:
                device = (update.user_id, update.device_id)
                content = _update(update, keys.get(device), is_there=device in names)
                if self._tells_names and (name := names.get(device)):
                    content["device_display_name"] = name
                edus.append(edu("m.device_list_update", content))
        signers = sorted({update.user_id for update in updates if not update.device_id})
        return edus + (await _signing_keys(connection, signers) if signers else [])


def _first_of(messages: Sequence[tuple[int, bytes]]) -> Sequence[tuple[int, bytes]]:
    size = 0
    for index, (_, json) in enumerate(messages):
        size += len(json)
        if size > TO_DEVICE_BYTES and index:
            return messages[:index]
    return messages


def _update(update: Update, keys: bytes | None, *, is_there: bool) -> JsonObject:
    """`keys` "May be absent if the device does not have any E2E keys defined." """
    content: JsonObject = {
        "user_id": update.user_id,
        "device_id": update.device_id,
        "stream_id": update.position,
        "prev_id": [update.previous] if update.previous else [],
    }
    if not is_there:
        content["deleted"] = True
    elif keys is not None:
        content["keys"] = msgspec.json.decode(keys)
    return content


async def _signing_keys(connection: Connection, user_ids: Sequence[str]) -> list[JsonObject]:
    contents: dict[str, JsonObject] = {user_id: {"user_id": user_id} for user_id in user_ids}
    for key in await cross_signing_store.of_users(connection, user_ids):
        if key.json is not None and key.usage in ("master", "self_signing"):
            contents[key.user_id][f"{key.usage}_key"] = msgspec.json.decode(key.json)
    return [edu("m.signing_key_update", content) for content in contents.values()]
