"""Pushers and the list of notifications. client-server-api#push-notifications"""

from __future__ import annotations

from homeserver.clock import now_ms
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.protocol.pushers import parse_pusher

endpoints = Endpoints()

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


@endpoints.get("/pushers", auth=Auth.USER)
async def get_pushers(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3pushers"""
    return {"pushers": call.parts.push.pushers.of_user(call.requester.user_id)}


@endpoints.post("/pushers/set", auth=Auth.USER)
async def set_pusher(call: Call, body: JsonObject) -> JsonObject:
    """client-server-api#post_matrixclientv3pushersset"""
    wanted = parse_pusher(body, require_https=call.parts.config.push.require_https)
    await call.parts.push.pushers.put(call.requester, wanted)
    return {}


@endpoints.get("/notifications", auth=Auth.USER)
async def get_notifications(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3notifications"""
    return await call.parts.push.notifications.page(
        call.requester.user_id,
        call.query("from"),
        call.query_int("limit", DEFAULT_LIMIT, minimum=1, maximum=MAX_LIMIT),
        only_highlights="highlight" in (call.query("only") or ""),
        now=now_ms(),
    )
