"""Joining, leaving, inviting and the like. client-server-api#room-membership"""

from __future__ import annotations

from typing import Any

from homeserver.errors import (
    BadJson,
    Forbidden,
    GuestAccessForbidden,
    InvalidParam,
    MatrixError,
    MissingParam,
    NotFound,
    ServerNotTrusted,
    UnableToAuthoriseJoin,
    UnableToGrantJoin,
)
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.invitations import invite
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_room_id

endpoints = Endpoints()

NOT_SAID = ("third_party_signed", "membership", "join_authorised_via_users_server", "reason")


@endpoints.get("/joined_rooms", auth=Auth.USER, unstable=("/unstable/joined_rooms",))
async def joined_rooms(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3joined_rooms"""
    user = await call.parts.stream.users.get(call.requester.user_id)
    return {"joined_rooms": user.joined_rooms()}


@endpoints.post(
    "/rooms/{room_id}/join",
    auth=Auth.GUEST,
    limit=Limit.ROOM,
    empty_body=True,
    not_if_suspended=True,
)
async def join_room_by_id(call: Call, room_id: str, body: JsonObject) -> JsonObject:
    """client-server-api#post_matrixclientv3roomsroomidjoin"""
    return await join_room(call, room_id, body)


@endpoints.post(
    "/join/{room_id_or_alias}",
    auth=Auth.GUEST,
    limit=Limit.ROOM,
    empty_body=True,
    not_if_suspended=True,
)
async def join_room(call: Call, room_id_or_alias: str, body: JsonObject) -> JsonObject:
    """client-server-api#post_matrixclientv3joinroomidoralias"""
    room_id, servers = await _resolved(call, room_id_or_alias)
    remote = call.parts.federation.remote_membership
    unable: MatrixError | None = None
    await _answer_third_party_invite(call, room_id, body)
    if await remote.lets_in(room_id):
        try:
            await call.parts.membership.join(call.requester, room_id, _said(body))
            return {"room_id": room_id}
        except (UnableToAuthoriseJoin, UnableToGrantJoin) as error:
            unable = error  # another server of the room may be able to
    if call.requester.is_guest:
        raise GuestAccessForbidden("Guests may join only rooms that this server is in")
    try:
        await remote.join(call.requester.user_id, room_id, servers, _said(body))
    except NotFound:
        if unable is not None:
            raise Forbidden(unable.message) from None
        raise
    return {"room_id": room_id}


@endpoints.post(
    "/knock/{room_id_or_alias}",
    auth=Auth.USER,
    limit=Limit.ROOM,
    empty_body=True,
    not_if_suspended=True,
)
async def knock_room(call: Call, room_id_or_alias: str, body: JsonObject) -> JsonObject:
    """client-server-api#post_matrixclientv3knockroomidoralias"""
    room_id, servers = await _resolved(call, room_id_or_alias)
    remote = call.parts.federation.remote_membership
    if await remote.lets_in(room_id):
        await call.parts.membership.knock(call.requester, room_id, _reason(body))
    else:
        await remote.knock(call.requester.user_id, room_id, servers, _reason(body))
    return {"room_id": room_id}


@endpoints.post("/rooms/{room_id}/leave", auth=Auth.GUEST, limit=Limit.ROOM, empty_body=True)
async def leave_room(call: Call, room_id: str, body: JsonObject) -> JsonObject:
    """client-server-api#post_matrixclientv3roomsroomidleave"""
    await call.parts.server_notices.require_may_leave(call.requester.user_id, room_id)
    remote = call.parts.federation.remote_membership
    outside = not await remote.takes_part(room_id)
    if not (outside and await remote.leave(call.requester.user_id, room_id, _reason(body))):
        await call.parts.membership.leave(call.requester, room_id, _reason(body))
    return {}


@endpoints.post("/rooms/{room_id}/forget", auth=Auth.USER, empty_body=True)
async def forget_room(call: Call, room_id: str, body: JsonObject) -> JsonObject:
    """client-server-api#post_matrixclientv3roomsroomidforget"""
    await call.parts.membership.forget(call.requester, room_id)
    return {}


@endpoints.post("/rooms/{room_id}/invite", auth=Auth.USER, limit=Limit.ROOM, not_if_suspended=True)
async def invite_user(call: Call, room_id: str, body: JsonObject) -> JsonObject:
    """client-server-api#post_matrixclientv3roomsroomidinvite"""
    if "user_id" not in body and "medium" in body:
        raise ServerNotTrusted("This server trusts no identity server: invite by Matrix id")
    await invite(call, room_id, _user_id(body), _reason(body))
    return {}


@endpoints.post("/rooms/{room_id}/kick", auth=Auth.USER, limit=Limit.ROOM, not_if_suspended=True)
async def kick(call: Call, room_id: str, body: JsonObject) -> JsonObject:
    """client-server-api#post_matrixclientv3roomsroomidkick"""
    await call.parts.membership.kick(call.requester, room_id, _user_id(body), _reason(body))
    return {}


@endpoints.post("/rooms/{room_id}/ban", auth=Auth.USER, limit=Limit.ROOM, not_if_suspended=True)
async def ban(call: Call, room_id: str, body: JsonObject) -> JsonObject:
    """client-server-api#post_matrixclientv3roomsroomidban"""
    await call.parts.membership.ban(call.requester, room_id, _user_id(body), _reason(body))
    return {}


@endpoints.post("/rooms/{room_id}/unban", auth=Auth.USER, limit=Limit.ROOM, not_if_suspended=True)
async def unban(call: Call, room_id: str, body: JsonObject) -> JsonObject:
    """client-server-api#post_matrixclientv3roomsroomidunban"""
    await call.parts.membership.unban(call.requester, room_id, _user_id(body), _reason(body))
    return {}


async def _resolved(call: Call, room_id_or_alias: str) -> tuple[str, list[str]]:
    """The room id, also of an alias, and the servers through which it may be reached.

    Raises InvalidParam, NotFound.
    """
    servers = [*call.query_list("via"), *call.query_list("server_name")]  # until v1.12
    if room_id_or_alias.startswith("#"):
        room_id, known = await call.parts.directories.aliases.resolve(room_id_or_alias)
        return room_id, [*servers, *known]
    if not is_room_id(room_id_or_alias):
        raise InvalidParam(f"{room_id_or_alias!r} is neither a room id nor an alias")
    return room_id_or_alias, servers


async def _answer_third_party_invite(call: Call, room_id: str, body: JsonObject) -> None:
    """With `third_party_signed` a pending third-party invite becomes one for this user first."""
    signed = body.get("third_party_signed")
    if signed is None:
        return
    if not isinstance(signed, dict):
        raise BadJson("`third_party_signed` must be an object")
    user_id = call.requester.user_id
    room = await call.parts.stream.rooms.get(room_id)
    if room is None or room.membership_of(user_id) != "join":
        await call.parts.federation.third_party_invites.accept(room_id, user_id, signed)


def _said(body: JsonObject) -> JsonObject:
    """What goes into the join's content: also what the specification doesn't name, as clients
    expect; but for what only the server may say."""
    return {**{k: v for k, v in body.items() if k not in NOT_SAID}, **_reason(body)}


def _reason(body: JsonObject) -> JsonObject:
    reason: Any = body.get("reason")
    if reason is None:
        return {}
    if not isinstance(reason, str):
        raise BadJson("`reason` must be a string")
    return {"reason": reason}


def _user_id(body: JsonObject) -> str:
    user_id = body.get("user_id")
    if user_id is None:
        raise MissingParam("`user_id` is missing")
    if not isinstance(user_id, str):
        raise BadJson("`user_id` must be a string")
    return user_id
