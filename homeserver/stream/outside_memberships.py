"""What our users are in rooms that this server isn't in: invited, knocking, gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from homeserver.json_types import JsonObject
from homeserver.protocol.client_events import client_json
from homeserver.protocol.events import Event
from homeserver.protocol.identifiers import server_name_of
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from homeserver.store import rooms as room_store
from homeserver.store.database import Database
from homeserver.store.rooms import MembershipRow, RoomRow
from homeserver.stream.changes import MembershipChange
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.verify import Verifier, parse
from homeserver.stream.writer import StreamWriter

MAX_TOLD = 100
"""Of so many events somebody outside is shown a room."""


class OutsideMemberships:
    """Writes memberships that no event of a room we have brings."""

    def __init__(
        self, database: Database, rooms: LiveRooms, writer: StreamWriter, verifier: Verifier
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._writer = writer
        self._verifier = verifier

    async def take_back(self, origin: str, pdu: JsonObject) -> None:
        """An invite or a knock of a local user is ended by a leave or ban in a room we aren't in.

        We can't judge the event without the room's state: it is believed if whoever invited says
        so; for a knock, a server of which we were told that it has a part in the room.
        """
        user_id, room_id = pdu.get("state_key"), pdu.get("room_id")
        if not isinstance(user_id, str) or not isinstance(room_id, str) or "\0" in user_id:
            return
        async with self._database.connection() as connection:
            known = await room_store.membership_of_user(connection, room_id, user_id)
        if known is None or known[1].membership not in ("invite", "knock"):
            return
        room, row = known
        event = parse(pdu, ROOM_VERSIONS[room.version])
        if event is None or event.type != "m.room.member" or event.server_name != origin:
            return
        if event.membership not in ("leave", "ban"):
            return
        if row.membership == "invite" and row.sender != event.sender:
            return
        if row.membership == "knock" and origin not in _in_room(room_id, row):
            return
        verified = await self._verifier.check_signatures([event])
        for one in verified.events:
            await self.remember(room_id, one.rules, one, as_left(one))

    async def told_state(
        self, entries: Sequence[Any], rules: RoomVersion, room_id: str
    ) -> list[JsonObject]:
        """Of what a server told of a room to who knocked there, that which may be shown.

        "Entries which are improperly signed or formatted SHOULD be removed by the server prior to
        supplying them over the Client-Server API." Before v1.16 these were stripped events, which
        nobody signs: in older rooms they count if the server doesn't know any better.
        """
        entries = [entry for entry in entries[:MAX_TOLD] if isinstance(entry, dict)]
        may_be_stripped = not rules.room_id_is_create_event_id
        if may_be_stripped and not any("signatures" in entry for entry in entries):
            return list(entries)
        verified = await self._verifier.verify(entries, rules, room_id)
        return [event.pdu for event in verified.events]

    async def remember(
        self, room_id: str, rules: RoomVersion, event: Event, stripped: bytes | None
    ) -> None:
        """Keep what a member event says of a local user; committed on return.

        Not if we have come into the room meanwhile: then the event counts that comes to us there.
        """
        async with self._rooms.numbering(room_id):
            room = await self._rooms.get(room_id)
            if room is None or not room.joined_local:
                await self._remember(room_id, rules, event, stripped)

    async def _remember(
        self, room_id: str, rules: RoomVersion, event: Event, stripped: bytes | None
    ) -> None:
        assert event.state_key is not None
        async with self._database.connection() as connection:
            known = await room_store.by_ids(connection, [room_id])
        new_room = None
        if known:
            number = known[0].room_number
        else:
            number = self._writer.allocate()
            new_room = RoomRow(number, room_id, rules.identifier)
        row = MembershipRow(
            room_number=number,
            user_id=event.state_key,
            membership=event.membership or "leave",
            event_id=event.event_id,
            sender=event.sender,
            position=0,
            joined_from=None,
            is_local=True,
            display_name=_text(event.content.get("displayname")),
            avatar_url=_text(event.content.get("avatar_url")),
            stripped_state=stripped,
        )
        await self.put(room_id, row, new_room)

    async def put(self, room_id: str, row: MembershipRow, new_room: RoomRow | None = None) -> None:
        """Write a membership, which is the newest."""
        position = self._writer.allocate()
        change = MembershipChange(
            position, room_id, replace(row, position=position), new_room=new_room
        )
        await self._writer.append(change)


def as_left(event: Event) -> bytes:
    """The event by which a user left a room that we aren't in, kept for /sync to tell."""
    return b"[" + client_json(event.json, event.event_id, event.rules) + b"]"


def _in_room(room_id: str, row: MembershipRow) -> set[str]:
    """Servers that made a room what we were told of it, and the one that made it."""
    state = msgspec.json.decode(row.stripped_state) if row.stripped_state else []
    senders = (event["sender"] for event in state if event["sender"] != row.user_id)
    return {server_name_of(room_id), *map(server_name_of, senders)}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and "\0" not in value else None
