"""Which application services an event, or anything else in a room, is for.

"An application service is interested in an event" if the room, its aliases, the sender, the
target of a membership or one of its users in the room is in its namespaces.
application-service-api#pushing-events
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from homeserver.lru_cache import LruCache
from homeserver.protocol.app_services import AppService
from homeserver.protocol.event_types import MEMBER
from homeserver.services.app_services.registry import Registry
from homeserver.store import aliases as alias_store
from homeserver.store import app_services as feed_store
from homeserver.store.database import Database
from homeserver.store.events import EventRow
from homeserver.store.receipts import ReceiptRow
from homeserver.stream.changes import Change, DirectoryChange, EventChange, MembershipChange
from homeserver.stream.live_room import LiveRoom

PRIVATE = "m.read.private"
REMEMBERED = 20_000


class Interest:
    """Remembers for each room which services have it by its id, its aliases or its members."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        self._by_room: LruCache[str, frozenset[str]] = LruCache(REMEMBERED)
        self._by_alias: dict[str, set[str]] = {}

    async def load(self) -> None:
        """Learn which rooms have aliases in namespaces; what is known by now is forgotten."""
        async with self._database.connection() as connection:
            aliases = await alias_store.all_aliases(connection)
        self._by_alias.clear()
        self._by_room.clear()
        for alias, room_id in aliases:
            self.add_alias(alias, room_id)

    def add_alias(self, alias: str, room_id: str) -> None:
        """A room has an alias."""
        for service in self._registry.services:
            if service.has_alias(alias):
                self._by_alias.setdefault(room_id, set()).add(service.id)
                self._by_room.discard(room_id)

    def in_room(self, room: LiveRoom) -> frozenset[str]:
        """The ids of the services that have a room in memory."""
        known = self._by_room.get(room.room_id)
        if known is None:
            known = self._services_of(room.room_id, room.joined_local)
            self._by_room.put(room.room_id, known)
        return known

    async def in_rooms(self, room_ids: Iterable[str]) -> dict[str, frozenset[str]]:
        """The same for rooms that needn't be in memory; one query for those that aren't known."""
        known = {room_id: self._by_room.get(room_id) for room_id in room_ids}
        found = {room_id: services for room_id, services in known.items() if services is not None}
        missing = [room_id for room_id in known if room_id not in found]
        if missing:
            discards = self._by_room.discards
            async with self._database.connection() as connection:
                members = await feed_store.local_members(connection, missing)
            for room_id in missing:
                found[room_id] = self._services_of(room_id, members.get(room_id, ()))
                self._by_room.put_read(room_id, found[room_id], discards)
        return found

    def _services_of(self, room_id: str, joined_local: Collection[str]) -> frozenset[str]:
        by_alias = self._by_alias.get(room_id, ())
        return frozenset(
            service.id
            for service in self._registry.services
            if service.id in by_alias
            or service.has_room(room_id)
            or any(map(service.has_user, joined_local))
        )

    def in_event(self, service: AppService, room: LiveRoom | None, row: EventRow) -> bool:
        """Whether an event of a room (None: it isn't in memory) is for a service."""
        if service.has_user(row.sender):
            return True
        if row.type == MEMBER and row.state_key is not None and service.has_user(row.state_key):
            return True
        return room is not None and service.id in self.in_room(room)

    def in_receipt(self, service: AppService, room: LiveRoom | None, row: ReceiptRow) -> bool:
        """Whether a receipt in a room is for a service.

        "Private read receipts MUST only be sent for users matching one of the application
        service's namespaces." application-service-api#pushing-ephemeral-data
        """
        if row.receipt_type == PRIVATE:
            return service.has_user(row.user_id)
        return room is not None and service.id in self.in_room(room)

    def had_member(self, service: AppService, room: LiveRoom, position: int) -> bool:
        """Whether one of its users, by now gone, may have been in the room at a position."""
        return any(
            row.is_local and row.position > position and service.has_user(user_id)
            for user_id, row in room.members.items()
        )

    def apply(self, changes: Sequence[Change]) -> None:
        """Forget the rooms whose members change (called by the writer)."""
        for change in changes:
            if type(change) is EventChange:
                if change.memberships:
                    self._by_room.discard(change.room_id)
            elif type(change) is MembershipChange:
                self._by_room.discard(change.room_id)
            elif type(change) is DirectoryChange and change.alias is not None:
                self.add_alias(change.alias.alias, change.alias.room_id)

    def fail(self, changes: Sequence[Change]) -> None:
        """A commit failed and may yet have been carried out: look again (called by the writer)."""
        self._by_room.clear()
