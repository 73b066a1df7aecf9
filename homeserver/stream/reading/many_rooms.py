"""Readers in front of many rooms at once: what they see of each, and events of different rooms.

A fixed number of queries, whatever the number of rooms.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from homeserver.protocol.client_events import relations, with_unsigned
from homeserver.protocol.history_visibility import VisibleHistory
from homeserver.requester import Requester
from homeserver.store.events import HIGHEST_ORDER
from homeserver.store.rooms import MembershipRow
from homeserver.stream.bundles import Form, Viewer
from homeserver.stream.live_users import LiveUsers
from homeserver.stream.reading.readers import Reader
from homeserver.stream.reading.rooms import Reading
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.visibility import Visibility


class SeenRoom(Struct, frozen=True):
    """A room that a user is in, or was, and what they see of it."""

    room_id: str
    membership: MembershipRow
    history: VisibleHistory


class ManyRooms:
    """The rooms of one user after another."""

    def __init__(self, reading: Reading, users: LiveUsers, visibility: Visibility) -> None:
        self._reading = reading
        self._users = users
        self._visibility = visibility

    async def of(self, requester: Requester) -> dict[int, SeenRoom]:
        """The rooms that a user is in or has left and not forgotten, by number."""
        user = await self._users.get(requester.user_id)
        rows = {
            row.room_number: (room_id, row)
            for room_id, row in user.rooms.items()
            if row.membership in ("join", "leave", "ban")
        }
        wanted = {number: room_id for number, (room_id, _) in rows.items()}
        histories = await self._visibility.histories_of(wanted, requester.user_id)
        return {
            number: SeenRoom(room_id, row, histories[room_id])
            for number, (room_id, row) in rows.items()
        }

    async def readers(self, requester: Requester, rooms: Collection[SeenRoom]) -> dict[int, Reader]:
        """The user as a reader of these rooms, by number."""
        live = await self._reading.rooms.get_many([seen.room_id for seen in rooms])
        found = {}
        for seen in rooms:
            room = live.get(seen.room_id)
            if room is None:
                continue
            left_at = seen.history.left_at
            joined = seen.membership.membership == "join"
            found[room.number] = Reader(
                room,
                requester.user_id,
                requester.device_id,
                seen.membership.membership,
                HIGHEST_ORDER,
                seen.history,
                None if joined or left_at is None else left_at + 1,
                sees_state=joined or left_at is not None,
            )
        return found

    async def forms(
        self, readers: Mapping[int, Reader], events: Mapping[int, Sequence[StoredEvent]]
    ) -> dict[str, bytes]:
        """Events (by room number) as their readers get them, with their bundles, by event id."""
        by_room: dict[str, Form] = {}
        for number, of_room in events.items():
            reader = readers[number]
            by_room[reader.room.room_id] = await self._reading.forms.form(reader, of_room)
        some = next(iter(readers.values()), None)
        if some is None:
            return {}
        viewer = Viewer(some.user_id, {n: reader.visible() for n, reader in readers.items()})
        bundles = await self._reading.bundles.of(
            viewer, events, lambda stored: by_room[stored.event.room_id](stored)
        )
        found = {}
        for number, of_room in events.items():
            form = by_room[readers[number].room.room_id]
            for stored in of_room:
                bundled = bundles.get(stored.event_id)
                encoded = form(stored)
                found[stored.event_id] = (
                    encoded if bundled is None else with_unsigned(encoded, relations(bundled))
                )
        return found
