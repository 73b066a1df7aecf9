"""Server-side key backups: encrypted room keys of a user, in versions.

client-server-api#server-side-key-backups
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from homeserver.errors import InvalidParam, NotFound, WrongRoomKeysVersion
from homeserver.json_types import JsonObject
from homeserver.store import key_backups as backup_store
from homeserver.store.database import Connection, Database
from homeserver.store.key_backups import BackedUpKey, Backup, Scope

PER_SLICE = 2000
"""How many keys are decoded or encoded before the event loop gets its turn."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class KeyData(msgspec.Struct):
    """A key as clients put and get it. What its algorithm defines may be anything here."""

    first_message_index: Count
    forwarded_count: Count
    is_verified: bool
    session_data: Any


class RoomData(msgspec.Struct):
    """Keys of a room by session id."""

    sessions: dict[str, KeyData]


class AllData(msgspec.Struct):
    """Keys by room id."""

    rooms: dict[str, RoomData]


class KeyBackups:
    """The backups of local users. A user writes to the newest version only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, user_id: str, algorithm: str, auth_data: Any) -> str:
        """The new version."""
        async with self._database.transaction() as connection:
            version = await backup_store.create(
                connection, user_id, algorithm, msgspec.json.encode(auth_data)
            )
        return str(version)

    async def info(self, user_id: str, version: str | None) -> JsonObject:
        """About a version, or the current one. Raises NotFound."""
        async with self._database.connection() as connection:
            if version is None:
                backup = await backup_store.current(connection, user_id)
                if backup is None:
                    raise NotFound("No current backup version")
            else:
                backup = await _existing(connection, user_id, version)
        return {
            "algorithm": backup.algorithm,
            "auth_data": msgspec.Raw(backup.auth_data),
            "version": str(backup.version),
            **_summary(backup),
        }

    async def set_auth_data(
        self, user_id: str, version: str, algorithm: str, auth_data: Any
    ) -> None:
        """Raises NotFound; InvalidParam for another algorithm."""
        async with self._database.connection() as connection:
            backup = await _existing(connection, user_id, version)
            if backup.algorithm != algorithm:
                raise InvalidParam("Algorithm does not match")
            await backup_store.set_auth_data(
                connection, user_id, backup.version, msgspec.json.encode(auth_data)
            )

    async def delete(self, user_id: str, version: str) -> None:
        """Delete a version; twice is fine. Raises NotFound if there never was one."""
        async with self._database.transaction() as connection:
            backup = await backup_store.get(connection, user_id, _number(version))
            if backup is None:
                raise NotFound("Unknown backup version")
            if not backup.is_deleted:
                await backup_store.delete(connection, user_id, backup.version)

    async def delete_all(self, user_id: str) -> None:
        """Forget all backups of a user who never comes back."""
        async with self._database.transaction() as connection:
            await backup_store.delete_all(connection, user_id)

    async def put(self, user_id: str, version: str, data: AllData) -> JsonObject:
        """Add keys where they are better than those there; `etag` and `count` afterwards.

        Raises NotFound without any backup, WrongRoomKeysVersion if it isn't the current one.
        """
        keys = await _rows(data)
        async with self._database.transaction() as connection:
            backup = await backup_store.current(connection, user_id, lock=True)
            if backup is None:
                raise NotFound("Unknown backup version")
            if str(backup.version) != version:
                raise WrongRoomKeysVersion(
                    "Wrong backup version.", current_version=str(backup.version)
                )
            scope = Scope(user_id, backup.version)
            return _summary(await backup_store.put_keys(connection, scope, keys))

    async def get(self, user_id: str, version: str, room_id: str | None = None) -> JsonObject:
        """The keys of a version by room and session. Raises NotFound."""
        async with self._database.connection() as connection:
            backup = await _existing(connection, user_id, version)
            keys = await backup_store.keys(connection, Scope(user_id, backup.version, room_id))
        rooms: dict[str, dict[str, dict[str, msgspec.Raw]]] = {}
        for index, key in enumerate(keys):
            if index % PER_SLICE == PER_SLICE - 1:
                await asyncio.sleep(0)
            room = rooms.setdefault(key.room_id, {"sessions": {}})
            room["sessions"][key.session_id] = _json(key)
        if room_id is not None:
            return dict(rooms.get(room_id, {"sessions": {}}))
        return {"rooms": rooms}

    async def get_one(self, user_id: str, version: str, room_id: str, session_id: str) -> bytes:
        """One key, as JSON. Raises NotFound."""
        async with self._database.connection() as connection:
            backup = await _existing(connection, user_id, version)
            scope = Scope(user_id, backup.version, room_id, session_id)
            keys = await backup_store.keys(connection, scope)
        if not keys:
            raise NotFound("Key not found.")
        return bytes(_json(keys[0]))

    async def delete_keys(
        self, user_id: str, version: str, room_id: str | None = None, session_id: str | None = None
    ) -> JsonObject:
        """Delete keys of a version, a room or a session; `etag` and `count` afterwards.

        Raises NotFound.
        """
        scope = Scope(user_id, _number(version), room_id, session_id)
        async with self._database.transaction() as connection:
            backup = await backup_store.delete_keys(connection, scope)
        if backup is None:
            raise NotFound("Unknown backup version")
        return _summary(backup)


async def _existing(connection: Connection, user_id: str, version: str) -> Backup:
    backup = await backup_store.get(connection, user_id, _number(version))
    if backup is None or backup.is_deleted:
        raise NotFound("Unknown backup version")
    return backup


def _number(version: str) -> int:
    if not (version.isascii() and version.isdigit() and len(version) < 19):
        raise NotFound("Unknown backup version")
    return int(version)


def _summary(backup: Backup) -> JsonObject:
    return {"etag": str(backup.etag), "count": backup.key_count}


async def _rows(data: AllData) -> Sequence[BackedUpKey]:
    rows: list[BackedUpKey] = []
    for room_id, room in data.rooms.items():
        for session_id, key in room.sessions.items():
            if len(rows) % PER_SLICE == PER_SLICE - 1:
                await asyncio.sleep(0)
            rows.append(
                BackedUpKey(
                    room_id,
                    session_id,
                    key.first_message_index,
                    key.forwarded_count,
                    key.is_verified,
                    msgspec.json.encode(key.session_data),
                )
            )
    return rows


def _json(key: BackedUpKey) -> msgspec.Raw:
    return msgspec.Raw(
        b'{"first_message_index":%d,"forwarded_count":%d,"is_verified":%s,"session_data":%s}'
        % (
            key.first_message_index,
            key.forwarded_count,
            b"true" if key.is_verified else b"false",
            key.session_data,
        )
    )
