"""Which application services an event, or anything else in a room, is for.

"An application service is interested in an event" if the room, its aliases, the sender, the
target of a membership or one of its users in the room is in its namespaces.
application-service-api#pushing-events
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.lru_cache import LruCache
from homeserver.protocol.app_services import AppService
from homeserver.services.app_services.registry import Registry
from homeserver.store import aliases as alias_store
from homeserver.store.database import Database
from homeserver.store.events import EventRow
from homeserver.stream.changes import Change, DirectoryChange, EventChange, MembershipChange
from homeserver.stream.live_room import LiveRoom

MEMBER = "m.room.member"
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
        self._by_room = LruCache(REMEMBERED)
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
            by_alias = self._by_alias.get(room.room_id, ())
            known = frozenset(
                service.id
                for service in self._registry.services
                if service.id in by_alias
                or service.has_room(room.room_id)
                or any(map(service.has_user, room.joined_local))
            )
            self._by_room.put(room.room_id, known)
        return known

    def in_event(self, service: AppService, room: LiveRoom | None, row: EventRow) -> bool:
        """Whether an event of a room (None: it isn't in memory) is for a service."""
        if service.has_user(row.sender):
            return True
        if row.type == MEMBER and row.state_key is not None and service.has_user(row.state_key):
            return True
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
