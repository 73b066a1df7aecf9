"""The deprecated ways to follow rooms, which old clients and test suites still call.

client-server-api#get_matrixclientv3initialsync
"""

from __future__ import annotations

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit

endpoints = Endpoints(versions=("r0", "v3", "api/v1"))

DEFAULT_LIMIT = 10
MAX_LIMIT = 100
DEFAULT_TIMEOUT_MS = 30_000
MAX_TIMEOUT_MS = 180_000


@endpoints.get("/initialSync", auth=Auth.USER)
async def initial_sync(call: Call) -> bytes:
    """client-server-api#get_matrixclientv3initialsync"""
    limit = call.query_int("limit", DEFAULT_LIMIT, maximum=MAX_LIMIT)
    archived = call.query_bool("archived")
    return await call.parts.old_sync.everything(call.requester, limit, archived=archived)


@endpoints.get("/rooms/{room_id}/initialSync", auth=Auth.GUEST)
async def room_initial_sync(call: Call, room_id: str) -> bytes:
    """client-server-api#get_matrixclientv3roomsroomidinitialsync"""
    limit = call.query_int("limit", DEFAULT_LIMIT, maximum=MAX_LIMIT)
    return await call.parts.old_sync.room(call.requester, room_id, limit)


@endpoints.get("/events", auth=Auth.GUEST, limit=Limit.NONE)
async def events(call: Call) -> bytes:
    """client-server-api#get_matrixclientv3events; with `room_id` also for those who peek"""
    timeout = call.query_int("timeout", DEFAULT_TIMEOUT_MS, maximum=MAX_TIMEOUT_MS)
    return await call.parts.old_sync.events(
        call.requester, call.query("from") or None, timeout / 1000, call.query("room_id")
    )
