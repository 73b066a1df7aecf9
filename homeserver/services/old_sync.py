"""What `/sync` replaced and old clients and suites still call: `/initialSync` and `/events`.

Rules of this file: tokens are those of `/sync`. Only peeking at a room one isn't in is polled for:
nobody is woken by a room that doesn't concern them.
client-server-api#get_matrixclientv3initialsync, client-server-api#get_matrixclientv3events
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from homeserver.clock import Clock
from homeserver.errors import Forbidden
from homeserver.protocol.client_events import with_room_id
from homeserver.requester import Requester
from homeserver.store import account_data as account_data_store
from homeserver.store import events as event_store
from homeserver.store.account_data import AccountDataRow
from homeserver.store.database import Database
from homeserver.store.events import ORDER_STEP
from homeserver.store.rooms import MembershipRow
from homeserver.stream.core import StreamCore
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_users import LiveUser
from homeserver.stream.reading.pages import Asked
from homeserver.stream.reading.places import place_after, place_of, place_token
from homeserver.stream.reading.readers import Reader
from homeserver.stream.sections.ephemeral import receipt_event, typing_event, visible_receipts
from homeserver.stream.sections.timeline import order_of
from homeserver.stream.sync_request import encode, json_object

PEEK_SECONDS = 0.5
PAGE = 1000
Ordered = tuple[int, bytes]


class OldSync:
    """Snapshots of rooms, and a stream of what happens in them."""

    def __init__(self, database: Database, stream: StreamCore, now: Clock) -> None:
        self._database = database
        self._now = now
        self._stream = stream
        self._reading = stream.reading

    async def room(self, requester: Requester, room_id: str, limit: int) -> bytes:
        """A room's state and newest events. Raises Forbidden."""
        reader = await self._reading.readers.open(requester, room_id)
        position = self._stream.writer.position
        async with self._database.connection() as connection:
            rows = await account_data_store.of_user(connection, requester.user_id, 0)
        ours = [row for row in rows if row.room_id == room_id]
        is_joined = reader.is_joined
        receipts = await self._receipts(requester.user_id, [room_id] if is_joined else [])
        more = [
            (b'"presence"', _array(self._presence([room_id]) if is_joined else ())),
            (b'"receipts"', _array(receipts)),
        ]
        return await self._snapshot(reader, limit, position, ours, more)

    async def everything(self, requester: Requester, limit: int, *, archived: bool) -> bytes:
        """All rooms of a user, with those they left if `archived`, and their account data."""
        position = self._stream.writer.position
        user = await self._stream.users.get(requester.user_id)
        async with self._database.connection() as connection:
            rows = await account_data_store.of_user(connection, requester.user_id, 0)
        await self._stream.rooms.get_many(user.rooms)
        rooms = []
        for room_id, row in list(user.rooms.items()):
            if row.membership == "invite":
                rooms.append(await self._invite(room_id, row))
            elif row.membership == "join" or (archived and row.is_left and not row.forgotten):
                ours = [data for data in rows if data.room_id == room_id]
                reader = await self._open(requester, room_id)
                if reader is not None:
                    rooms.append(await self._snapshot(reader, limit, position, ours))
        return json_object(
            [
                (b'"end"', b'"s%d"' % position),
                (b'"presence"', _array(self._presence(user.joined_rooms(), user.user_id))),
                (b'"rooms"', _array(rooms)),
                (b'"account_data"', _array(_account_data(r for r in rows if not r.room_id))),
                (
                    b'"receipts"',
                    _array(await self._receipts(requester.user_id, user.joined_rooms())),
                ),
            ]
        )

    async def _receipts(self, user_id: str, room_ids: Iterable[str]) -> list[bytes]:
        """The receipts of rooms, an event for each room. Not in the text; SyTest looks for them."""
        rooms = await self._stream.rooms.get_many(room_ids)
        await self._stream.rooms.load_receipts(list(rooms.values()))
        found = []
        for room_id, room in rooms.items():
            receipts = visible_receipts(room.receipts_since(0), user_id)
            if receipts:
                found.append(with_room_id(receipt_event(receipts), room_id))
        return found

    def _presence(self, room_ids: Iterable[str], own_id: str | None = None) -> list[bytes]:
        """Who is there, and one's own presence anyway. `user_id` is of the oldest form."""
        now, presence = self._now(), self._stream.presence
        found = {person.user_id: person for person in presence.in_rooms(room_ids)}
        if own_id is not None and presence.enabled:
            found.setdefault(own_id, presence.of(own_id))
        return [
            encode(
                {
                    "type": "m.presence",
                    "sender": person.user_id,
                    "content": {**person.content(now), "user_id": person.user_id},
                }
            )
            for person in found.values()
        ]

    async def _open(self, requester: Requester, room_id: str) -> Reader | None:
        try:
            return await self._reading.readers.open(requester, room_id)
        except Forbidden:
            return None  # an invite that was rejected

    async def _invite(self, room_id: str, row: MembershipRow) -> bytes:
        told = [
            (b'"room_id"', encode(room_id)),
            (b'"membership"', b'"invite"'),
            (b'"inviter"', encode(row.sender)),
        ]
        invite = await self._invite_event(room_id, row)
        if invite is not None:
            told.append((b'"invite"', invite))
        return json_object(told)

    async def _invite_event(self, room_id: str, row: MembershipRow) -> bytes | None:
        """The invite itself, if it is in a room that we are in."""
        if await self._stream.rooms.get(room_id) is None:
            return None
        stored = await self._stream.rooms.event(row.event_id)
        if stored is None:
            return None
        return with_room_id(stored.client, room_id)

    async def _snapshot(
        self,
        reader: Reader,
        limit: int,
        position: int,
        account_data: Sequence[AccountDataRow],
        more: Iterable[tuple[bytes, bytes]] = (),
    ) -> bytes:
        place = place_after(position)
        page = await self._reading.pages.read(reader, Asked(place, True, limit))
        events = page.events[::-1]
        chunk = await self._reading.forms.of(reader, events)
        state: list[bytes] = []
        if reader.sees_state:
            ids = (await self._reading.states.of(reader)).values()
            found = await self._reading.states.events(ids)
            state = await self._reading.forms.of_state(reader, found)
        start = order_of(events[0]) if events else place
        messages = [
            (b'"chunk"', _array(chunk)),
            (b'"start"', encode(place_token(start))),
            (b'"end"', b'"s%d"' % position),
        ]
        return json_object(
            [
                (b'"room_id"', encode(reader.room.room_id)),
                (b'"membership"', encode(reader.membership)),
                (b'"messages"', json_object(messages)),
                (b'"state"', _array(state)),
                (b'"account_data"', _array(_account_data(account_data))),
                *more,
            ]
        )

    async def events(
        self, requester: Requester, start: str | None, patience: float, room_id: str | None
    ) -> bytes:
        """What happened after a token, in one's rooms or in one room; waits for it, in seconds.

        Raises InvalidParam, and Forbidden for a room that the requester may not read.
        """
        newest = self._stream.writer.position
        since = newest if start is None else place_of(start, newest) // ORDER_STEP - 1
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        peeked = None if room_id is None else await self._reading.readers.open(requester, room_id)
        is_peeking = peeked is not None and not peeked.is_joined
        with self._stream.notifier.watch(requester.user_id) as watch:
            while True:
                watch.clear()
                upto = self._stream.writer.position
                upto, chunk = await self._since(requester, since, upto, room_id)
                if chunk or loop.time() >= deadline:
                    break
                pause = loop.time() + PEEK_SECONDS if is_peeking else deadline
                if not await watch.wait(min(pause, deadline)) and watch.is_closed:
                    break
        return b'{"start":"s%d","end":"s%d","chunk":%b}' % (since, upto, _array(chunk))

    async def _since(
        self, requester: Requester, since: int, upto: int, room_id: str | None
    ) -> tuple[int, list[bytes]]:
        """What a requester is told of the positions after `since`, and how far that reaches."""
        user = await self._stream.users.get(requester.user_id)
        rooms = await self._changed(user, since) if room_id is None else [room_id]
        found: list[Ordered] = []
        for changed in rooms:
            reader = await self._open(requester, changed)
            if reader is None:
                continue
            events, reached = await self._timeline(reader, since, upto)
            upto = min(upto, reached)
            found += events
            if reader.is_joined:
                found += await self._ephemeral(reader.room, requester.user_id, since, upto)
        if room_id is None:
            found += await self._invites(user, since)
        end = place_after(upto)
        return upto, [event for order, event in sorted(found) if order < end]

    async def _changed(self, user: LiveUser, since: int) -> list[str]:
        """The rooms that a user is in, or was until a moment ago, with news after a position."""
        left = [
            room_id
            for room_id, row in user.rooms.items()
            if row.position > since and row.membership in ("leave", "ban")
        ]
        joined = {room_id: user.rooms[room_id].room_number for room_id in user.joined_rooms()}
        if since >= self._stream.rooms.changed_floor:
            news = {room_id for room_id, _ in self._stream.rooms.changed_since(since)}
            return [*(room_id for room_id in joined if room_id in news), *left]
        async with self._database.connection() as connection:
            numbers = await event_store.rooms_changed(connection, list(joined.values()), since)
        changed = set(numbers)
        return [*(room_id for room_id, number in joined.items() if number in changed), *left]

    async def _timeline(self, reader: Reader, since: int, upto: int) -> tuple[list[Ordered], int]:
        asked = Asked(place_after(since), False, PAGE, place_after(upto))
        page = await self._reading.pages.read(reader, asked)
        forms = await self._reading.forms.of(reader, page.events)
        orders = [order_of(stored) for stored in page.events]
        reached = upto if len(orders) < PAGE else orders[-1] // ORDER_STEP
        return list(zip(orders, forms, strict=True)), reached

    async def _ephemeral(
        self, room: LiveRoom, user_id: str, since: int, upto: int
    ) -> list[Ordered]:
        found = []
        if since < room.typing_position <= upto:
            event = with_room_id(typing_event(room), room.room_id)
            found.append((room.typing_position * ORDER_STEP, event))
        await self._stream.rooms.load_receipts([room])
        receipts = visible_receipts(room.receipts_since(since), user_id)
        if receipts:
            last = max(row.position for row in receipts)
            found.append((last * ORDER_STEP, with_room_id(receipt_event(receipts), room.room_id)))
        return found

    async def _invites(self, user: LiveUser, since: int) -> list[Ordered]:
        """The invites themselves: whoever is invited sees nothing else of a room."""
        found = []
        for room_id, row in user.rooms.items():
            if row.membership != "invite" or row.position <= since:
                continue
            event = await self._invite_event(room_id, row)
            if event is not None:
                found.append((row.position * ORDER_STEP, event))
        return found


def _account_data(rows: Iterable[AccountDataRow]) -> list[bytes]:
    return [
        b'{"type":%b,"content":%b}' % (encode(row.type), row.content)
        for row in rows
        if row.content != b"{}"
    ]


def _array(events: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(events) + b"]"
