"""Invites by e-mail address and the like. server-server-api#third-party-invites"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.errors import InvalidParam
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints, Resource
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_user_id
from homeserver.services.third_party_invites import Claim

endpoints = Endpoints("/_matrix/federation", ("v1",), Resource.FEDERATION)


class _ThirdPartyInvite(msgspec.Struct):
    signed: JsonObject


class _InviteContent(msgspec.Struct):
    membership: str
    third_party_invite: _ThirdPartyInvite


class PartialInvite(msgspec.Struct):
    """A member event to be: "a partial `m.room.member` event"."""

    type: str
    room_id: str
    sender: str
    state_key: str
    content: _InviteContent


class BoundBody(msgspec.Struct):
    mxid: str
    invites: list[Any] = []


@endpoints.put(
    "/exchange_third_party_invite/{room_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION
)
async def exchange_third_party_invite(call: Call, room_id: str, body: PartialInvite) -> JsonObject:
    """server-server-api#put_matrixfederationv1exchange_third_party_inviteroomid"""
    if body.type != "m.room.member" or body.content.membership != "invite":
        raise InvalidParam("`type` must be m.room.member, `content.membership` must be invite")
    if body.room_id != room_id:
        raise InvalidParam("`room_id` differs from the path's")
    if not is_user_id(body.sender) or not is_user_id(body.state_key):
        raise InvalidParam("`sender` and `state_key` must be user ids")
    room = await call.parts.federation.resident.room_for(call.origin, room_id)
    claim = Claim(room_id, body.sender, body.state_key, body.content.third_party_invite.signed)
    await call.parts.federation.third_party_invites.exchange(room, claim)
    return {}


@endpoints.put("/3pid/onbind", auth=Auth.NONE, limit=Limit.FEDERATION)
async def third_party_id_bound(call: Call, body: BoundBody) -> JsonObject:
    """server-server-api#put_matrixfederationv13pidonbind"""
    await call.parts.federation.third_party_invites.bound(body.mxid, body.invites)
    return {}
