"""Thread subscriptions (MSC4306, MSC4308)."""

from __future__ import annotations

from typing import Any

from homeserver.errors import BadJson
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.services.thread_subscriptions import parse_position
from homeserver.stream.sliding.thread_subscriptions import subscriptions_object

endpoints = Endpoints(versions=())

SUBSCRIPTION = "/unstable/io.element.msc4306/rooms/{room_id}/thread/{thread_root_id}/subscription"


@endpoints.get(SUBSCRIPTION, auth=Auth.USER)
async def get_thread_subscription(call: Call, room_id: str, thread_root_id: str) -> JsonObject:
    """MSC4306"""
    user_id = call.requester.user_id
    row = await call.parts.thread_subscriptions.get(user_id, room_id, thread_root_id)
    return {"automatic": row.automatic}


@endpoints.put(SUBSCRIPTION, auth=Auth.USER, empty_body=True)
async def subscribe_to_thread(
    call: Call, room_id: str, thread_root_id: str, body: JsonObject
) -> JsonObject:
    """MSC4306"""
    automatic: Any = body.get("automatic")
    if automatic is not None and not isinstance(automatic, str):
        raise BadJson("`automatic` must be the id of the event that causes the subscription")
    await call.parts.thread_subscriptions.subscribe(
        call.requester.user_id, room_id, thread_root_id, automatic
    )
    return {}


@endpoints.delete(SUBSCRIPTION, auth=Auth.USER)
async def unsubscribe_from_thread(call: Call, room_id: str, thread_root_id: str) -> JsonObject:
    """MSC4306"""
    await call.parts.thread_subscriptions.unsubscribe(
        call.requester.user_id, room_id, thread_root_id
    )
    return {}


@endpoints.get("/unstable/io.element.msc4308/thread_subscriptions", auth=Auth.USER)
async def page_thread_subscriptions(call: Call) -> JsonObject:
    """MSC4308: backwards through what the sliding sync extension left out."""
    call.query_choice("dir", ("b",), "b")
    limit = call.query_int("limit", 100, minimum=1, maximum=1000)
    after = parse_position(call.query("to")) or 0
    upto = parse_position(call.query("from"))
    rows = await call.parts.thread_subscriptions.page(
        call.requester.user_id, after, upto, limit + 1
    )
    answer = subscriptions_object(rows[:limit])
    if len(rows) > limit:
        answer["end"] = str(rows[limit - 1].position - 1)
    return answer
