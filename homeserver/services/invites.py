"""A user of ours is invited by another server. server-server-api#inviting-to-a-room"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from homeserver.errors import (
    BadJson,
    Forbidden,
    IncompatibleRoomVersion,
    InvalidParam,
    NotFound,
)
from homeserver.json_types import JsonObject
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.events import Event, add_signature
from homeserver.protocol.identifiers import server_name_of
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from homeserver.store import accounts as account_store
from homeserver.store.database import Database
from homeserver.stream.core import StreamCore
from homeserver.stream.inbound import Inbound
from homeserver.stream.stripped_state import stripped_from_pdus
from homeserver.stream.verify import parse


class ReceivedInvite(Struct, frozen=True):
    """The request: a member event under its id, and some state of its room."""

    origin: str
    room_id: str
    event_id: str
    room_version: str
    pdu: JsonObject
    room_state: list[Any]


class Invites:
    """Signs invites of other servers and shows them to our users."""

    def __init__(self, database: Database, stream: StreamCore, inbound: Inbound) -> None:
        self._database = database
        self._stream = stream
        self._inbound = inbound
        self._outside = inbound.outside

    async def receive(self, invite: ReceivedInvite) -> Event:
        """The invite with our signature. Raises BadJson, InvalidParam, Forbidden, NotFound,
        InviteBlocked, IncompatibleRoomVersion.
        """
        rules = ROOM_VERSIONS.get(invite.room_version)
        if rules is None:
            raise IncompatibleRoomVersion(
                f"This server doesn't know room version {invite.room_version!r}",
                room_version=invite.room_version,
            )
        event = self._checked(invite, rules)
        verified = await self._inbound.verifier.check_signatures([event])
        if verified.problems:
            raise InvalidParam(f"The invite: {verified.problems[event.event_id]}")
        assert event.state_key is not None
        await self._require_user(event.state_key, event.sender)
        room = await self._stream.rooms.get(invite.room_id)
        takes_part = room is not None and bool(room.joined_local)
        allowed = room is None or await self._inbound.incoming.is_allowed(room, invite.origin)
        if takes_part and not allowed:
            raise Forbidden("Your server is banned from this room")
        room_state = await self._checked_room_state(invite, rules)
        signed = add_signature(event, self._stream.sender.signer)
        if takes_part:
            return signed  # the event itself comes in a transaction
        stripped = stripped_from_pdus([*room_state, signed.pdu])
        await self._outside.remember(invite.room_id, rules, signed, stripped)
        return signed

    def _checked(self, invite: ReceivedInvite, rules: RoomVersion) -> Event:
        event = parse(invite.pdu, rules)
        problem: str | None = None
        if event is None:
            raise BadJson("The event is not valid in this room version")
        if event.event_id != invite.event_id or event.room_id != invite.room_id:
            problem = "its event id or room id differs from the path's"
        elif event.type != MEMBER or event.membership != "invite" or event.state_key is None:
            problem = "it is no invite"
        elif server_name_of(event.sender) != invite.origin:
            problem = "the sender is not of your server"
        elif server_name_of(event.state_key) != self._stream.sender.signer.server_name:
            problem = "the invited user is not of this server"
        if problem is not None:
            raise InvalidParam(f"The event can't be signed: {problem}")
        return event

    async def _require_user(self, user_id: str, inviter: str) -> None:
        async with self._database.connection() as connection:
            if not await account_store.existing(connection, [user_id]):
                raise NotFound("There is no such user")
        # "When invites to a given user are blocked, the user's homeserver MUST respond [...] with
        # an HTTP 403 status code"
        await self._stream.users.invites.require(user_id, inviter)

    async def _checked_room_state(self, invite: ReceivedInvite, rules: RoomVersion) -> list[Any]:
        """What may be shown of it: of what isn't as it was hashed, what redaction leaves.

        "The `invite_room_state` has additional validation, which servers MAY apply to room
        versions 1 through 11 and SHOULD apply to all other room versions."
        """
        if not rules.room_id_is_create_event_id:
            return invite.room_state
        verified = await self._inbound.verifier.verify(invite.room_state, rules, invite.room_id)
        if len(verified.events) < len(invite.room_state):
            raise InvalidParam("`invite_room_state` holds events that are not of this room")
        if not any(event.type == "m.room.create" for event in verified.events):
            raise InvalidParam("`invite_room_state` lacks the m.room.create event")
        return [event.pdu for event in verified.events]
