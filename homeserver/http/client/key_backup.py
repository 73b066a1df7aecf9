"""Server-side key backups. client-server-api#server-side-key-backups"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.errors import InvalidParam
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.services.encryption.key_backup import AllData, KeyData, RoomData

endpoints = Endpoints()

MAX_BODY = 16 * 1024 * 1024
"""A client that turns its backup on sends all keys that it has."""


class VersionBody(msgspec.Struct):
    algorithm: str
    auth_data: Any
    version: str | None = None


@endpoints.post("/room_keys/version", auth=Auth.USER)
async def create_backup(call: Call, body: VersionBody) -> JsonObject:
    """client-server-api#post_matrixclientv3room_keysversion"""
    user_id = call.requester.user_id
    backups = call.parts.encryption.key_backups
    return {"version": await backups.create(user_id, body.algorithm, body.auth_data)}


@endpoints.get("/room_keys/version", auth=Auth.USER)
async def current_backup(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3room_keysversion"""
    return await call.parts.encryption.key_backups.info(call.requester.user_id, None)


@endpoints.get("/room_keys/version/{version}", auth=Auth.USER)
async def backup_info(call: Call, version: str) -> JsonObject:
    """client-server-api#get_matrixclientv3room_keysversionversion"""
    return await call.parts.encryption.key_backups.info(call.requester.user_id, version)


@endpoints.put("/room_keys/version/{version}", auth=Auth.USER)
async def update_backup(call: Call, version: str, body: VersionBody) -> JsonObject:
    """client-server-api#put_matrixclientv3room_keysversionversion"""
    if body.version not in (None, version):
        raise InvalidParam("The version in the body is another than that in the path")
    await call.parts.encryption.key_backups.set_auth_data(
        call.requester.user_id, version, body.algorithm, body.auth_data
    )
    return {}


@endpoints.delete("/room_keys/version/{version}", auth=Auth.USER)
async def delete_backup(call: Call, version: str) -> JsonObject:
    """client-server-api#delete_matrixclientv3room_keysversionversion"""
    await call.parts.encryption.key_backups.delete(call.requester.user_id, version)
    return {}


@endpoints.put("/room_keys/keys", auth=Auth.USER, max_body=MAX_BODY)
async def put_keys(call: Call, body: AllData) -> JsonObject:
    """client-server-api#put_matrixclientv3room_keyskeys"""
    version = call.required_query("version")
    return await call.parts.encryption.key_backups.put(call.requester.user_id, version, body)


@endpoints.put("/room_keys/keys/{room_id}", auth=Auth.USER, max_body=MAX_BODY)
async def put_keys_of_room(call: Call, room_id: str, body: RoomData) -> JsonObject:
    """client-server-api#put_matrixclientv3room_keyskeysroomid"""
    return await put_keys(call, AllData({room_id: body}))


@endpoints.put("/room_keys/keys/{room_id}/{session_id}", auth=Auth.USER)
async def put_key(call: Call, room_id: str, session_id: str, body: KeyData) -> JsonObject:
    """client-server-api#put_matrixclientv3room_keyskeysroomidsessionid"""
    return await put_keys(call, AllData({room_id: RoomData({session_id: body})}))


@endpoints.get("/room_keys/keys", auth=Auth.USER)
async def get_keys(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3room_keyskeys"""
    version = call.required_query("version")
    return await call.parts.encryption.key_backups.get(call.requester.user_id, version)


@endpoints.get("/room_keys/keys/{room_id}", auth=Auth.USER)
async def get_keys_of_room(call: Call, room_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv3room_keyskeysroomid"""
    version = call.required_query("version")
    return await call.parts.encryption.key_backups.get(call.requester.user_id, version, room_id)


@endpoints.get("/room_keys/keys/{room_id}/{session_id}", auth=Auth.USER)
async def get_key(call: Call, room_id: str, session_id: str) -> bytes:
    """client-server-api#get_matrixclientv3room_keyskeysroomidsessionid"""
    version = call.required_query("version")
    return await call.parts.encryption.key_backups.get_one(
        call.requester.user_id, version, room_id, session_id
    )


@endpoints.delete("/room_keys/keys", auth=Auth.USER)
async def delete_keys(call: Call) -> JsonObject:
    """client-server-api#delete_matrixclientv3room_keyskeys"""
    version = call.required_query("version")
    return await call.parts.encryption.key_backups.delete_keys(call.requester.user_id, version)


@endpoints.delete("/room_keys/keys/{room_id}", auth=Auth.USER)
async def delete_keys_of_room(call: Call, room_id: str) -> JsonObject:
    """client-server-api#delete_matrixclientv3room_keyskeysroomid"""
    version = call.required_query("version")
    return await call.parts.encryption.key_backups.delete_keys(
        call.requester.user_id, version, room_id
    )


@endpoints.delete("/room_keys/keys/{room_id}/{session_id}", auth=Auth.USER)
async def delete_key(call: Call, room_id: str, session_id: str) -> JsonObject:
    """client-server-api#delete_matrixclientv3room_keyskeysroomidsessionid"""
    version = call.required_query("version")
    return await call.parts.encryption.key_backups.delete_keys(
        call.requester.user_id, version, room_id, session_id
    )
