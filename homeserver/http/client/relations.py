"""What is related to an event, and threads. client-server-api#relationships-api"""

from __future__ import annotations

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit
from homeserver.services.relations import RelationsRequest

endpoints = Endpoints(versions=("v1",))

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


@endpoints.get(
    "/rooms/{room_id}/relations/{event_id}",
    auth=Auth.USER,
    limit=Limit.NONE,
    also=(
        "/rooms/{room_id}/relations/{event_id}/{rel_type}",
        "/rooms/{room_id}/relations/{event_id}/{rel_type}/{event_type}",
    ),
    unstable=(
        "/unstable/rooms/{room_id}/relations/{event_id}",
        "/unstable/rooms/{room_id}/relations/{event_id}/{rel_type}",
        "/unstable/rooms/{room_id}/relations/{event_id}/{rel_type}/{event_type}",
    ),
)
async def relations(
    call: Call, room_id: str, event_id: str, rel_type: str = "", event_type: str = ""
) -> bytes:
    """client-server-api#get_matrixclientv1roomsroomidrelationseventid"""
    old_recurse = call.query_bool("org.matrix.msc3981.recurse")
    request = RelationsRequest(
        event_id=event_id,
        rel_type=rel_type or None,
        type=event_type or None,
        start=call.query("from") or None,
        to=call.query("to") or None,
        backwards=call.query_choice("dir", ("b", "f"), "b") == "b",
        limit=call.query_int("limit", DEFAULT_LIMIT, minimum=1, maximum=MAX_LIMIT),
        recurse=call.query_bool("recurse") or old_recurse,
    )
    return await call.parts.relations.of_event(call.requester, room_id, request)


@endpoints.get(
    "/rooms/{room_id}/threads",
    auth=Auth.USER,
    unstable=("/unstable/org.matrix.msc3856/rooms/{room_id}/threads",),
)
async def threads(call: Call, room_id: str) -> bytes:
    """client-server-api#get_matrixclientv1roomsroomidthreads"""
    include = call.query_choice("include", ("all", "participated"), "all")
    return await call.parts.relations.threads(
        call.requester,
        room_id,
        call.query("from") or None,
        call.query_int("limit", DEFAULT_LIMIT, minimum=1, maximum=MAX_LIMIT),
        participated=include == "participated",
    )
