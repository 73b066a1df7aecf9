"""Questions of other servers about our users."""

from __future__ import annotations

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints, Resource
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject

endpoints = Endpoints("/_matrix/federation", ("v1",), Resource.FEDERATION)


@endpoints.get("/query/profile", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def query_profile(call: Call) -> JsonObject:
    """server-server-api#get_matrixfederationv1queryprofile"""
    profile = await call.parts.profiles.get(call.required_query("user_id"))
    field = call.query("field")
    if field is None:
        return profile
    return {field: profile[field]} if field in profile else {}
