"""Joining, leaving, inviting, kicking, banning, knocking: a user's way through a room.

Rules of this file: whether by an endpoint of its own or by a state event, a membership passes the
same checks; what the auth rules check anyway is left to them.
client-server-api#room-membership
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from homeserver.errors import (
    BadJson,
    BadState,
    Forbidden,
    GuestAccessForbidden,
    InvalidParam,
    NotFound,
    UnknownError,
)
from homeserver.json_types import JsonObject
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.identifiers import is_user_id, server_name_of
from homeserver.requester import Requester
from homeserver.store import profiles as profile_store
from homeserver.store.database import Database
from homeserver.stream.changes import MembershipChange
from homeserver.stream.core import StreamCore
from homeserver.stream.drafts import Draft
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.memberships import member_content
from homeserver.stream.restricted_joins import RestrictedJoins
from homeserver.stream.room_power import state_event
from homeserver.stream.stored_event import StoredEvent

MEMBERSHIPS = frozenset(("join", "leave", "invite", "ban", "knock"))


class Membership:
    """Changes of membership in rooms whose state we have."""

    def __init__(self, database: Database, stream: StreamCore) -> None:
        self._database = database
        self._rooms = stream.rooms
        self._users = stream.users
        self._sender = stream.sender
        self._writer = stream.writer
        self._invite_permission = stream.users.invites
        self._restricted = RestrictedJoins(database, stream.rooms)
        self._whole_rooms = stream.whole_rooms

    async def join(self, requester: Requester, room_id: str, content: JsonObject) -> None:
        """Join a room. `content` is what the client adds. Raises Forbidden, NotFound."""
        room = await self._require(room_id)
        if room.membership_of(requester.user_id) == "join":
            return
        await self._join(requester, room, content)

    async def leave(self, requester: Requester, room_id: str, content: JsonObject) -> None:
        """Leave a room, reject an invite, take back a knock. Having left already is no error."""
        room = await self._require(room_id)
        user_id = requester.user_id
        if user_id not in room.members:
            raise Forbidden("You are not in this room")
        if room.membership_of(user_id) != "leave":
            await self._change(room_id, user_id, user_id, "leave", content)

    async def invite(
        self, requester: Requester, room_id: str, user_id: str, content: JsonObject
    ) -> None:
        """Invite a user. Raises Forbidden if the inviter may not or the user is in the room.

        Raises InviteBlocked if they take no invites.
        """
        room = await self._require_knowing(room_id, user_id)
        self._require_member(room, requester.user_id)
        await self._check_invite(room, requester.user_id, user_id)
        await self._change(room_id, requester.user_id, user_id, "invite", content)

    async def kick(
        self, requester: Requester, room_id: str, user_id: str, content: JsonObject
    ) -> None:
        """Remove a user. Raises Forbidden unless they are in the room, invited or knocking."""
        _require_user_id(user_id)
        room = await self._require_knowing(room_id, user_id)
        self._require_member(room, requester.user_id)
        if room.membership_of(user_id) in ("leave", "ban"):
            raise Forbidden("This user is not in the room")
        await self._change(room_id, requester.user_id, user_id, "leave", content)

    async def ban(
        self, requester: Requester, room_id: str, user_id: str, content: JsonObject
    ) -> None:
        """Ban a user, whether they are in the room or not."""
        _require_user_id(user_id)
        room = await self._require_knowing(room_id, user_id)
        self._require_member(room, requester.user_id)
        await self._change(room_id, requester.user_id, user_id, "ban", content)

    async def unban(
        self, requester: Requester, room_id: str, user_id: str, content: JsonObject
    ) -> None:
        """Lift a ban. Raises BadState if there is none."""
        _require_user_id(user_id)
        room = await self._require_knowing(room_id, user_id)
        self._require_member(room, requester.user_id)
        if room.membership_of(user_id) != "ban":
            # "such as attempting to unban a user who is not banned" (client-server-api#errors)
            raise BadState("This user is not banned")
        await self._change(room_id, requester.user_id, user_id, "leave", content)

    async def knock(self, requester: Requester, room_id: str, content: JsonObject) -> None:
        """Ask to be let in. Raises Forbidden where the room has no knocking."""
        await self._require(room_id)
        await self._change(room_id, requester.user_id, requester.user_id, "knock", content)

    async def set_by_state(
        self, requester: Requester, room_id: str, user_id: str, content: JsonObject
    ) -> StoredEvent:
        """A client sends an `m.room.member` event itself. Raises BadJson, InvalidParam, Forbidden.

        What it says besides `membership` stays, but for what only the server may say.
        """
        _require_user_id(user_id)
        membership = content.get("membership")
        if membership not in MEMBERSHIPS:
            raise BadJson("`membership` must be one of " + ", ".join(sorted(MEMBERSHIPS)))
        room = await self._require_knowing(room_id, user_id)
        own = {k: v for k, v in content.items() if k != "join_authorised_via_users_server"}
        if membership == "join" and room.membership_of(user_id) != "join":
            if user_id != requester.user_id:
                raise Forbidden("Nobody can join a room for somebody else")
            return await self._join(requester, room, own)
        if membership == "invite":
            await self._check_invite(room, requester.user_id, user_id)
            return await self._change(room_id, requester.user_id, user_id, "invite", own)
        return await self._sender.send(room_id, Draft(requester.user_id, MEMBER, own, user_id))

    async def require_no_blocked(self, inviter: str, user_ids: Iterable[str]) -> None:
        """Raises InviteBlocked if one of these users (of ours) doesn't take the inviter's."""
        for user_id in user_ids:
            if self._is_ours(user_id):
                await self._invite_permission.require(user_id, inviter)

    async def invite_all(
        self, requester: Requester, room_id: str, user_ids: Sequence[str], content: JsonObject
    ) -> None:
        """The invites that come with a new room, in one transaction."""
        if not user_ids:
            return
        drafts = []
        async with self._database.connection() as connection:
            profiles = await profile_store.get_many(connection, user_ids)
        for user_id in user_ids:
            full = {**content, **member_content("invite", profiles.get(user_id, {}))}
            drafts.append(Draft(requester.user_id, MEMBER, full, user_id))
        await self._sender.send_many(room_id, drafts)

    async def forget(self, requester: Requester, room_id: str) -> None:
        """Have a left room no longer in one's history. Raises UnknownError while one is in it."""
        user = await self._users.get(requester.user_id)
        row = user.rooms.get(room_id)
        if row is None:
            raise NotFound("You were never in this room")
        if not row.is_left:
            raise UnknownError("Leave the room before you forget it")
        if not row.forgotten:
            # It keeps its position: devices that don't know yet are told that the user left.
            position = self._writer.allocate()
            forgotten = replace(row, forgotten=True)
            await self._writer.append(MembershipChange(position, room_id, forgotten))

    async def _join(self, requester: Requester, room: LiveRoom, content: JsonObject) -> StoredEvent:
        user_id = requester.user_id
        if requester.is_guest:
            await self._require_guest_access(room)
        authoriser = await self._restricted.authoriser(room, user_id, Forbidden)
        own = {"join_authorised_via_users_server": authoriser} if authoriser else {}
        return await self._change(room.room_id, user_id, user_id, "join", {**content, **own})

    async def _require_guest_access(self, room: LiveRoom) -> None:
        """ "Servers MUST only allow guest users to join rooms if the `m.room.guest_access` state
        event is present on the room, and has the `guest_access` value `can_join`." """
        stored = await state_event(self._rooms, room, "m.room.guest_access")
        if stored is None or stored.content.get("guest_access") != "can_join":
            raise GuestAccessForbidden("This room takes no guests")

    async def _check_invite(self, room: LiveRoom, inviter: str, user_id: str) -> None:
        _require_user_id(user_id)
        if room.membership_of(user_id) == "join":
            raise Forbidden("This user is already in the room")
        await self.require_no_blocked(inviter, [user_id])

    async def _require(self, room_id: str) -> LiveRoom:
        return _known(await self._rooms.get(room_id))

    async def _require_knowing(self, room_id: str, user_id: str) -> LiveRoom:
        """The room with what that user is in it, also if we have only just joined it.

        Raises NotFound, Unavailable.
        """
        return _known(await self._whole_rooms.knowing(room_id, user_id))

    def _require_member(self, room: LiveRoom, user_id: str) -> None:
        if room.membership_of(user_id) != "join":
            raise Forbidden("You are not in this room")

    def _is_ours(self, user_id: str) -> bool:
        return server_name_of(user_id) == self._sender.signer.server_name

    async def _change(
        self, room_id: str, sender: str, user_id: str, membership: str, content: JsonObject
    ) -> StoredEvent:
        """Send a member event. Who joins may say how this room shows them; nobody else may."""
        profile: JsonObject = {}
        if membership in ("join", "invite", "knock"):
            async with self._database.connection() as connection:
                profile = await profile_store.get(connection, user_id)
        full = {**content, **member_content(membership, profile)}
        if membership == "join":
            full |= content
        return await self._sender.send(room_id, Draft(sender, MEMBER, full, user_id))


def _require_user_id(user_id: str) -> None:
    if not is_user_id(user_id):
        raise InvalidParam(f"{user_id!r} is not a user id")


def _known(room: LiveRoom | None) -> LiveRoom:
    if room is None:
        raise NotFound("This server doesn't know the room")
    return room
