"""Joining, leaving, inviting, kicking, banning, knocking: a user's way through a room.

client-server-api#room-membership
"""

from __future__ import annotations

from dataclasses import replace

from homeserver.errors import Forbidden, InvalidParam, NotFound, UnknownError
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_user_id, server_name_of
from homeserver.requester import Requester
from homeserver.store import profiles as profile_store
from homeserver.store.database import Database
from homeserver.stream.changes import MembershipChange
from homeserver.stream.core import StreamCore
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.memberships import member_content
from homeserver.stream.restricted_joins import RestrictedJoins
from homeserver.stream.send import Draft
from homeserver.stream.stored_event import StoredEvent

MEMBER = "m.room.member"


class Membership:
    """Changes of membership in rooms whose state we have."""

    def __init__(self, database: Database, stream: StreamCore) -> None:
        self._database = database
        self._rooms = stream.rooms
        self._users = stream.users
        self._sender = stream.sender
        self._writer = stream.writer
        self._restricted = RestrictedJoins(database, stream.rooms)

    async def join(self, requester: Requester, room_id: str, content: JsonObject) -> None:
        """Join a room. `content` is what the client adds (`reason`). Raises Forbidden, NotFound."""
        room = await self._require(room_id)
        user_id = requester.user_id
        if room.membership_of(user_id) == "join":
            return
        authoriser = await self._restricted.authoriser(room, user_id, Forbidden)
        own = {"join_authorised_via_users_server": authoriser} if authoriser else {}
        await self._change(room_id, user_id, user_id, "join", {**content, **own})

    async def leave(self, requester: Requester, room_id: str, content: JsonObject) -> None:
        """Leave a room, reject an invite, take back a knock. Having left already is no error."""
        room = await self._require(room_id)
        user_id = requester.user_id
        membership = room.membership_of(user_id)
        if user_id not in room.members:
            raise Forbidden("You are not in this room")
        if membership == "leave":
            return
        await self._change(room_id, user_id, user_id, "leave", content)

    async def invite(
        self, requester: Requester, room_id: str, user_id: str, content: JsonObject
    ) -> None:
        """Invite a user. Raises Forbidden if the inviter may not or the user is in the room."""
        _require_user_id(user_id)
        room = await self._require(room_id)
        self._require_member(room, requester.user_id)
        if room.membership_of(user_id) == "join":
            raise Forbidden("This user is already in the room")
        await self._change(room_id, requester.user_id, user_id, "invite", content)

    async def kick(
        self, requester: Requester, room_id: str, user_id: str, content: JsonObject
    ) -> None:
        """Remove a user. Raises Forbidden unless they are in the room, invited or knocking."""
        _require_user_id(user_id)
        room = await self._require(room_id)
        self._require_member(room, requester.user_id)
        if room.membership_of(user_id) in ("leave", "ban"):
            raise Forbidden("This user is not in the room")
        await self._change(room_id, requester.user_id, user_id, "leave", content)

    async def ban(
        self, requester: Requester, room_id: str, user_id: str, content: JsonObject
    ) -> None:
        """Ban a user, whether they are in the room or not."""
        _require_user_id(user_id)
        room = await self._require(room_id)
        self._require_member(room, requester.user_id)
        await self._change(room_id, requester.user_id, user_id, "ban", content)

    async def unban(
        self, requester: Requester, room_id: str, user_id: str, content: JsonObject
    ) -> None:
        """Lift a ban. Raises Forbidden if there is none."""
        _require_user_id(user_id)
        room = await self._require(room_id)
        self._require_member(room, requester.user_id)
        if room.membership_of(user_id) != "ban":
            raise Forbidden("This user is not banned")
        await self._change(room_id, requester.user_id, user_id, "leave", content)

    async def knock(self, requester: Requester, room_id: str, content: JsonObject) -> None:
        """Ask to be let in. Raises Forbidden where the room has no knocking."""
        await self._require(room_id)
        await self._change(room_id, requester.user_id, requester.user_id, "knock", content)

    async def forget(self, requester: Requester, room_id: str) -> None:
        """Have a left room no longer in one's history. Raises UnknownError while one is in it."""
        user = await self._users.get(requester.user_id)
        row = user.rooms.get(room_id)
        if row is None:
            room = await self._rooms.get(room_id)
            if room is None or requester.user_id not in room.members:
                raise NotFound("You were never in this room")
            return
        if row.membership not in ("leave", "ban"):
            raise UnknownError("Leave the room before you forget it")
        position = self._writer.allocate()
        forgotten = replace(row, forgotten=True, position=position)
        await self._writer.append(MembershipChange(position, room_id, forgotten))

    async def _require(self, room_id: str) -> LiveRoom:
        room = await self._rooms.get(room_id)
        if room is None:
            raise NotFound("This server doesn't know the room")
        return room

    def _require_member(self, room: LiveRoom, user_id: str) -> None:
        if room.membership_of(user_id) != "join":
            raise Forbidden("You are not in this room")

    async def _change(
        self, room_id: str, sender: str, user_id: str, membership: str, content: JsonObject
    ) -> StoredEvent:
        profile: JsonObject = {}
        if membership in ("join", "invite", "knock"):
            async with self._database.connection() as connection:
                profile = await profile_store.get(connection, user_id)
        full = {**content, **member_content(membership, profile)}
        return await self._sender.send(room_id, Draft(sender, MEMBER, full, user_id))


def _require_user_id(user_id: str) -> None:
    if not is_user_id(user_id):
        raise InvalidParam(f"{user_id!r} is not a user id")


def is_local(user_id: str, server_name: str) -> bool:
    """Whether a user is ours."""
    return server_name_of(user_id) == server_name
