"""Whose keys a client has to fetch anew, and whose it need not follow any more.

Rules of this file:
- A user is told of everybody with whom they share a room, whether it is encrypted or not; of
  themselves, too, when they come into one: their other devices may not know each other.
- Since when two users share a room follows from `joined_from` of their memberships alone, so that
  it is the same at any time, from memory and from Postgres.
- A device list change wakes those who share a room *after* its commit: who joins before it is
  found then, who joins after it sees the user as newly shared.
client-server-api#tracking-the-device-list-for-a-user
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from weakref import WeakValueDictionary

from msgspec import Struct, field

from homeserver.store import device_lists as device_list_store
from homeserver.store.cross_signing import CrossSigningRow, UserSignatureRow
from homeserver.store.database import Database
from homeserver.store.device_keys import DeviceKeysRow
from homeserver.store.device_lists import Shared
from homeserver.store.rooms import MembershipRow
from homeserver.stream.changes import DeviceListChange
from homeserver.stream.device_list_log import DeviceListLog, Entry
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.live_users import LiveUser, LiveUsers
from homeserver.stream.notifier import Notifier
from homeserver.stream.writer import StreamWriter

LEFT = ("leave", "ban")


class DeviceListUpdate(Struct, frozen=True):
    """What `DeviceLists.publish` makes a change of; see `DeviceListChange`."""

    user_id: str
    device_id: str = ""
    only_for: str | None = None
    device_keys: DeviceKeysRow | None = None
    is_deleted: bool = False
    cross_signing: tuple[CrossSigningRow, ...] = ()
    user_signatures: tuple[UserSignatureRow, ...] = ()

    def at(self, position: int) -> DeviceListChange:
        """The change that is made of it."""
        return DeviceListChange(
            position,
            self.user_id,
            self.device_id,
            self.only_for,
            self.device_keys,
            self.is_deleted,
            self.cross_signing,
            self.user_signatures,
        )


class Differences(Struct, frozen=True):
    """The members of `device_lists` in /sync."""

    changed: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)


class _Candidates(Struct):
    """`changed`: their devices changed. `came`, `went`: perhaps newly, perhaps no longer shared."""

    changed: set[str] = field(default_factory=set)
    came: set[str] = field(default_factory=set)
    went: set[str] = field(default_factory=set)


NO_DIFFERENCES = Differences()


class DeviceLists:
    """Takes device list changes into the log and reads them from it for a user."""

    def __init__(
        self,
        database: Database,
        users: LiveUsers,
        rooms: LiveRooms,
        writer: StreamWriter,
        notifier: Notifier,
        log: DeviceListLog,
    ) -> None:
        self._database = database
        self._users = users
        self._rooms = rooms
        self._writer = writer
        self._notifier = notifier
        self._log = log
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def turn_of(self, user_id: str) -> asyncio.Lock:
        """Whoever changes a user's keys by what stands there takes their turn."""
        return self._turns.setdefault(user_id, asyncio.Lock())

    async def publish(self, *updates: DeviceListUpdate) -> list[int]:
        """Write the changes and wake whom they concern; their positions."""
        if not updates:
            return []
        changes = [update.at(self._writer.allocate()) for update in updates]
        await self._writer.append(*changes)
        public = {update.user_id for update in updates if update.only_for is None}
        if public:
            async with self._database.connection() as connection:
                sharing = await device_list_store.local_users_sharing_a_room(connection, public)
            for user_id in sharing:
                self._notifier.wake(user_id, changes[-1].position)
        return [change.position for change in changes]

    async def differences(self, user: LiveUser, since: int, upto: int) -> Differences:
        """What changed for a user between two positions; no query if nothing did."""
        entries = self._log.between(since, upto)
        if entries is None:
            found = await self._from_database(user, since, upto)
        elif entries:
            found = await self._from_memory(user, entries)
        else:
            return NO_DIFFERENCES
        candidates = (found.changed | found.came | found.went) - {user.user_id}
        shared = await self._shared_since(user, candidates, upto)
        differences = Differences()
        if user.user_id in found.changed or user.user_id in found.came:
            differences.changed.add(user.user_id)
        for user_id in candidates:
            since_when = shared.get(user_id)
            if since_when is None:
                if user_id in found.went:
                    differences.left.add(user_id)
            elif user_id in found.changed or since_when > since:
                differences.changed.add(user_id)
        return differences

    async def _from_memory(self, user: LiveUser, entries: Iterable[Entry]) -> _Candidates:
        found = _Candidates()
        came_to: set[str] = set()
        went_from: set[str] = set()
        in_rooms: list[Entry] = []
        for entry in entries:
            if entry.room_id is None:
                if entry.only_for is None or entry.only_for == user.user_id:
                    found.changed.add(entry.user_id)
            elif entry.user_id == user.user_id:
                (came_to if entry.joined else went_from).add(entry.room_id)
            else:
                in_rooms.append(entry)
        rooms = user.rooms
        for entry in in_rooms:
            room_id = entry.room_id or ""
            row = rooms.get(room_id)
            if room_id in went_from or (row is not None and row.membership == "join"):
                (found.came if entry.joined else found.went).add(entry.user_id)
        if came_to or went_from:
            await self._add_members(found, _numbers(user, came_to), _numbers(user, went_from))
        return found

    async def _from_database(self, user: LiveUser, since: int, upto: int) -> _Candidates:
        joined = [row for row in user.rooms.values() if row.membership == "join"]
        came_to = [row.room_number for row in joined if (row.joined_from or 0) > since]
        went_from = [
            row.room_number
            for row in user.rooms.values()
            if row.membership in LEFT and row.position > since
        ]
        numbers = [row.room_number for row in joined]
        async with self._database.connection() as connection:
            changed = await device_list_store.users_changed(
                connection, user.user_id, numbers, since, upto
            )
            moved = await device_list_store.memberships_changed(
                connection, [*numbers, *went_from], since, upto
            )
        found = _Candidates(
            changed=set(changed),
            came={user_id for user_id, is_in in moved if is_in and user_id != user.user_id},
            went={user_id for user_id, is_in in moved if not is_in},
        )
        if came_to or went_from:
            await self._add_members(found, came_to, went_from)
        return found

    async def _add_members(
        self, found: _Candidates, came_to: list[int], went_from: list[int]
    ) -> None:
        """Everybody in rooms that the user came to or left."""
        async with self._database.connection() as connection:
            if came_to:
                found.came.update(await device_list_store.members(connection, came_to))
            if went_from:
                found.went.update(await device_list_store.members(connection, went_from))

    async def _shared_since(
        self, user: LiveUser, user_ids: Iterable[str], upto: int
    ) -> dict[str, int]:
        """Since when the user shares a room with each of these, if they do at `upto`."""
        mine = {
            room_id: row.joined_from
            for room_id, row in user.rooms.items()
            if row.membership == "join" and row.joined_from is not None and row.joined_from <= upto
        }
        shared: dict[str, int] = {}
        unknown: list[str] = []
        for user_id in user_ids:
            other = self._users.peek(user_id)
            if other is None:
                unknown.append(user_id)
            elif (since := _earliest(_in_common(mine, other), upto)) is not None:
                shared[user_id] = since
        if not unknown or not mine:
            return shared
        live = [(room, mine[r]) for r in mine if (room := self._rooms.peek(r)) is not None]
        if len(live) < len(mine):
            rooms = [Shared(user.rooms[r].room_number, since) for r, since in mine.items()]
            async with self._database.connection() as connection:
                return shared | await device_list_store.shared_since(
                    connection, rooms, unknown, upto
                )
        for user_id in unknown:
            if (since := _earliest(_in_live_rooms(live, user_id), upto)) is not None:
                shared[user_id] = since
        return shared


def _numbers(user: LiveUser, room_ids: Iterable[str]) -> list[int]:
    return [user.rooms[room_id].room_number for room_id in room_ids if room_id in user.rooms]


def _in_common(mine: Mapping[str, int], other: LiveUser) -> Iterator[tuple[int, MembershipRow]]:
    """The rooms of two users: since when the one is in it, and the other's membership."""
    for room_id, row in other.rooms.items():
        if room_id in mine:
            yield mine[room_id], row


def _in_live_rooms(
    rooms: Iterable[tuple[LiveRoom, int]], user_id: str
) -> Iterator[tuple[int, MembershipRow]]:
    for room, since in rooms:
        row = room.members.get(user_id)
        if row is not None:
            yield since, row


def _earliest(in_common: Iterable[tuple[int, MembershipRow]], upto: int) -> int | None:
    """Since when both are in one of these rooms, as far as the other has come into it by `upto`."""
    since = [
        max(mine, row.joined_from)
        for mine, row in in_common
        if row.membership == "join" and row.joined_from is not None and row.joined_from <= upto
    ]
    return min(since, default=None)
