"""What lies in spaces, and what rooms look like from outside. client-server-api#spaces"""

from __future__ import annotations

from homeserver.errors import InvalidParam
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_room_id, is_server_name
from homeserver.services.spaces import DEFAULT_LIMIT, MAX_DEPTH, MAX_LIMIT, Asked

endpoints = Endpoints(versions=("v1",))


@endpoints.get(
    "/rooms/{room_id}/hierarchy",
    auth=Auth.USER,
    unstable=("/unstable/org.matrix.msc2946/rooms/{room_id}/hierarchy",),
)
async def get_space_hierarchy(call: Call, room_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv1roomsroomidhierarchy"""
    asked = Asked(
        suggested_only=call.query_bool("suggested_only"),
        max_depth=call.query_int("max_depth", MAX_DEPTH, maximum=MAX_DEPTH),
        limit=call.query_int("limit", DEFAULT_LIMIT, minimum=1, maximum=MAX_LIMIT),
        token=call.query("from"),
    )
    return await call.parts.directories.spaces.hierarchy(call.requester, room_id, asked)


@endpoints.get(
    "/room_summary/{room_id_or_alias}",
    auth=Auth.OPTIONAL,
    unstable=(
        "/unstable/im.nheko.summary/summary/{room_id_or_alias}",
        "/unstable/im.nheko.summary/rooms/{room_id_or_alias}/summary",
    ),
)
async def get_room_summary(call: Call, room_id_or_alias: str) -> JsonObject:
    """client-server-api#get_matrixclientv1room_summaryroomidoralias"""
    servers = [name for name in call.query_list("via") if is_server_name(name)]
    room_id = room_id_or_alias
    if room_id_or_alias.startswith("#"):
        room_id, known = await call.parts.directories.aliases.resolve(room_id_or_alias)
        servers = list(dict.fromkeys([*servers, *known]))
    elif not is_room_id(room_id):
        raise InvalidParam(f"{room_id!r} is neither a room id nor an alias")
    return await call.parts.directories.summaries.get(call.maybe_requester, room_id, servers)
