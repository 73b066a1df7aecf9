"""What somebody outside is told of a room before they join.

client-server-api#get_matrixclientv1room_summaryroomidoralias
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from homeserver.errors import NotFound
from homeserver.json_types import JsonObject
from homeserver.requester import Requester
from homeserver.store import listings as listing_store
from homeserver.store.database import Database
from homeserver.stream.live_users import LiveUser, LiveUsers
from homeserver.stream.summaries import NOBODY, Visitor, room_summary, visitor

Elsewhere = Callable[[str, Sequence[str], Visitor], Awaitable[JsonObject | None]]
"""The summary of a room that other servers know, asked of these servers for a local user."""


class RoomSummaries:
    """Summaries of the rooms we know; `elsewhere` is asked for others."""

    def __init__(self, database: Database, users: LiveUsers) -> None:
        self._database = database
        self._users = users
        self.elsewhere: Elsewhere | None = None

    async def get(
        self, requester: Requester | None, room_id: str, servers: Sequence[str]
    ) -> JsonObject:
        """The summary, with the requester's membership. Raises NotFound, also if they may not."""
        user = None if requester is None else await self._users.get(requester.user_id)
        async with self._database.connection() as connection:
            listing = (await listing_store.by_ids(connection, [room_id])).get(room_id)
        if listing is not None and listing.joined_members:
            onlooker = NOBODY if user is None else visitor(user)
            if not onlooker.may_preview(listing):
                raise NotFound("There is no such room, or you may not preview it")
            summary = room_summary(listing)
        else:
            summary = await self._from_elsewhere(user, room_id, servers)
        if user is not None:
            row = user.rooms.get(room_id)
            summary["membership"] = "leave" if row is None else row.membership
        return summary

    async def _from_elsewhere(
        self, user: LiveUser | None, room_id: str, servers: Sequence[str]
    ) -> JsonObject:
        """Other servers are asked for our own users only."""
        found = None
        if self.elsewhere is not None and user is not None:
            found = await self.elsewhere(room_id, servers, visitor(user))
        if found is None:
            raise NotFound("There is no such room, or you may not preview it")
        return found
