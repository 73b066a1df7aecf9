"""Reading rooms' state and members. client-server-api#getting-events-for-a-room"""

from __future__ import annotations

from homeserver.errors import InvalidParam
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.services.room_state import MembersRequest

endpoints = Endpoints()

MEMBERSHIPS = ("join", "invite", "knock", "leave", "ban")


@endpoints.get("/rooms/{room_id}/state", auth=Auth.GUEST)
async def room_state(call: Call, room_id: str) -> bytes:
    """client-server-api#get_matrixclientv3roomsroomidstate"""
    return await call.parts.room_state.whole(call.requester, room_id)


@endpoints.get("/rooms/{room_id}/state/{event_type}/{state_key}", auth=Auth.GUEST)
async def state_with_key(call: Call, room_id: str, event_type: str, state_key: str) -> bytes:
    """client-server-api#get_matrixclientv3roomsroomidstateeventtypestatekey"""
    form = call.query_choice("format", ("content", "event"), "content")
    return await call.parts.room_state.one(
        call.requester, room_id, (event_type, state_key), whole_event=form == "event"
    )


@endpoints.get(
    "/rooms/{room_id}/state/{event_type}",
    auth=Auth.GUEST,
    also=("/rooms/{room_id}/state/{event_type}/",),
)
async def state_without_key(call: Call, room_id: str, event_type: str) -> bytes:
    """The same with the empty state key."""
    return await state_with_key(call, room_id, event_type, "")


@endpoints.get("/rooms/{room_id}/members", auth=Auth.GUEST)
async def members(call: Call, room_id: str) -> bytes:
    """client-server-api#get_matrixclientv3roomsroomidmembers"""
    request = MembersRequest(
        call.query("at") or None,
        _membership(call, "membership"),
        _membership(call, "not_membership"),
    )
    return await call.parts.room_state.members(call.requester, room_id, request)


@endpoints.get(
    "/rooms/{room_id}/joined_members",
    auth=Auth.USER,
    unstable=("/unstable/rooms/{room_id}/joined_members",),
)
async def joined_members(call: Call, room_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv3roomsroomidjoined_members"""
    return await call.parts.room_state.joined_members(call.requester, room_id)


def _membership(call: Call, name: str) -> str | None:
    value = call.query(name)
    if value is not None and value not in MEMBERSHIPS:
        raise InvalidParam(f"The query parameter '{name}' must be one of {', '.join(MEMBERSHIPS)}")
    return value
