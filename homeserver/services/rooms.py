"""Local rooms: made, sent into, read, and who may do so."""

from __future__ import annotations

from homeserver.clock import Clock
from homeserver.config import Config
from homeserver.errors import Forbidden, InvalidRoomState, NotFound, RoomInUse
from homeserver.json_types import JsonObject
from homeserver.requester import Requester
from homeserver.store import profiles as profile_store
from homeserver.store.aliases import AliasRow
from homeserver.store.database import Database
from homeserver.stream.alias_names import AliasNames
from homeserver.stream.changes import Change, DirectoryChange
from homeserver.stream.client_state import require_content
from homeserver.stream.core import StreamCore
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.room_creation import CreateRoom, room_drafts, room_version


class Rooms:
    """What `createRoom` and the state endpoints need."""

    def __init__(
        self,
        config: Config,
        database: Database,
        stream: StreamCore,
        aliases: AliasNames,
        now: Clock,
    ) -> None:
        self._config = config
        self._database = database
        self._rooms = stream.rooms
        self._sender = stream.sender
        self._aliases = aliases
        self._now = now

    async def create(self, requester: Requester, request: CreateRoom) -> str:
        """Make a room, without its invites; returns its id.

        Raises what `room_drafts` raises, RoomInUse for an alias that is taken.
        """
        if request.room_alias_name is None:
            return await self._create(requester, request, None)
        alias = self._aliases.alias_of(request.room_alias_name)
        taken = RoomInUse(f"The alias {alias} exists already")
        async with self._aliases.reserved(alias, requester, taken):
            return await self._create(requester, request, alias)

    async def _create(self, requester: Requester, request: CreateRoom, alias: str | None) -> str:
        version = room_version(request, self._config.default_room_version)
        profile = await self.profile_of(requester.user_id)
        drafts = room_drafts(request, version, requester.user_id, profile, alias)

        def listed(room: LiveRoom, position: int) -> list[Change]:
            row = None
            if alias is not None:
                row = AliasRow(alias, room.room_id, requester.user_id, self._now())
            is_published = request.visibility == "public"
            return [DirectoryChange(position, room.number, row, is_published)]

        for draft in drafts:
            require_content(draft)
        try:
            events = await self._sender.create_room(version, drafts, listed)
        except Forbidden as refused:
            # "for example, the user's power level is set below that necessary to set the room name"
            raise InvalidRoomState(f"The room's first events: {refused.message}") from None
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
