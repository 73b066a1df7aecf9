"""Reporting events, rooms and users. client-server-api#reporting-content"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject

endpoints = Endpoints()

Reason = Annotated[str, Meta(max_length=10_000)]


class EventReport(Struct, frozen=True):
    reason: Reason | None = None


class OtherReport(Struct, frozen=True):
    reason: Reason


@endpoints.post("/rooms/{room_id}/report/{event_id}", auth=Auth.USER, empty_body=True)
async def report_event(call: Call, room_id: str, event_id: str, body: EventReport) -> JsonObject:
    """client-server-api#post_matrixclientv3roomsroomidreporteventid"""
    await call.parts.reports.event(call.requester, room_id, event_id, body.reason or "")
    return {}


@endpoints.post(
    "/rooms/{room_id}/report",
    auth=Auth.USER,
    unstable=("/unstable/org.matrix.msc4151/rooms/{room_id}/report",),
)
async def report_room(call: Call, room_id: str, body: OtherReport) -> JsonObject:
    """client-server-api#post_matrixclientv3roomsroomidreport"""
    await call.parts.reports.room(call.requester, room_id, body.reason)
    return {}


@endpoints.post(
    "/users/{user_id}/report",
    auth=Auth.USER,
    unstable=("/unstable/org.matrix.msc4260/users/{user_id}/report",),
)
async def report_user(call: Call, user_id: str, body: OtherReport) -> JsonObject:
    """client-server-api#post_matrixclientv3usersuseridreport"""
    await call.parts.reports.user(call.requester, user_id, body.reason)
    return {}
