"""The long poll: watch, read, sleep; and what one reading of the log for a user consists of.

client-server-api#get_matrixclientv3sync
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from homeserver.errors import InvalidParam
from homeserver.store import events as event_store
from homeserver.store import receipts as receipt_store
from homeserver.store.rooms import MembershipRow
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.live_users import LiveUser, LiveUsers
from homeserver.stream.notifier import Notifier, Watch
from homeserver.stream.sections.account_data import AccountDataLog, ByRoom, account_data_events
from homeserver.stream.sections.joined_rooms import JoinedRooms
from homeserver.stream.sections.other_rooms import LeftRooms, invited_rooms, knocked_rooms
from homeserver.stream.sync_request import (
    Part,
    SyncRequest,
    encode,
    events_object,
    json_object,
    next_batch,
)
from homeserver.stream.writer import StreamWriter


class Section(Protocol):
    """A top-level section that another chapter brings: presence, to-device, device lists, ..."""

    async def __call__(self, request: SyncRequest, user: LiveUser, upto: int) -> Sequence[Part]: ...


async def long_poll(
    watch: Watch,
    position: Callable[[], int],
    read: Callable[[int], Awaitable[bytes | None]],
    deadline: float,
) -> bytes | None:
    """Read until there is something, or until the deadline (event loop time)."""
    while True:
        watch.clear()  # before reading: a wake during the read makes us read once more
        answer = await read(position())
        if answer is not None or not await watch.wait(deadline):
            return answer


class Sync:
    """Answers `/sync`."""

    def __init__(
        self,
        account_data: AccountDataLog,
        rooms: LiveRooms,
        users: LiveUsers,
        writer: StreamWriter,
        notifier: Notifier,
        joined: JoinedRooms,
    ) -> None:
        self._account_data = account_data
        self._database = account_data.database
        self._rooms = rooms
        self._users = users
        self._writer = writer
        self._notifier = notifier
        self._joined = joined
        self._left = LeftRooms(account_data.database, rooms)
        self.sections: list[Section] = []

    async def answer(self, request: SyncRequest, patience: float) -> bytes:
        """The response's JSON; waits up to `patience` seconds for news. Raises InvalidParam."""
        if request.since is not None and request.since > self._writer.position:
            raise InvalidParam("This `since` token is not one of this server's")
        if request.from_scratch:
            self._joined.start_again((request.user_id, request.device_id))
            patience = 0
        deadline = asyncio.get_running_loop().time() + patience
        with self._notifier.watch(request.user_id) as watch:
            found = await long_poll(
                watch,
                lambda: self._writer.position,
                lambda upto: self._read(request, upto, always=patience == 0),
                deadline,
            )
        return found if found is not None else await self._nothing(request)

    async def _nothing(self, request: SyncRequest) -> bytes:
        found = await self._read(request, self._writer.position, always=True)
        assert found is not None
        return found

    async def _read(self, request: SyncRequest, upto: int, *, always: bool) -> bytes | None:
        """What is new for the user up to a position; None if nothing is (unless `always`)."""
        news = self._may_have_news(request)
        if not news and not always:
            return None
        user = await self._users.get(request.user_id)
        parts = await self._read_log(request, user, upto) if news else []
        for section in self.sections:
            parts.extend(await section(request, user, upto))
        if not always and not any(part.news for part in parts):
            return None
        members = [(encode(part.name), part.json) for part in parts]
        token = encode(next_batch(upto, parts))
        return json_object([(b'"next_batch"', token), *members])

    def _may_have_news(self, request: SyncRequest) -> bool:
        """Whether there can be anything at all: mostly there isn't, and one look-up tells."""
        since = request.since
        if since is None or request.full_state or since < self._rooms.changed_floor:
            return True
        return self._notifier.may_have_news(request.user_id, since)

    async def _read_log(self, request: SyncRequest, user: LiveUser, upto: int) -> list[Part]:
        account_data = await self._account_data.read(request, user)
        parts = []
        rooms = await self._read_rooms(request, user, account_data, upto)
        if rooms:
            parts.append(Part("rooms", rooms))
        events = account_data_events(request.filter.account_data, account_data.get("", ()))
        if events:
            parts.append(Part("account_data", events_object(events)))
        return parts

    async def _read_rooms(
        self, request: SyncRequest, user: LiveUser, account_data: ByRoom, upto: int
    ) -> bytes | None:
        joined, others = await self._candidates(request, user, account_data)
        sections: list[tuple[bytes, bytes | None]] = []
        if joined:
            join = await self._joined.read(request, joined, account_data, upto)
            sections.append((b'"join"', join))
        if others:
            wanted = await self._users.invites.wanted(request.user_id)
            of = _by_membership([other for other in others if wanted.shows(other[1])], upto)
            sections.append((b'"invite"', invited_rooms(of["invite"])))
            sections.append((b'"knock"', knocked_rooms(of["knock"])))
            left = await self._left.read(request, of["leave"], account_data)
            sections.append((b'"leave"', left))
        members = [(name, json) for name, json in sections if json is not None]
        return json_object(members) if members else None

    async def _candidates(
        self, request: SyncRequest, user: LiveUser, account_data: ByRoom
    ) -> tuple[list[str], list[tuple[str, MembershipRow]]]:
        """The joined rooms that may have news, and the other rooms to tell of."""
        since = request.since
        if since is None or request.full_state:
            joined = user.joined_rooms()
            others = [
                (room_id, row)
                for room_id, row in user.rooms.items()
                if row.membership in ("invite", "knock")
                or (row.is_left and _is_left_told(request, row))
            ]
        else:
            joined = await self._changed_rooms(user, since, account_data)
            others = []
            if user.last_membership > since:
                others = [
                    (room_id, row)
                    for room_id, row in user.rooms.items()
                    if row.membership != "join" and row.position > since
                ]
        if not request.filter.rooms.matches_all:
            allowed = request.filter.room_allowed
            joined = [room_id for room_id in joined if allowed(room_id)]
            others = [(room_id, row) for room_id, row in others if allowed(room_id)]
        return joined, others

    async def _changed_rooms(self, user: LiveUser, since: int, account_data: ByRoom) -> list[str]:
        """The user's joined rooms in which anything happened after `since`."""
        changed = {r for r in account_data if r in user.rooms}
        if user.last_membership > since:
            changed.update(r for r, row in user.rooms.items() if row.position > since)
        if since >= self._rooms.changed_floor:
            rooms = user.rooms
            changed.update(r for r, _ in self._rooms.changed_since(since) if r in rooms)
        else:
            changed.update(await self._changed_in_database(user, since))
            changed.update(r for r in self._rooms.typed_in_since(since) if r in user.rooms)
        return [room_id for room_id in changed if user.rooms[room_id].membership == "join"]

    async def _changed_in_database(self, user: LiveUser, since: int) -> list[str]:
        numbers = {
            row.room_number: room_id
            for room_id, row in user.rooms.items()
            if row.membership == "join"
        }
        async with self._database.connection() as connection:
            found = await event_store.rooms_changed(connection, list(numbers), since)
            found += await receipt_store.rooms_changed(connection, list(numbers), since)
        return [numbers[number] for number in found]


def _is_left_told(request: SyncRequest, row: MembershipRow) -> bool:
    """Whether a sync from scratch tells of a room that the user is no longer in.

    Those that they left by themselves and what isn't new only if the filter asks for it.
    """
    if request.since is not None and row.position > request.since:
        return True
    is_new = request.since is None and row.sender != row.user_id
    return not row.forgotten and (request.filter.include_leave or is_new)


def _by_membership(
    rooms: Sequence[tuple[str, MembershipRow]], upto: int
) -> dict[str, list[tuple[str, MembershipRow]]]:
    found: dict[str, list[tuple[str, MembershipRow]]] = {"invite": [], "knock": [], "leave": []}
    for room_id, row in rooms:
        if row.position <= upto:
            found["leave" if row.membership == "ban" else row.membership].append((room_id, row))
    return found
