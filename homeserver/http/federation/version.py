"""Which implementation this is."""

from __future__ import annotations

from homeserver import __version__
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints, Resource
from homeserver.json_types import JsonObject

endpoints = Endpoints("/_matrix/federation", ("v1",), Resource.FEDERATION)


@endpoints.get("/version", auth=Auth.NONE)
async def server_version(call: Call) -> JsonObject:
    """server-server-api#get_matrixfederationv1version"""
    return {"server": {"name": "homeserver", "version": __version__}}
