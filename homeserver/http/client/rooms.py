"""Making rooms and reading their state. client-server-api#rooms-1"""

from __future__ import annotations

import msgspec

from homeserver.errors import InvalidParam, ServerNotTrusted
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.invitations import invite_to_new_room
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.stream.room_creation import CreateRoom

endpoints = Endpoints()

MAX_INVITES = 100
"""Of a user; a bridge may bring the whole of a big group."""


@endpoints.post(
    "/createRoom", auth=Auth.USER, limit=Limit.ROOM, empty_body=True, not_if_suspended=True
)
async def create_room(call: Call, body: CreateRoom) -> JsonObject:
    """client-server-api#post_matrixclientv3createroom"""
    if body.invite_3pid:
        raise ServerNotTrusted("This server trusts no identity server: invite by Matrix id")
    invited = [u for u in dict.fromkeys(body.invite) if u != call.requester.user_id]
    if len(invited) > MAX_INVITES and call.requester.app_service is None:
        raise InvalidParam(f"A new room has at most {MAX_INVITES} invites: invite the rest later")
    await call.parts.membership.require_no_blocked(call.requester.user_id, invited)
    room_id = await call.parts.rooms.create(call.requester, body)
    content: JsonObject = {"is_direct": True} if body.is_direct else {}
    await invite_to_new_room(call, room_id, invited, content)
    return {"room_id": room_id}


class Upgrade(msgspec.Struct):
    new_version: str
    additional_creators: list[str] = []


@endpoints.post("/rooms/{room_id}/upgrade", auth=Auth.USER, limit=Limit.ROOM, not_if_suspended=True)
async def upgrade_room(call: Call, room_id: str, body: Upgrade) -> JsonObject:
    """client-server-api#post_matrixclientv3roomsroomidupgrade"""
    new_room_id = await call.parts.directories.upgrades.upgrade(
        call.requester, room_id, body.new_version, body.additional_creators
    )
    return {"replacement_room": new_room_id}
