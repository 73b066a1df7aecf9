"""`/sync` and filters. client-server-api#syncing"""

from __future__ import annotations

import time
from typing import cast

from homeserver.errors import BadJson, Forbidden, InvalidParam, NotFound
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit
from homeserver.http.sync_tokens import sync_token
from homeserver.json_types import JsonObject
from homeserver.protocol.filters import EVERYTHING, Filter, FilterError, parse_filter
from homeserver.protocol.presence import State
from homeserver.stream.sync_request import SyncRequest

endpoints = Endpoints()

MAX_TIMEOUT_MS = 180_000
STATES: tuple[State, ...] = ("online", "offline", "unavailable")


@endpoints.get("/sync", auth=Auth.GUEST, limit=Limit.NONE)
async def sync(call: Call) -> bytes:
    """client-server-api#get_matrixclientv3sync"""
    requester = call.requester
    token = call.query("since")
    since = sync_token(token) if token else None
    request = SyncRequest(
        user_id=requester.user_id,
        device_id=requester.device_id,
        since=None if since is None else since.position,
        to_device_since=0 if since is None else since.to_device,
        filter=await _filter(call),
        now=int(time.time() * 1000),
        full_state=call.query_bool("full_state"),
        state_after=_state_after(call),
    )
    timeout = call.query_int("timeout", 0, maximum=MAX_TIMEOUT_MS)
    presence = call.parts.stream.presence
    with presence.syncing(requester.user_id, requester.device_id, _seen_as(call)):
        return await call.parts.stream.sync.answer(request, timeout / 1000)


@endpoints.post("/user/{user_id}/filter", auth=Auth.USER)
async def define_filter(call: Call, user_id: str, body: JsonObject) -> JsonObject:
    """client-server-api#post_matrixclientv3useruseridfilter"""
    _require_own(call, user_id)
    try:
        parse_filter(body)
    except FilterError as error:
        raise BadJson(str(error)) from None
    return {"filter_id": await call.parts.filters.add(user_id, body)}


@endpoints.get("/user/{user_id}/filter/{filter_id}", auth=Auth.USER)
async def get_filter(call: Call, user_id: str, filter_id: str) -> bytes:
    """client-server-api#get_matrixclientv3useruseridfilterfilterid"""
    _require_own(call, user_id)
    definition = await call.parts.filters.get(user_id, filter_id)
    if definition is None:
        raise NotFound("There is no such filter")
    return definition


def _seen_as(call: Call) -> State | None:
    if call.query("set_presence") is None:
        return None
    return cast(State, call.query_choice("set_presence", STATES, "online"))


def _state_after(call: Call) -> str | None:
    if call.query_bool("use_state_after"):
        return "state_after"
    if call.query_bool("org.matrix.msc4222.use_state_after"):
        return "org.matrix.msc4222.state_after"
    return None


async def _filter(call: Call) -> Filter:
    """The `filter` parameter: the id of a filter, or a filter itself."""
    text = call.query("filter")
    if not text:
        return EVERYTHING
    try:
        if text.startswith("{"):
            return parse_filter(text)
        definition = await call.parts.filters.get(call.requester.user_id, text)
    except FilterError as error:
        raise InvalidParam(str(error)) from None
    if definition is None:
        raise InvalidParam("There is no such filter")
    return parse_filter(definition)


def _require_own(call: Call, user_id: str) -> None:
    if user_id != call.requester.user_id:
        raise Forbidden("You can only use filters of your own")
