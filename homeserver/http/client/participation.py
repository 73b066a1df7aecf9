"""Receipts, read markers and typing. client-server-api#receipts, #typing-notifications"""

from __future__ import annotations

from typing import Any

from homeserver.errors import BadJson, Forbidden, InvalidParam, MissingParam
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_event_id
from homeserver.services.receipts import FULLY_READ, MAIN, RECEIPT_TYPES

endpoints = Endpoints()

DEFAULT_TYPING_MS = 30_000
MAX_TYPING_MS = 3600 * 1000


@endpoints.post(
    "/rooms/{room_id}/receipt/{receipt_type}/{event_id}",
    auth=Auth.USER,
    limit=Limit.MESSAGE,
    empty_body=True,
)
async def post_receipt(
    call: Call, room_id: str, receipt_type: str, event_id: str, body: JsonObject
) -> JsonObject:
    """client-server-api#post_matrixclientv3roomsroomidreceiptreceipttypeeventid"""
    thread_id = _thread_id(receipt_type, body)
    await _receipt(call, room_id, receipt_type, event_id, thread_id)
    return {}


@endpoints.post("/rooms/{room_id}/read_markers", auth=Auth.USER, limit=Limit.MESSAGE)
async def set_read_marker(call: Call, room_id: str, body: JsonObject) -> JsonObject:
    """client-server-api#post_matrixclientv3roomsroomidread_markers"""
    await call.parts.receipts.require_joined(room_id, call.requester.user_id)
    for receipt_type in (FULLY_READ, *RECEIPT_TYPES):
        event_id = body.get(receipt_type)
        if event_id is None:
            continue
        if not isinstance(event_id, str):
            raise BadJson(f"`{receipt_type}` must be an event id")
        await _receipt(call, room_id, receipt_type, event_id, "")
    return {}


@endpoints.put("/rooms/{room_id}/typing/{user_id}", auth=Auth.USER, limit=Limit.MESSAGE)
async def set_typing(call: Call, room_id: str, user_id: str, body: JsonObject) -> JsonObject:
    """client-server-api#put_matrixclientv3roomsroomidtypinguserid"""
    if user_id != call.requester.user_id:
        raise Forbidden("You can only say of yourself that you type")
    typing, patience = body.get("typing"), body.get("timeout", DEFAULT_TYPING_MS)
    if typing is None:
        raise MissingParam("`typing` is missing")
    if not isinstance(typing, bool):
        raise BadJson("`typing` must be true or false")
    if isinstance(patience, bool) or not isinstance(patience, int):
        raise BadJson("`timeout` must be a number of milliseconds")
    await call.parts.receipts.require_joined(room_id, user_id)
    if typing:
        seconds = max(0, min(patience, MAX_TYPING_MS)) / 1000
        call.parts.stream.typing.start(room_id, user_id, seconds)
    else:
        call.parts.stream.typing.stop(room_id, user_id)
    return {}


def _thread_id(receipt_type: str, body: JsonObject) -> str:
    """The thread of a receipt, '' if it is unthreaded."""
    if "thread_id" not in body:
        return ""
    thread_id: Any = body["thread_id"]
    if not isinstance(thread_id, str) or not thread_id:
        raise InvalidParam("`thread_id` must be a string that isn't empty")
    if thread_id != MAIN and not is_event_id(thread_id):
        raise InvalidParam("`thread_id` must be `main` or the id of the thread's root")
    if receipt_type not in RECEIPT_TYPES:
        raise InvalidParam(f"A {receipt_type} can't be for a thread")
    return thread_id


async def _receipt(
    call: Call, room_id: str, receipt_type: str, event_id: str, thread_id: str
) -> None:
    user_id = call.requester.user_id
    call.parts.stream.presence.active(user_id)
    if receipt_type != FULLY_READ:
        await call.parts.receipts.put(room_id, user_id, receipt_type, event_id, thread_id)
        return
    room = await call.parts.receipts.require_joined(room_id, user_id)
    stored = await call.parts.receipts.find(room, event_id)
    if stored is None:
        raise InvalidParam("The event isn't one of this room")

    def move(content: JsonObject) -> JsonObject | None:
        return None if content.get("event_id") == event_id else {"event_id": event_id}

    await call.parts.account_data.update(user_id, room_id, FULLY_READ, move)
