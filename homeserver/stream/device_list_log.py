"""What lately happened to device lists, and to who shares rooms with whom, in memory.

Rules of this file: `entries` has everything above `floor`, in order; a room's membership before a
change is looked up in the live room, so this is told of a batch before the live rooms are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from msgspec import Struct

from homeserver.store.rooms import MembershipRow
from homeserver.stream.changes import (
    Change,
    CompletionChange,
    DeviceListChange,
    EventChange,
    MembershipChange,
)
from homeserver.stream.live_rooms import LiveRooms

LENGTH = 10_000


class Entry(Struct, frozen=True):
    """A user's devices changed (`room_id` is None), or they came into a room or left it.

    `only_for`: the one user whom it concerns, if it isn't everybody who shares a room.
    """

    position: int
    user_id: str
    room_id: str | None = None
    joined: bool = False
    only_for: str | None = None


class DeviceListLog:
    """The newest `LENGTH` to twice as many entries."""

    def __init__(self, rooms: LiveRooms) -> None:
        self._rooms = rooms
        self._entries: list[Entry] = []
        self.floor = 0

    def between(self, since: int, upto: int) -> Sequence[Entry] | None:
        """The entries above `since`, up to `upto`; None if memory doesn't reach back so far."""
        entries = self._entries
        if since < self.floor:
            return None
        if not entries or entries[-1].position <= since:
            return ()
        start = bisect_right(entries, since, key=_position)
        return entries[start : bisect_right(entries, upto, key=_position)]

    def apply(self, changes: Sequence[Change]) -> None:
        """Take in a committed batch, before the live rooms do (called by the writer)."""
        seen: dict[tuple[str, str], str] = {}
        for change in changes:
            if isinstance(change, DeviceListChange):
                entry = Entry(change.position, change.user_id, only_for=change.only_for)
                self._entries.append(entry)
            elif isinstance(change, EventChange):
                if change.memberships:
                    self._memberships(change.room_id, change.memberships, seen)
            elif isinstance(change, CompletionChange):
                self._memberships(change.room_id, change.memberships, seen)
            elif isinstance(change, MembershipChange):
                self._memberships(change.room_id, (change.row,), seen)
        if len(self._entries) > 2 * LENGTH:
            self.floor = self._entries[-LENGTH - 1].position
            del self._entries[:-LENGTH]

    def fail(self, changes: Sequence[Change]) -> None:
        """A commit failed and may yet have been carried out: up to there Postgres is asked."""
        if changes:
            self._entries.clear()
            self.floor = max(self.floor, *(change.position for change in changes))

    def _memberships(
        self, room_id: str, rows: Iterable[MembershipRow], seen: dict[tuple[str, str], str]
    ) -> None:
        """`seen`: what the batch has made of memberships so far."""
        room = self._rooms.peek(room_id)
        for row in rows:
            key = (room_id, row.user_id)
            # Of a room that isn't in memory it isn't known: then rather tell of it.
            known = None if room is None else room.membership_of(row.user_id)
            before = seen.get(key, known)
            seen[key] = row.membership
            is_in = row.membership == "join"
            if before is None or is_in != (before == "join"):
                self._entries.append(Entry(row.position, row.user_id, room_id, is_in))


def _position(entry: Entry) -> int:
    return entry.position
