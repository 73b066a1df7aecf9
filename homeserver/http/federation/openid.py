"""Whose OpenID token is this? server-server-api#openid"""

from __future__ import annotations

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints, Resource
from homeserver.json_types import JsonObject

endpoints = Endpoints("/_matrix/federation", versions=("v1",), resource=Resource.FEDERATION)


@endpoints.get("/openid/userinfo", auth=Auth.NONE)
async def userinfo(call: Call) -> JsonObject:
    """server-server-api#get_matrixfederationv1openiduserinfo"""
    return {"sub": call.parts.openid_tokens.user_of(call.required_query("access_token"))}
