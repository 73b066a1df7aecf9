"""Events that are sent later (MSC4140), which calls need to tell that somebody is gone.

Whoever knows a delay id may act on it: a service that watches a call does so for its clients, every
few seconds for each of them, so there is no limit (and nothing to gain by guessing).
"""

from __future__ import annotations

from msgspec import Struct

from homeserver.errors import InvalidParam
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject

endpoints = Endpoints(versions=())

PATH = "/unstable/org.matrix.msc4140/delayed_events"


class Update(Struct, frozen=True):
    action: str


@endpoints.get(PATH, auth=Auth.USER)
async def delayed_events(call: Call) -> JsonObject:
    """MSC4140: one's own events that are still to be sent"""
    return {"delayed_events": call.parts.delayed_events.listed(call.requester.user_id)}


@endpoints.get(PATH + "/{delay_id}", auth=Auth.USER)
async def delayed_event(call: Call, delay_id: str) -> JsonObject:
    """MSC4140: one of them"""
    return call.parts.delayed_events.one(call.requester.user_id, delay_id)


@endpoints.post(PATH + "/{delay_id}", auth=Auth.NONE, limit=Limit.NONE)
async def update_delayed_event(call: Call, delay_id: str, body: Update) -> JsonObject:
    """MSC4140: restart, cancel or send an event"""
    return await act_on_delayed_event(call, delay_id, body.action)


@endpoints.post(PATH + "/{delay_id}/{action}", auth=Auth.NONE, limit=Limit.NONE)
async def act_on_delayed_event(call: Call, delay_id: str, action: str) -> JsonObject:
    """MSC4140: the same with the action in the path"""
    delayed = call.parts.delayed_events
    if action == "restart":
        await delayed.restart(delay_id)
    elif action == "cancel":
        await delayed.cancel(delay_id)
    elif action == "send":
        await delayed.send_now(delay_id)
    else:
        raise InvalidParam("`action` must be restart, cancel or send")
    return {}
