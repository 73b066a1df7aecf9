"""Clients register themselves. client-server-api#dynamic-client-registration-flow"""

from __future__ import annotations

import msgspec
from aiohttp.web import Response

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.oauth.paths import PREFIX, offered
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.protocol.oauth.clients import checked_metadata

endpoints = Endpoints(prefix=PREFIX, versions=())


@endpoints.post("/clients", auth=Auth.NONE, limit=Limit.LOGIN, max_body=20_000)
async def register_client(call: Call, body: JsonObject) -> Response:
    """client-server-api#dynamic-client-registration-flow"""
    clients = offered(call).clients
    client = await clients.register(checked_metadata(body))
    answer = {"client_id": client.client_id, **msgspec.to_builtins(client.metadata)}
    return Response(body=msgspec.json.encode(answer), status=201, content_type="application/json")
