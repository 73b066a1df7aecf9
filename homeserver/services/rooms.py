"""Local rooms: made, sent into, read, and who may do so."""

from __future__ import annotations

from collections.abc import Mapping

from homeserver.config import Config
from homeserver.errors import Forbidden, NotFound
from homeserver.json_types import JsonObject
from homeserver.requester import Requester
from homeserver.store import profiles as profile_store
from homeserver.store.database import Database
from homeserver.store.state import StateKey
from homeserver.stream.live_room import LiveRoom, State
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.memberships import member_content
from homeserver.stream.room_creation import CreateRoom, room_drafts, room_version
from homeserver.stream.send import Draft, Sender
from homeserver.stream.stored_event import StoredEvent


class Rooms:
    """What `createRoom` and the state endpoints need."""

    def __init__(
        self, config: Config, database: Database, rooms: LiveRooms, sender: Sender
    ) -> None:
        self._config = config
        self._database = database
        self._rooms = rooms
        self._sender = sender

    async def create(
        self, requester: Requester, request: CreateRoom, canonical_alias: str | None = None
    ) -> str:
        """Make a room, without its invites; returns its id. Raises what `room_drafts` raises."""
        version = room_version(request, self._config.default_room_version)
        profile = await self.profile_of(requester.user_id)
        drafts = room_drafts(request, version, requester.user_id, profile, canonical_alias)
        events = await self._sender.create_room(version, drafts)
        return events[0].event.room_id

    async def profile_of(self, user_id: str) -> JsonObject:
        """The profile that a local user's member events show."""
        async with self._database.connection() as connection:
            return await profile_store.get(connection, user_id)

    async def require(self, room_id: str) -> LiveRoom:
        """A room whose state we have. Raises NotFound."""
        room = await self._rooms.get(room_id)
        if room is None:
            raise NotFound("This server doesn't know the room")
        return room

    async def require_joined(self, room_id: str, user_id: str) -> LiveRoom:
        """A room that the user is in. Raises Forbidden, also for a room that nobody knows."""
        room = await self._rooms.get(room_id)
        if room is None or room.membership_of(user_id) != "join":
            raise Forbidden("You are not in this room")
        return room

    async def state_events(
        self, state: State | Mapping[StateKey, str]
    ) -> dict[StateKey, StoredEvent]:
        """The events of a state; one query at most."""
        async with self._database.connection() as connection:
            found = await self._rooms.events.get_many(
                connection, state.values(), self._rooms.rules_of
            )
        return {key: found[event_id] for key, event_id in state.items() if event_id in found}

    async def invite_all(self, requester: Requester, room_id: str, request: CreateRoom) -> None:
        """The invites that come with a new room."""
        drafts = []
        for user_id in dict.fromkeys(request.invite):
            content = member_content("invite", await self.profile_of(user_id))
            if request.is_direct:
                content["is_direct"] = True
            drafts.append(Draft(requester.user_id, "m.room.member", content, user_id))
        if drafts:
            await self._sender.send_many(room_id, drafts)
