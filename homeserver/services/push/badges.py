"""How many unread messages a user has in all their rooms: the number on an app's icon."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct, field

from homeserver.lru_cache import LruCache
from homeserver.store.rooms import MembershipRow
from homeserver.stream.changes import AccountDataChange, Change
from homeserver.stream.core import StreamCore
from homeserver.stream.live_users import LiveUser
from homeserver.stream.push_rules import decides_push

REMEMBERED = 10_000


class _Badge(Struct):
    """What was counted up to a stream position; rooms without anything are left out."""

    position: int
    rooms: dict[str, int] = field(default_factory=dict)


class Badges:
    """Counted for all rooms once, then only for the rooms in which anything happened."""

    def __init__(self, stream: StreamCore) -> None:
        self._stream = stream
        self._badges: LruCache[str, _Badge] = LruCache(REMEMBERED)
        stream.writer.on_apply(self.apply)
        stream.writer.on_failure(self.fail)

    def apply(self, changes: Sequence[Change]) -> None:
        """Whoever changed whom they ignore is counted anew (called by the writer)."""
        for change in changes:
            if type(change) is AccountDataChange and decides_push(change.row):
                self._badges.discard(change.row.user_id)

    def fail(self, changes: Sequence[Change]) -> None:
        """A commit failed and may yet have been carried out: everybody is counted anew."""
        self._badges.clear()

    async def unread(self, user_id: str) -> int:
        """The user's unread notifications, in all rooms that they are in."""
        stream = self._stream
        position = stream.writer.position
        user = await stream.users.get(user_id)
        badge = self._badges.get(user_id)
        if badge is None or badge.position < stream.rooms.changed_floor:
            badge = _Badge(position, await self._count(user_id, user, user.joined_rooms()))
        else:
            changed = {r for r, _ in stream.rooms.changed_since(badge.position) if r in user.rooms}
            changed.update(r for r, row in user.rooms.items() if row.position > badge.position)
            joined = [r for r in changed if user.rooms[r].membership == "join"]
            counts = await self._count(user_id, user, joined)
            kept = {r: n for r, n in badge.rooms.items() if r not in changed and r in user.rooms}
            badge = _Badge(position, kept | counts)
        self._badges.put(user_id, badge)
        return sum(badge.rooms.values())

    async def _count(self, user_id: str, user: LiveUser, room_ids: Iterable[str]) -> dict[str, int]:
        """By room: from memory where it is in memory anyway, the others in one query."""
        live = [room for room_id in room_ids if (room := self._stream.rooms.peek(room_id))]
        counts: dict[str, int] = {}
        unread = self._stream.unread
        if live:
            await unread.prepare(user_id, live)
        for room in live:
            found = unread.of(user_id, room)
            if found is not None:
                counts[room.room_id] = found.totals()[0]
        others: dict[str, MembershipRow] = {
            room_id: user.rooms[room_id]
            for room_id in room_ids
            if room_id not in counts and room_id in user.rooms
        }
        if others:
            in_database = await unread.counted_in_database(user_id, others)
            counts |= {room_id: totals[0] for room_id, totals in in_database.items()}
        return {room_id: count for room_id, count in counts.items() if count}
