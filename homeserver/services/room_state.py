"""A room's state as clients read it: whole, one event, the members.

client-server-api#getting-events-for-a-room
"""

from __future__ import annotations

from msgspec import Struct

from homeserver.errors import Forbidden, NotFound
from homeserver.json_types import JsonObject
from homeserver.protocol.event_types import MEMBER
from homeserver.requester import Requester
from homeserver.stream.live_room import State
from homeserver.stream.reading.places import moment_of
from homeserver.stream.reading.readers import NOT_A_MEMBER, Reader
from homeserver.stream.reading.rooms import Reading
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.sync_request import encode
from homeserver.stream.whole_rooms import WholeRooms


class MembersRequest(Struct, frozen=True):
    """The parameters of `/members`; `at` is a token."""

    at: str | None
    membership: str | None
    not_membership: str | None

    @property
    def wants_all(self) -> bool:
        return self.membership is None and self.not_membership is None

    def wants(self, membership: str) -> bool:
        """ "When specified alongside `not_membership`, the two parameters create an 'or'
        condition: either the membership *is* the same as `membership` or *is not* the same as
        `not_membership`." """
        if self.wants_all:
            return True
        if self.not_membership is not None and membership != self.not_membership:
            return True
        return membership == self.membership


class RoomState:
    """The states of rooms, for members, former members, and anybody where all may read."""

    def __init__(self, reading: Reading, whole_rooms: WholeRooms) -> None:
        self._reading = reading
        self._whole_rooms = whole_rooms

    async def _open_whole(self, requester: Requester, room_id: str) -> Reader:
        """The room with all of its members, also if we have only just joined it.

        Raises Forbidden, Unavailable.
        """
        reader = await self._reading.readers.open(requester, room_id)
        if reader.room.is_partial:
            await self._whole_rooms.require(room_id)
            reader = await self._reading.readers.open(requester, room_id)
        return reader

    async def whole(self, requester: Requester, room_id: str) -> bytes:
        """All state events, as an array. Raises Forbidden, Unavailable."""
        reader = await self._open_whole(requester, room_id)
        state = await self._reading.states.of(reader)
        events = await self._reading.states.events(state.values())
        return b"[" + b",".join(await self._reading.forms.of_state(reader, events)) + b"]"

    async def one(
        self, requester: Requester, room_id: str, key: tuple[str, str], *, whole_event: bool
    ) -> bytes:
        """A state event, or just its content. Raises Forbidden, NotFound."""
        reader = await self._reading.readers.open(requester, room_id)
        state = await self._reading.states.of(reader)
        event_id = state.get(key)
        if event_id is None and key[0] == MEMBER and reader.room.is_partial:
            reader = await self._open_whole(requester, room_id)
            event_id = (await self._reading.states.of(reader)).get(key)
        found = [] if event_id is None else await self._reading.states.events([event_id])
        if not found:
            raise NotFound("The room has no state with this type and state key")
        if whole_event:
            return (await self._reading.forms.of_state(reader, found))[0]
        return encode(found[0].content)

    async def members(self, requester: Requester, room_id: str, request: MembersRequest) -> bytes:
        """`{"chunk": [...]}`: the member events, now or at a token.

        Raises Forbidden, Unavailable.
        """
        reader = await self._open_whole(requester, room_id)
        state = await self._state_at(reader, request.at)
        ids = [event_id for (type_, _), event_id in state.items() if type_ == MEMBER]
        if request.wants_all:
            events = await self._reading.states.events(ids)
        elif state is reader.room.state:
            # Memory tells the memberships of today without a look at the events.
            rows = reader.room.members.values()
            wanted = {row.event_id for row in rows if request.wants(row.membership)}
            events = await self._reading.states.events(e for e in ids if e in wanted)
        else:
            all_members = await self._reading.states.events(ids)
            events = [stored for stored in all_members if request.wants(_membership(stored))]
        forms = await self._reading.forms.of_state(reader, events)
        return b'{"chunk":[' + b",".join(forms) + b"]}"

    async def _state_at(self, reader: Reader, at: str | None) -> State:
        """Raises Forbidden for a moment whose events the reader may not see."""
        if at is None:
            return await self._reading.states.of(reader)
        place = moment_of(at, self._reading.pages.newest())
        if reader.is_joined and not reader.is_certain(place):
            history = await self._reading.readers.learn_history(reader)
            if not history.allows(place) and not history.allows(place - 1):
                raise Forbidden("You may not see the room as it was then")
        return await self._reading.states.of(reader, place)

    async def joined_members(self, requester: Requester, room_id: str) -> JsonObject:
        """`{"joined": {user id: {display_name, avatar_url}}}`, for those who are in the room."""
        reader = await self._open_whole(requester, room_id)
        if not reader.is_joined:
            raise Forbidden(NOT_A_MEMBER)
        return {
            "joined": {
                row.user_id: _profile(row.display_name, row.avatar_url)
                for row in reader.room.members.values()
                if row.membership == "join"
            }
        }


def _membership(stored: StoredEvent) -> str:
    return stored.event.membership or "leave"


def _profile(display_name: str | None, avatar_url: str | None) -> JsonObject:
    # Clients expect both keys: null for what isn't set.
    return {"display_name": display_name, "avatar_url": avatar_url}
