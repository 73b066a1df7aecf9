"""Presence. client-server-api#presence"""

from __future__ import annotations

from typing import Literal

import msgspec

from homeserver.clock import now_ms
from homeserver.errors import Forbidden, InvalidParam
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_user_id

endpoints = Endpoints()


class PresenceBody(msgspec.Struct):
    presence: Literal["online", "offline", "unavailable"]
    status_msg: str | None = None


@endpoints.put("/presence/{user_id}/status", auth=Auth.USER)
async def set_presence(call: Call, user_id: str, body: PresenceBody) -> JsonObject:
    """client-server-api#put_matrixclientv3presenceuseridstatus"""
    if user_id != call.requester.user_id:
        raise Forbidden("You can only set a presence of your own")
    if "\0" in (body.status_msg or ""):
        raise InvalidParam("`status_msg` may not hold NUL (U+0000)")
    if call.parts.stream.presence.enabled:
        await call.parts.stream.users.get(user_id)
        call.parts.stream.presence.set(user_id, body.presence, body.status_msg)
    return {}


@endpoints.get("/presence/{user_id}/status", auth=Auth.USER)
async def get_presence(call: Call, user_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv3presenceuseridstatus"""
    if not is_user_id(user_id):
        raise InvalidParam(f"{user_id!r} is not a user id")
    stream = call.parts.stream
    user = await stream.users.get(call.requester.user_id)
    if user_id != user.user_id:
        rooms = await stream.rooms.get_many(user.joined_rooms())
        if not any(room.membership_of(user_id) == "join" for room in rooms.values()):
            raise Forbidden("You share no room with this user")
    return stream.presence.of(user_id).content(now_ms())
