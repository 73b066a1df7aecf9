"""Of whose devices an application service with encryption has to know (MSC3202).

Rules of this file: it follows those who are in a room with it; who is so newly has changed for it,
who is no more has left. A room counts once it is encrypted. application-service-api
"""

from __future__ import annotations

from collections.abc import Iterable

from homeserver.protocol.app_services import AppService
from homeserver.services.app_services.interest import Interest
from homeserver.services.app_services.transaction import Batch, Move
from homeserver.store import app_services as feed_store
from homeserver.store.database import Database
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms

ENCRYPTION = ("m.room.encryption", "")


class DeviceListsOfServices:
    """Says for a batch whose devices changed for a service, and who left."""

    def __init__(self, database: Database, rooms: LiveRooms, interest: Interest) -> None:
        self._database = database
        self._rooms = rooms
        self._interest = interest

    async def complete(self, service: AppService, batch: Batch) -> None:
        """Fill in `changed` and `left`; no query where nothing is said of devices or rooms."""
        if not service.wants_encryption:
            return
        came, went = await self._moved(service, batch)
        changed = {waiting.user_id for waiting in batch.devices} - came
        shared = await self._sharing(service, changed | went)
        batch.changed = came | (changed & shared)
        batch.left = went - shared - came

    async def _moved(self, service: AppService, batch: Batch) -> tuple[set[str], set[str]]:
        """Who is in a room with the service newly, and who isn't in that one any more."""
        came: set[str] = set()
        went: set[str] = set()
        for waiting in batch.events:
            move = waiting.move
            room = None if move is None else await self._rooms.get(waiting.room_id)
            if move is None or room is None or (move.is_in and ENCRYPTION not in room.state):
                continue
            concerned = self._concerned(service, room, move)
            (came if move.is_in else went).update(concerned)
        return came, went - came

    def _concerned(self, service: AppService, room: LiveRoom, move: Move) -> Iterable[str]:
        """The user who moved; if that is one of the service's: the others in the room, unless
        another one of it was in there already, or stays."""
        if not service.has_user(move.user_id):
            return (move.user_id,)
        for user_id in room.joined_local:
            joined_from = room.members[user_id].joined_from or 0
            stays = not move.is_in or joined_from < move.position
            if user_id != move.user_id and service.has_user(user_id) and stays:
                return ()
        return [
            user_id
            for user_id, row in room.members.items()
            if row.membership == "join" and not service.has_user(user_id)
        ]

    async def _sharing(self, service: AppService, user_ids: set[str]) -> set[str]:
        """Those of these users who are in a room with the service."""
        if not user_ids:
            return set()
        async with self._database.connection() as connection:
            rooms = await feed_store.joined_rooms(connection, user_ids)
        interested = await self._interest.in_rooms({room_id for _, room_id in rooms})
        return {user_id for user_id, room_id in rooms if service.id in interested[room_id]}
