"""Server keys: ours, and those of other servers as a notary."""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.clock import now_ms
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints, Resource
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.services.published_keys import ANY_KEY

endpoints = Endpoints("/_matrix/key", ("v2",), Resource.FEDERATION)


class Criterion(msgspec.Struct):
    minimum_valid_until_ts: int | None = None


class KeyQuery(msgspec.Struct):
    server_keys: dict[str, dict[str, Criterion]]


# The second path, removed in v1.6, is what old servers ask.
@endpoints.get("/server", also=("/server/{key_id}",), auth=Auth.NONE)
async def published_keys(call: Call, key_id: str = "") -> JsonObject:
    """server-server-api#get_matrixkeyv2server"""
    return call.parts.federation.published_keys.ours()


@endpoints.get(
    "/query/{server_name}",
    also=("/query/{server_name}/{key_id}",),
    auth=Auth.NONE,
    limit=Limit.FEDERATION,
)
async def query_keys_of_a_server(call: Call, server_name: str, key_id: str = ANY_KEY) -> JsonObject:
    """server-server-api#get_matrixkeyv2queryservername"""
    until = call.query_int("minimum_valid_until_ts", now_ms())
    wanted = {server_name: {key_id: until}}
    return {"server_keys": await call.parts.federation.published_keys.of_servers(wanted)}


@endpoints.post("/query", auth=Auth.NONE, limit=Limit.FEDERATION)
async def query_keys(call: Call, body: KeyQuery) -> dict[str, Any]:
    """server-server-api#post_matrixkeyv2query"""
    # "If not supplied, the notary server MUST use the current time."
    now = now_ms()
    criteria = {
        server_name: {
            key_id: now if c.minimum_valid_until_ts is None else c.minimum_valid_until_ts
            for key_id, c in of_server.items()
        }
        for server_name, of_server in body.server_keys.items()
    }
    return {"server_keys": await call.parts.federation.published_keys.of_servers(criteria)}
