"""Questions of other servers about our users, their devices and our directory."""

from __future__ import annotations

import msgspec

from homeserver.errors import InvalidParam, NotFound
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints, Resource
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_user_id, server_name_of
from homeserver.services.directory import PublicRooms

endpoints = Endpoints("/_matrix/federation", ("v1",), Resource.FEDERATION)


class KeysQuery(msgspec.Struct):
    device_keys: dict[str, list[str]]


class KeysClaim(msgspec.Struct):
    one_time_keys: dict[str, dict[str, str]]


@endpoints.get("/query/profile", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def query_profile(call: Call) -> JsonObject:
    """server-server-api#get_matrixfederationv1queryprofile"""
    user_id = call.required_query("user_id")
    # "MUST be a user local to the receiving homeserver."
    if not is_user_id(user_id) or server_name_of(user_id) != call.parts.config.server_name:
        raise InvalidParam("`user_id` is not the id of a user of this server")
    profile = await call.parts.profiles.get(user_id)
    field = call.query("field")
    if field is None:
        return profile
    return {field: profile[field]} if field in profile else {}


@endpoints.get("/query/directory", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def query_directory(call: Call) -> JsonObject:
    """server-server-api#get_matrixfederationv1querydirectory"""
    alias = call.required_query("room_alias")
    room_id, servers = await call.parts.directories.aliases.resolve_own(alias)
    return {"room_id": room_id, "servers": servers}


@endpoints.get("/publicRooms", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def get_public_rooms(call: Call) -> JsonObject:
    """server-server-api#get_matrixfederationv1publicrooms"""
    limit = call.query_int("limit", -1, minimum=-1)
    asked = PublicRooms(
        limit=limit if limit >= 0 else None,
        since=call.query("since"),
        include_all_networks=call.query_bool("include_all_networks"),
        third_party_instance_id=call.query("third_party_instance_id"),
    )
    return await call.parts.directories.own.public_rooms(asked, for_server=True)


@endpoints.post("/publicRooms", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def search_public_rooms(call: Call, body: PublicRooms) -> JsonObject:
    """server-server-api#post_matrixfederationv1publicrooms"""
    return await call.parts.directories.own.public_rooms(body, for_server=True)


@endpoints.get("/user/devices/{user_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def user_devices(call: Call, user_id: str) -> JsonObject:
    """server-server-api#get_matrixfederationv1userdevicesuserid"""
    if server_name_of(user_id) != call.parts.config.server_name:
        raise NotFound("The user is not of this server")
    return await call.parts.encryption.queries.devices_for_server(user_id)


@endpoints.post("/user/keys/query", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def query_user_keys(call: Call, body: KeysQuery) -> JsonObject:
    """server-server-api#post_matrixfederationv1userkeysquery"""
    return await call.parts.encryption.queries.query_for_server(body.device_keys)


@endpoints.post("/user/keys/claim", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def claim_user_keys(call: Call, body: KeysClaim) -> JsonObject:
    """server-server-api#post_matrixfederationv1userkeysclaim"""
    keys = await call.parts.encryption.one_time_keys.claim_local(body.one_time_keys)
    return {"one_time_keys": keys}


@endpoints.get("/hierarchy/{room_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def space_hierarchy(call: Call, room_id: str) -> JsonObject:
    """server-server-api#get_matrixfederationv1hierarchyroomid"""
    suggested_only = call.query_bool("suggested_only")
    return await call.parts.directories.spaces.for_server(call.origin, room_id, suggested_only)
