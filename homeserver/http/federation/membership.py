"""Users of other servers join, leave and knock on our rooms; ours are invited to theirs."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints, Resource
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.services.invites import ReceivedInvite
from homeserver.services.resident import SignedMembership

endpoints = Endpoints("/_matrix/federation", ("v1",), Resource.FEDERATION)


class InviteBody(msgspec.Struct):
    event: JsonObject
    room_version: str
    invite_room_state: list[Any] = []


@endpoints.get("/make_join/{room_id}/{user_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def make_join(call: Call, room_id: str, user_id: str) -> JsonObject:
    """server-server-api#get_matrixfederationv1make_joinroomiduserid"""
    # The parameter "defaults to [1]".
    versions = call.query_list("ver") or ["1"]
    resident = call.parts.federation.resident
    return await resident.make(call.origin, room_id, user_id, "join", versions)


@endpoints.get("/make_leave/{room_id}/{user_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def make_leave(call: Call, room_id: str, user_id: str) -> JsonObject:
    """server-server-api#get_matrixfederationv1make_leaveroomiduserid"""
    resident = call.parts.federation.resident
    return await resident.make(call.origin, room_id, user_id, "leave", None)


@endpoints.get("/make_knock/{room_id}/{user_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def make_knock(call: Call, room_id: str, user_id: str) -> JsonObject:
    """server-server-api#get_matrixfederationv1make_knockroomiduserid"""
    versions = call.query_list("ver") or ["1"]
    resident = call.parts.federation.resident
    return await resident.make(call.origin, room_id, user_id, "knock", versions)


@endpoints.put(
    "/send_join/{room_id}/{event_id}",
    versions=("v2",),
    auth=Auth.FEDERATION,
    limit=Limit.FEDERATION,
)
async def send_join(call: Call, room_id: str, event_id: str, body: JsonObject) -> JsonObject:
    """server-server-api#put_matrixfederationv2send_joinroomideventid"""
    signed = SignedMembership(call.origin, room_id, event_id, "join", body)
    omit_members = call.query_bool("omit_members")
    return await call.parts.federation.resident.send_join(signed, omit_members)


@endpoints.put("/send_join/{room_id}/{event_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def send_join_v1(call: Call, room_id: str, event_id: str, body: JsonObject) -> list[object]:
    """server-server-api#put_matrixfederationv1send_joinroomideventid (removed in v1.18)"""
    signed = SignedMembership(call.origin, room_id, event_id, "join", body)
    return [200, await call.parts.federation.resident.send_join(signed, False)]


@endpoints.put(
    "/send_leave/{room_id}/{event_id}",
    versions=("v2",),
    auth=Auth.FEDERATION,
    limit=Limit.FEDERATION,
)
async def send_leave(call: Call, room_id: str, event_id: str, body: JsonObject) -> JsonObject:
    """server-server-api#put_matrixfederationv2send_leaveroomideventid"""
    signed = SignedMembership(call.origin, room_id, event_id, "leave", body)
    return await call.parts.federation.resident.send_leave(signed)


@endpoints.put("/send_leave/{room_id}/{event_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def send_leave_v1(call: Call, room_id: str, event_id: str, body: JsonObject) -> list[object]:
    """server-server-api#put_matrixfederationv1send_leaveroomideventid (removed in v1.18)"""
    signed = SignedMembership(call.origin, room_id, event_id, "leave", body)
    return [200, await call.parts.federation.resident.send_leave(signed)]


@endpoints.put("/send_knock/{room_id}/{event_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def send_knock(call: Call, room_id: str, event_id: str, body: JsonObject) -> JsonObject:
    """server-server-api#put_matrixfederationv1send_knockroomideventid"""
    signed = SignedMembership(call.origin, room_id, event_id, "knock", body)
    return await call.parts.federation.resident.send_knock(signed)


@endpoints.put(
    "/invite/{room_id}/{event_id}", versions=("v2",), auth=Auth.FEDERATION, limit=Limit.FEDERATION
)
async def invite(call: Call, room_id: str, event_id: str, body: InviteBody) -> JsonObject:
    """server-server-api#put_matrixfederationv2inviteroomideventid"""
    received = ReceivedInvite(
        call.origin, room_id, event_id, body.room_version, body.event, body.invite_room_state
    )
    event = await call.parts.federation.invites.receive(received)
    return {"event": Raw(event.json)}


@endpoints.put("/invite/{room_id}/{event_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def invite_v1(call: Call, room_id: str, event_id: str, body: JsonObject) -> list[object]:
    """server-server-api#put_matrixfederationv1inviteroomideventid"""
    unsigned = body.get("unsigned")
    state = unsigned.get("invite_room_state") if isinstance(unsigned, dict) else None
    room_state = state if isinstance(state, list) else []
    # Only servers that know no other room versions than 1 and 2 ask in this way.
    received = ReceivedInvite(call.origin, room_id, event_id, "1", body, room_state)
    event = await call.parts.federation.invites.receive(received)
    return [200, {"event": Raw(event.json)}]
