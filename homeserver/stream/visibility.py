"""Which events of a room a local user may see: by memory where that is enough, else by a query.

client-server-api#room-history-visibility
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from homeserver.protocol.history_visibility import (
    Change,
    VisibleHistory,
    membership_of,
    visibility_of,
)
from homeserver.protocol.history_visibility import (
    Visibility as VisibilityName,
)
from homeserver.store import visibility as visibility_store
from homeserver.store.database import Database
from homeserver.store.events import ORDER_STEP
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms


class Visibility:
    """Answers for many rooms of one user at once."""

    def __init__(self, database: Database, rooms: LiveRooms) -> None:
        self._database = database
        self._erased = rooms.erased

    def sees_from(self, room: LiveRoom, user_id: str) -> int | None:
        """The timeline order from which on the user, now joined, sees everything as a member."""
        row = room.members.get(user_id)
        if row is None or row.membership != "join" or row.joined_from is None:
            return None
        return row.joined_from * ORDER_STEP

    async def histories(self, rooms: Iterable[LiveRoom], user_id: str) -> dict[str, VisibleHistory]:
        """What the user sees of each of these rooms, by timeline order; one query."""
        return await self.histories_of({room.number: room.room_id for room in rooms}, user_id)

    async def histories_of(
        self, wanted: Mapping[int, str], user_id: str
    ) -> dict[str, VisibleHistory]:
        """The same for rooms by number and id, in memory or not."""
        if not wanted:
            return {}
        async with self._database.connection() as connection:
            rows = await visibility_store.deciding_events(connection, list(wanted), user_id)
            starts = await visibility_store.starts(connection, list(wanted))
        changes: dict[str, list[Change]] = {room_id: [] for room_id in wanted.values()}
        for row in rows:
            changes[wanted[row.room_number]].append(_change(row))
        begun = {wanted[start.room_number] for start in starts}
        for start in starts:
            found = changes[wanted[start.room_number]]
            # Just before the event, between the orders of two events.
            visibility = visibility_of({"history_visibility": start.visibility})
            found.append(Change(start.timeline_order - 1, visibility=visibility))
            found.sort(key=lambda change: change.position)
        return {
            room_id: VisibleHistory(
                found, _first(found) if room_id in begun else "shared", erased=self._erased
            )
            for room_id, found in changes.items()
        }


def _first(changes: Iterable[Change]) -> VisibilityName:
    """What held in the oldest history that we have: what the first to say anything says."""
    return next((c.visibility for c in changes if c.visibility is not None), "shared")


def _change(row: visibility_store.DecidingEvent) -> Change:
    if row.type == "m.room.member":
        return Change(row.timeline_order, membership=membership_of(row.content))
    return Change(row.timeline_order, visibility=visibility_of(row.content))
