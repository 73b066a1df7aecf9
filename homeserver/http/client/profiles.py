"""Profiles. client-server-api#profiles"""

from __future__ import annotations

from homeserver.errors import (
    Forbidden,
    GuestAccessForbidden,
    InvalidParam,
    MissingParam,
    NotFound,
)
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.invitations import is_remote
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_user_id

endpoints = Endpoints()

_OLD = "/unstable/uk.tcpip.msc4133/profile/{user_id}"
_OLD_FIELD = _OLD + "/{key}"


@endpoints.get("/profile/{user_id}", auth=Auth.OPTIONAL, unstable=(_OLD,))
async def get_user_profile(call: Call, user_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv3profileuserid"""
    return await _profile(call, user_id)


@endpoints.get("/profile/{user_id}/{key}", auth=Auth.OPTIONAL, unstable=(_OLD_FIELD,))
async def get_profile_field(call: Call, user_id: str, key: str) -> JsonObject:
    """client-server-api#get_matrixclientv3profileuseridkeyname"""
    profile = await _profile(call, user_id)
    if key not in profile:
        raise NotFound("The profile has no such field")
    return {key: profile[key]}


@endpoints.put(
    "/profile/{user_id}/{key}", auth=Auth.GUEST, not_if_suspended=True, unstable=(_OLD_FIELD,)
)
async def set_profile_field(call: Call, user_id: str, key: str, body: JsonObject) -> JsonObject:
    """client-server-api#put_matrixclientv3profileuseridkeyname"""
    _require_own(call, user_id, key)
    if key not in body:
        raise MissingParam(f"The body must have the key `{key}`")
    if body[key] is None and key in ("displayname", "avatar_url"):
        await call.parts.profiles.delete(user_id, key)  # how clients took a name away before v1.16
    else:
        await call.parts.profiles.set(user_id, key, body[key])
    return {}


@endpoints.delete(
    "/profile/{user_id}/{key}", auth=Auth.GUEST, not_if_suspended=True, unstable=(_OLD_FIELD,)
)
async def delete_profile_field(call: Call, user_id: str, key: str) -> JsonObject:
    """client-server-api#delete_matrixclientv3profileuseridkeyname"""
    _require_own(call, user_id, key)
    await call.parts.profiles.delete(user_id, key)
    return {}


async def _profile(call: Call, user_id: str) -> JsonObject:
    """A profile; if there is no such user, an application service may make them now."""
    if not is_user_id(user_id):
        raise InvalidParam(f"{user_id!r} is not a user id")
    if is_remote(call, user_id):
        return await call.parts.federation.profiles.get(user_id)
    try:
        return await call.parts.profiles.get(user_id)
    except NotFound:
        if not await call.parts.app_services.questions.make_user(user_id):
            raise
        return await call.parts.profiles.get(user_id)


def _require_own(call: Call, user_id: str, key: str) -> None:
    if user_id != call.requester.user_id:
        raise Forbidden("You can only change a profile of your own")
    # "Guest users may only modify their display name"
    if call.requester.is_guest and key != "displayname":
        raise GuestAccessForbidden("Guests may change only their display name")
