"""Making rooms and reading their state. client-server-api#rooms-1"""

from __future__ import annotations

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.stream.room_creation import CreateRoom

endpoints = Endpoints()


@endpoints.post(
    "/createRoom", auth=Auth.USER, limit=Limit.ROOM, empty_body=True, not_if_suspended=True
)
async def create_room(call: Call, body: CreateRoom) -> JsonObject:
    """client-server-api#post_matrixclientv3createroom"""
    room_id = await call.parts.rooms.create(call.requester, body)
    await call.parts.rooms.invite_all(call.requester, room_id, body)
    return {"room_id": room_id}
