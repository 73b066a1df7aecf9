"""How many one-time keys are left to the devices of an application service's users (MSC3202).

Rules of this file: a service that syncs for none of its users learns it only here, from the
transactions. So each one says it of all devices of those whom it concerns: the service's own user,
its users in the rooms of the events, those who are sent messages. A new device has none left,
which is how the service knows that it has to upload some.
"""

from __future__ import annotations

from homeserver.protocol.app_services import AppService
from homeserver.services.app_services.transaction import Batch
from homeserver.store import devices as device_store
from homeserver.store.database import Database
from homeserver.stream.key_counts import KeyCounts
from homeserver.stream.live_rooms import LiveRooms


class KeyCountsOfServices:
    """Puts into a batch what is left of the keys of those whom it concerns."""

    def __init__(self, database: Database, rooms: LiveRooms, key_counts: KeyCounts) -> None:
        self._database = database
        self._rooms = rooms
        self._key_counts = key_counts

    async def complete(self, service: AppService, batch: Batch) -> None:
        """Fill in `key_counts` and `fallback_types`; nothing for an empty batch."""
        if not service.wants_encryption or not batch:
            return
        user_ids = await self._concerned(service, batch)
        async with self._database.connection() as connection:
            devices = await device_store.ids_of_users(connection, list(user_ids))
        for (user_id, device_id), left in (await self._key_counts.of_many(devices)).items():
            batch.key_counts.setdefault(user_id, {})[device_id] = left.counts
            types = left.unused_fallback_types
            batch.fallback_types.setdefault(user_id, {})[device_id] = types

    async def _concerned(self, service: AppService, batch: Batch) -> set[str]:
        rooms = await self._rooms.get_many({waiting.room_id for waiting in batch.events})
        members = (user_id for room in rooms.values() for user_id in room.joined_local)
        recipients = {user_id for user_id, _ in batch.delivered()}
        return {service.user_id, *recipients, *filter(service.has_user, members)}
