"""Events, states and history, for servers that are in the room."""

from __future__ import annotations

import msgspec

from homeserver.clock import now_ms
from homeserver.errors import BadJson
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints, Resource
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.services.served_history import MissingEvents

endpoints = Endpoints("/_matrix/federation", ("v1",), Resource.FEDERATION)

MAX_IDS = 100


class MissingEventsBody(msgspec.Struct):
    earliest_events: list[str] = []
    latest_events: list[str] = []
    limit: int = 10
    min_depth: int = 0


@endpoints.get("/event/{event_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def event(call: Call, event_id: str) -> JsonObject:
    """server-server-api#get_matrixfederationv1eventeventid"""
    pdu = await call.parts.federation.history.event(call.origin, event_id)
    return _transaction(call, [pdu])


@endpoints.get(
    "/state/{room_id}",
    also=("/state/{room_id}/",),
    auth=Auth.FEDERATION,
    limit=Limit.FEDERATION,
)
async def state(call: Call, room_id: str) -> JsonObject:
    """server-server-api#get_matrixfederationv1stateroomid"""
    event_id = call.required_query("event_id")
    return await call.parts.federation.history.state(call.origin, room_id, event_id)


@endpoints.get(
    "/state_ids/{room_id}",
    also=("/state_ids/{room_id}/",),
    auth=Auth.FEDERATION,
    limit=Limit.FEDERATION,
)
async def state_ids(call: Call, room_id: str) -> JsonObject:
    """server-server-api#get_matrixfederationv1state_idsroomid"""
    event_id = call.required_query("event_id")
    return await call.parts.federation.history.state_ids(call.origin, room_id, event_id)


@endpoints.get("/event_auth/{room_id}/{event_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def event_auth(call: Call, room_id: str, event_id: str) -> JsonObject:
    """server-server-api#get_matrixfederationv1event_authroomideventid"""
    return await call.parts.federation.history.event_auth(call.origin, room_id, event_id)


@endpoints.get(
    "/backfill/{room_id}",
    also=("/backfill/{room_id}/",),
    auth=Auth.FEDERATION,
    limit=Limit.FEDERATION,
)
async def backfill(call: Call, room_id: str) -> JsonObject:
    """server-server-api#get_matrixfederationv1backfillroomid"""
    starts = call.query_list("v")[:MAX_IDS]
    limit = call.query_int("limit", 100)
    pdus = await call.parts.federation.history.backfill(call.origin, room_id, starts, limit)
    return _transaction(call, pdus)


@endpoints.post("/get_missing_events/{room_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def get_missing_events(call: Call, room_id: str, body: MissingEventsBody) -> JsonObject:
    """server-server-api#post_matrixfederationv1get_missing_eventsroomid"""
    if len(body.earliest_events) > MAX_IDS or len(body.latest_events) > MAX_IDS:
        raise BadJson(f"At most {MAX_IDS} events can be named")
    asked = MissingEvents(body.earliest_events, body.latest_events, body.limit, body.min_depth)
    history = call.parts.federation.history
    return {"events": await history.missing_events(call.origin, room_id, asked)}


@endpoints.get("/timestamp_to_event/{room_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def timestamp_to_event(call: Call, room_id: str) -> JsonObject:
    """server-server-api#get_matrixfederationv1timestamp_to_eventroomid"""
    call.required_query("ts")
    backwards = call.query_choice("dir", ("f", "b"), "f") == "b"
    ts = call.query_int("ts", 0)
    return await call.parts.federation.history.at_timestamp(call.origin, room_id, ts, backwards)


def _transaction(call: Call, pdus: object) -> JsonObject:
    return {
        "origin": call.parts.config.server_name,
        "origin_server_ts": now_ms(),
        "pdus": pdus,
    }
