"""Reading back what was said in rooms. client-server-api#getting-events-for-a-room"""

from __future__ import annotations

from homeserver.errors import InvalidParam
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.protocol.filters import (
    EVERY_ROOM_EVENT,
    EventMatcher,
    FilterError,
    parse_room_event_filter,
)
from homeserver.services.history import MessagesRequest

endpoints = Endpoints()

DEFAULT_LIMIT = 10
MAX_LIMIT = 1000
MAX_CONTEXT = 100
DIRECTIONS = ("b", "f")


@endpoints.get("/rooms/{room_id}/messages", auth=Auth.GUEST)
async def messages(call: Call, room_id: str) -> bytes:
    """client-server-api#get_matrixclientv3roomsroomidmessages"""
    request = MessagesRequest(
        start=call.query("from") or None,
        to=call.query("to") or None,
        backwards=None if call.query("dir") is None else _backwards(call),
        limit=call.query_int("limit", DEFAULT_LIMIT, maximum=MAX_LIMIT),
        matcher=room_event_filter(call),
    )
    return await call.parts.history.messages(call.requester, room_id, request)


@endpoints.get("/rooms/{room_id}/context/{event_id}", auth=Auth.GUEST)
async def context(call: Call, room_id: str, event_id: str) -> bytes:
    """client-server-api#get_matrixclientv3roomsroomidcontexteventid"""
    limit = call.query_int("limit", DEFAULT_LIMIT, maximum=MAX_CONTEXT)
    return await call.parts.history.context(
        call.requester, room_id, event_id, limit, room_event_filter(call)
    )


@endpoints.get("/rooms/{room_id}/event/{event_id}", auth=Auth.GUEST)
async def event(call: Call, room_id: str, event_id: str) -> bytes:
    """client-server-api#get_matrixclientv3roomsroomideventeventid"""
    return await call.parts.history.event(call.requester, room_id, event_id)


@endpoints.get("/events/{event_id}", auth=Auth.USER)
async def event_anywhere(call: Call, event_id: str) -> bytes:
    """client-server-api#get_matrixclientv3eventseventid"""
    return await call.parts.history.event_anywhere(call.requester, event_id)


@endpoints.get(
    "/rooms/{room_id}/timestamp_to_event",
    auth=Auth.USER,
    versions=("v1",),
    unstable=("/unstable/org.matrix.msc3030/rooms/{room_id}/timestamp_to_event",),
)
async def timestamp_to_event(call: Call, room_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv1roomsroomidtimestamp_to_event"""
    call.required_query("ts")
    event_id, origin_server_ts = await call.parts.history.event_at(
        call.requester, room_id, call.query_int("ts", 0), backwards=_backwards(call)
    )
    return {"event_id": event_id, "origin_server_ts": origin_server_ts}


def room_event_filter(call: Call) -> EventMatcher:
    """The query parameter `filter`: a RoomEventFilter in JSON. Raises InvalidParam."""
    text = call.query("filter")
    if not text:
        return EVERY_ROOM_EVENT
    try:
        return parse_room_event_filter(text)
    except FilterError as error:
        raise InvalidParam(str(error)) from None


def _backwards(call: Call) -> bool:
    call.required_query("dir")
    return call.query_choice("dir", DIRECTIONS, "b") == "b"
