"""Unread counts of a user in their rooms: from memory wherever it reaches back far enough.

Rules of this file: `prepare` may ask Postgres, one query for all rooms together; `of` doesn't wait,
and costs a look-up where nothing happened.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from homeserver.protocol.push_outcomes import HIGHLIGHT, MAIN
from homeserver.protocol.push_sets import number_in_room
from homeserver.store import receipts as receipt_store
from homeserver.store import unread as unread_store
from homeserver.store.database import Database
from homeserver.store.events import HIGHEST_ORDER, ORDER_STEP
from homeserver.store.rooms import MembershipRow
from homeserver.store.unread import UnreadGroup, UnreadReader, UnreadStretch
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.push_rules import LivePushRules, UserPush
from homeserver.stream.room_unread import READ_TYPES, Counts, Reads, UserUnread
from homeserver.stream.sync_request import encode

_NOTHING = b'{"notification_count":0,"highlight_count":0}'
_NO_READS = Reads()


class Unread:
    """Counts what the local members of rooms have not read."""

    def __init__(self, database: Database, rooms: LiveRooms, rules: LivePushRules) -> None:
        self._database = database
        self._rooms = rooms
        self._rules = rules

    async def prepare(self, user_id: str, rooms: Collection[LiveRoom]) -> None:
        """Make `of` answer for rooms in which the user is; at most one query for all of them
        (besides those for receipts and rules that aren't in memory)."""
        missing = [room for room in rooms if not _is_current(room, user_id)]
        while missing:
            await self._rooms.load_receipts(missing)
            push = await self._rules.get(user_id)
            for room in missing:
                _begin(room, user_id)
            deep = [room for room in missing if room.unread[user_id].deep is None]
            if deep:
                await self._count_deep(user_id, deep, push)
            # A room may have gone on while Postgres counted, or was let go and loaded again.
            missing = [room for room in deep if not room.dropped and not _is_current(room, user_id)]

    def of(self, user_id: str, room: LiveRoom) -> UserUnread | None:
        """The user's counts in a room up to what is visible now; `prepare` came first.

        None if a receipt or a redaction has been published since: who waits is woken by that.
        """
        unread = room.unread.get(user_id)
        if unread is None or unread.stale or unread.deep is None:
            return None
        timeline = room.timeline
        if timeline and timeline[-1].order > unread.upto:
            push = self._rules.peek(user_id) or UserPush()
            unread.take_in(
                [(e.order, e.stored) for e in room.entries_after(unread.upto)],
                user_id,
                push.ignored,
                lambda position: push.set_at(room.room_id, position),
            )
        return unread

    async def _count_deep(self, user_id: str, rooms: Sequence[LiveRoom], push: UserPush) -> None:
        asked = [(room, room.unread[user_id]) for room in rooms]
        stretches = [UnreadStretch(r.number, u.start, u.floor, u.reads) for r, u in asked]
        groups = await self._groups(user_id, stretches, push)
        found: dict[int, Counts] = {room.number: {} for room in rooms}
        ids = {room.number: room.room_id for room in rooms}
        for group in groups:
            _add(found[group.room_number], group, push, ids[group.room_number])
        for room, unread in asked:
            # Another request may have begun anew, or been first, or a receipt may have come.
            if room.unread.get(user_id) is unread and not unread.stale and unread.deep is None:
                unread.deep = found[room.number]

    async def _groups(
        self, user_id: str, stretches: Sequence[UnreadStretch], push: UserPush
    ) -> list[UnreadGroup]:
        thresholds = [until for until, _ in push.history]
        reader = UnreadReader(user_id, push.ignored, thresholds)
        async with self._database.connection() as connection:
            return await unread_store.unread_groups(connection, reader, stretches)

    async def counted_in_database(
        self, user_id: str, rooms: Mapping[str, MembershipRow]
    ) -> dict[str, tuple[int, int]]:
        """Notifications and highlights in joined rooms (of any number), none of them loaded."""
        push = await self._rules.get(user_id)
        numbers = {row.room_number: room_id for room_id, row in rooms.items()}
        reads: dict[int, Reads] = {}
        async with self._database.connection() as connection:
            for receipt in await receipt_store.of_user(connection, user_id, list(numbers)):
                if receipt.receipt_type in READ_TYPES:
                    reads.setdefault(receipt.room_number, Reads()).put(receipt)
        stretches = []
        for row in rooms.values():
            read = reads.get(row.room_number, _NO_READS)
            start = read.start(_joined(row))
            number = row.room_number
            stretches.append(UnreadStretch(number, start, HIGHEST_ORDER, read.above(start)))
        found: dict[str, Counts] = {}
        for group in await self._groups(user_id, stretches, push):
            room_id = numbers[group.room_number]
            _add(found.setdefault(room_id, {}), group, push, room_id)
        return {
            room_id: (sum(c[0] for c in counts.values()), sum(c[1] for c in counts.values()))
            for room_id, counts in found.items()
        }


def _is_current(room: LiveRoom, user_id: str) -> bool:
    unread = room.unread.get(user_id)
    return (
        unread is not None
        and not unread.stale
        and unread.deep is not None
        and unread.upto >= room.timeline_floor
    )


def _begin(room: LiveRoom, user_id: str) -> None:
    """Look at the user's receipts again; after this, only what Postgres counts may be missing."""
    read = room.reads.get(user_id, _NO_READS)
    start = read.start(_joined(room.members.get(user_id)))
    reads = read.above(start)
    unread = room.unread.get(user_id)
    if unread is None or max(start, unread.floor) < room.timeline_floor:
        floor = room.timeline_floor
        deep: Counts | None = {} if start >= floor else None
        room.unread[user_id] = UserUnread(start, reads, floor, deep, max(start, floor))
        room.unread[user_id].changed_at = read.position
    else:
        unread.reread(start, reads)


def _joined(row: MembershipRow | None) -> int:
    joined_from = None if row is None else row.joined_from
    return (joined_from or 0) * ORDER_STEP


def _add(counts: Counts, group: UnreadGroup, push: UserPush, room_id: str) -> None:
    versions = (*(stored for _, stored in push.history), push.stored)
    bits = group.bits(number_in_room(versions[group.version], room_id) if group.sets else 0)
    if bits:
        of_thread = counts.setdefault(group.thread, [0, 0])
        of_thread[0] += group.count
        of_thread[1] += group.count if bits & HIGHLIGHT else 0


def unread_members(unread: UserUnread, *, threaded: bool) -> list[tuple[bytes, bytes]]:
    """`unread_notifications` of a joined room, and with `threaded` also those of its threads."""
    if not threaded:
        return [(b'"unread_notifications"', _counts(unread.totals()))]
    by_thread = unread.by_thread()
    main = by_thread.pop(MAIN, [0, 0])
    members = [(b'"unread_notifications"', _counts((main[0], main[1])))]
    if by_thread:
        threads = [
            encode(thread) + b":" + _counts((found[0], found[1]))
            for thread, found in by_thread.items()
        ]
        members.append((b'"unread_thread_notifications"', b"{" + b",".join(threads) + b"}"))
    return members


def _counts(counts: tuple[int, int]) -> bytes:
    if counts == (0, 0):
        return _NOTHING
    return b'{"notification_count":%d,"highlight_count":%d}' % counts
