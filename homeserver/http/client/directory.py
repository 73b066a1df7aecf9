"""Aliases and the list of published rooms. client-server-api#room-aliases"""

from __future__ import annotations

from typing import Literal

import msgspec

from homeserver.errors import InvalidParam, MissingToken
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_server_name
from homeserver.services.directory import PublicRooms

endpoints = Endpoints()


class NewAlias(msgspec.Struct):
    room_id: str


class Visibility(msgspec.Struct):
    visibility: Literal["public", "private"] = "public"


@endpoints.put(
    "/directory/room/{room_alias}", auth=Auth.USER, limit=Limit.ROOM, not_if_suspended=True
)
async def set_room_alias(call: Call, room_alias: str, body: NewAlias) -> JsonObject:
    """client-server-api#put_matrixclientv3directoryroomroomalias"""
    await call.parts.directories.own.add_alias(call.requester, room_alias, body.room_id)
    return {}


@endpoints.get("/directory/room/{room_alias}", auth=Auth.OPTIONAL)
async def get_room_id_by_alias(call: Call, room_alias: str) -> JsonObject:
    """client-server-api#get_matrixclientv3directoryroomroomalias"""
    room_id, servers = await call.parts.directories.aliases.resolve(room_alias)
    return {"room_id": room_id, "servers": servers}


@endpoints.delete("/directory/room/{room_alias}", auth=Auth.USER)
async def delete_room_alias(call: Call, room_alias: str) -> JsonObject:
    """client-server-api#delete_matrixclientv3directoryroomroomalias"""
    await call.parts.directories.own.delete_alias(call.requester, room_alias)
    return {}


@endpoints.get(
    "/rooms/{room_id}/aliases",
    auth=Auth.USER,
    unstable=("/unstable/org.matrix.msc2432/rooms/{room_id}/aliases",),
)
async def get_local_aliases(call: Call, room_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv3roomsroomidaliases"""
    return {"aliases": await call.parts.directories.own.aliases_of(call.requester, room_id)}


@endpoints.get("/directory/list/room/{room_id}", auth=Auth.OPTIONAL)
async def get_room_visibility(call: Call, room_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv3directorylistroomroomid"""
    return {"visibility": await call.parts.directories.own.visibility(room_id)}


@endpoints.put(
    "/directory/list/room/{room_id}", auth=Auth.USER, empty_body=True, not_if_suspended=True
)
async def set_room_visibility(call: Call, room_id: str, body: Visibility) -> JsonObject:
    """client-server-api#put_matrixclientv3directorylistroomroomid"""
    await call.parts.directories.own.set_visibility(call.requester, room_id, body.visibility)
    return {}


@endpoints.get("/publicRooms", auth=Auth.OPTIONAL)
async def get_public_rooms(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3publicrooms"""
    limit = None if call.query("limit") is None else call.query_int("limit", 0)
    return await _public_rooms(call, PublicRooms(limit=limit, since=call.query("since") or None))


@endpoints.post("/publicRooms", auth=Auth.GUEST, empty_body=True)
async def query_public_rooms(call: Call, body: PublicRooms) -> JsonObject:
    """client-server-api#post_matrixclientv3publicrooms"""
    return await _public_rooms(call, body)


async def _public_rooms(call: Call, asked: PublicRooms) -> JsonObject:
    server_name = call.query("server")
    if server_name is None or server_name == call.parts.config.server_name:
        return await call.parts.directories.own.public_rooms(asked)
    if not is_server_name(server_name):
        raise InvalidParam(f"{server_name!r} is not a server name")
    if call.maybe_requester is None:
        raise MissingToken("Only users of this server may have it ask another one")
    return await call.parts.directories.others.public_rooms(server_name, asked)
