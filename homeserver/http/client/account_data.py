"""Account data and tags. client-server-api#client-config, #room-tagging"""

from __future__ import annotations

from homeserver.errors import BadJson, Forbidden, InvalidParam
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import fits, is_room_id
from homeserver.stream.push_rules import PUSH_RULES

endpoints = Endpoints()

OF_THE_SERVER = ("m.fully_read", PUSH_RULES)
"""Types that only their own endpoints change."""


@endpoints.put("/user/{user_id}/account_data/{type}", auth=Auth.USER)
async def set_account_data(call: Call, user_id: str, type: str, body: JsonObject) -> JsonObject:
    """client-server-api#put_matrixclientv3useruseridaccount_datatype"""
    _require_own(call, user_id)
    _check_type(type)
    await call.parts.account_data.put(user_id, "", type, body)
    return {}


@endpoints.get("/user/{user_id}/account_data/{type}", auth=Auth.USER)
async def get_account_data(call: Call, user_id: str, type: str) -> bytes:
    """client-server-api#get_matrixclientv3useruseridaccount_datatype"""
    _require_own(call, user_id)
    if type == PUSH_RULES:
        return await call.parts.push_rule_settings.account_data(user_id)
    return await call.parts.account_data.get(user_id, "", type)


@endpoints.put("/user/{user_id}/rooms/{room_id}/account_data/{type}", auth=Auth.USER)
async def set_account_data_per_room(
    call: Call, user_id: str, room_id: str, type: str, body: JsonObject
) -> JsonObject:
    """client-server-api#put_matrixclientv3useruseridroomsroomidaccount_datatype"""
    _require_own(call, user_id)
    _check_room(room_id)
    _check_type(type)
    await call.parts.account_data.put(user_id, room_id, type, body)
    return {}


@endpoints.get("/user/{user_id}/rooms/{room_id}/account_data/{type}", auth=Auth.USER)
async def get_account_data_per_room(call: Call, user_id: str, room_id: str, type: str) -> bytes:
    """client-server-api#get_matrixclientv3useruseridroomsroomidaccount_datatype"""
    _require_own(call, user_id)
    _check_room(room_id)
    return await call.parts.account_data.get(user_id, room_id, type)


@endpoints.get("/user/{user_id}/rooms/{room_id}/tags", auth=Auth.USER)
async def get_room_tags(call: Call, user_id: str, room_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv3useruseridroomsroomidtags"""
    _require_own(call, user_id)
    return {"tags": await call.parts.account_data.tags(user_id, room_id)}


@endpoints.put("/user/{user_id}/rooms/{room_id}/tags/{tag}", auth=Auth.USER)
async def set_room_tag(
    call: Call, user_id: str, room_id: str, tag: str, body: JsonObject
) -> JsonObject:
    """client-server-api#put_matrixclientv3useruseridroomsroomidtagstag"""
    _require_own(call, user_id)
    _check_room(room_id)
    if len(tag.encode()) > 255:
        raise InvalidParam("A tag is at most 255 bytes long")
    order = body.get("order")
    if order is not None and (isinstance(order, bool) or not isinstance(order, int | float)):
        raise BadJson("`order` must be a number")
    await call.parts.account_data.set_tag(user_id, room_id, tag, body)
    return {}


@endpoints.delete("/user/{user_id}/rooms/{room_id}/tags/{tag}", auth=Auth.USER)
async def delete_room_tag(call: Call, user_id: str, room_id: str, tag: str) -> JsonObject:
    """client-server-api#delete_matrixclientv3useruseridroomsroomidtagstag"""
    _require_own(call, user_id)
    await call.parts.account_data.remove_tag(user_id, room_id, tag)
    return {}


def _require_own(call: Call, user_id: str) -> None:
    if user_id != call.requester.user_id:
        raise Forbidden("You can only reach account data of your own")


def _check_type(type_: str) -> None:
    if type_ in OF_THE_SERVER:
        raise BadJson(f"Cannot set {type_} through this API", status=405)
    if not fits(type_):
        raise InvalidParam("A type of account data is at most 255 bytes long")


def _check_room(room_id: str) -> None:
    if not is_room_id(room_id):
        raise InvalidParam(f"{room_id!r} is not a room id")
