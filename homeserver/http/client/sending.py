"""Sending events into rooms. client-server-api#sending-events-to-a-room"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from homeserver.errors import BadJson, Forbidden, InvalidParam
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.invitations import invite, is_remote
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.protocol.event_types import MEMBER
from homeserver.stream.client_state import require_content
from homeserver.stream.drafts import Draft, Transaction
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.transactions import key_of

endpoints = Endpoints()

DELAY = "org.matrix.msc4140.delay"
WITH_RELATIONS = "org.matrix.msc3912.with_relations"


@endpoints.put(
    "/rooms/{room_id}/send/{event_type}/{txn_id}",
    auth=Auth.GUEST,
    limit=Limit.MESSAGE,
    not_if_suspended=True,
)
async def send_message_event(
    call: Call, room_id: str, event_type: str, txn_id: str, body: JsonObject
) -> JsonObject:
    """client-server-api#put_matrixclientv3roomsroomidsendeventtypetxnid"""
    draft = _message(call, event_type, body)
    endpoint = f"send/{event_type}"
    delay = _delay(call)
    if delay is not None:
        key = key_of(f"{room_id}/{endpoint}", txn_id)
        return await _send_later(call, room_id, draft, delay, key)
    return await _send_once(call, room_id, draft, endpoint, txn_id)


@endpoints.post(
    "/rooms/{room_id}/send/{event_type}",
    auth=Auth.GUEST,
    limit=Limit.MESSAGE,
    not_if_suspended=True,
    also=("/rooms/{room_id}/send/{event_type}/{txn_id}",),
)
async def send_message_event_without_transaction(
    call: Call, room_id: str, event_type: str, body: JsonObject, txn_id: str = ""
) -> JsonObject:
    """The old form without a transaction id, or with one that means nothing, which some clients
    and suites still use."""
    stored = await _send(call, room_id, _message(call, event_type, body), None)
    return {"event_id": stored.event_id}


@endpoints.put("/rooms/{room_id}/redact/{event_id}/{txn_id}", auth=Auth.USER, limit=Limit.MESSAGE)
async def redact_event(
    call: Call, room_id: str, event_id: str, txn_id: str, body: JsonObject
) -> JsonObject:
    """client-server-api#put_matrixclientv3roomsroomidredacteventidtxnid"""
    draft = _redaction(call, event_id, body)
    rel_types = _with_relations(body)
    answer = await _send_once(call, room_id, draft, f"redact/{event_id}", txn_id)
    if rel_types:
        await _redact_related(call, room_id, draft, rel_types)
    return answer


@endpoints.post(
    "/rooms/{room_id}/redact/{event_id}", auth=Auth.USER, limit=Limit.MESSAGE, empty_body=True
)
async def redact_event_without_transaction(
    call: Call, room_id: str, event_id: str, body: JsonObject
) -> JsonObject:
    """The old form without a transaction id."""
    stored = await call.parts.stream.sender.send(room_id, _redaction(call, event_id, body))
    return {"event_id": stored.event_id}


@endpoints.put(
    "/rooms/{room_id}/state/{event_type}/{state_key}",
    auth=Auth.GUEST,
    limit=Limit.MESSAGE,
    not_if_suspended=True,
)
async def set_room_state_with_key(
    call: Call, room_id: str, event_type: str, state_key: str, body: JsonObject
) -> JsonObject:
    """client-server-api#put_matrixclientv3roomsroomidstateeventtypestatekey"""
    if event_type == MEMBER:
        return {"event_id": await _send_member(call, room_id, state_key, body)}
    draft = _draft(call, event_type, body, state_key=state_key)
    delay = _delay(call)
    if delay is not None:
        return await _send_later(call, room_id, draft, delay, None)
    stored = await call.parts.directories.state.send(room_id, draft)
    return {"event_id": stored.event_id}


@endpoints.put(
    "/rooms/{room_id}/state/{event_type}",
    auth=Auth.GUEST,
    limit=Limit.MESSAGE,
    not_if_suspended=True,
    also=("/rooms/{room_id}/state/{event_type}/",),
)
async def set_room_state(call: Call, room_id: str, event_type: str, body: JsonObject) -> JsonObject:
    """The same with the empty state key."""
    return await set_room_state_with_key(call, room_id, event_type, "", body)


async def _send_member(call: Call, room_id: str, user_id: str, content: JsonObject) -> str:
    """A membership by way of a state event: its checks are those of the endpoints for it."""
    if content.get("membership") == "invite" and is_remote(call, user_id):
        await invite(call, room_id, user_id, content)
        room = await call.parts.rooms.require(room_id)
        return room.members[user_id].event_id
    requester = call.requester
    stored = await call.parts.membership.set_by_state(requester, room_id, user_id, content)
    return stored.event_id


def _message(call: Call, event_type: str, content: JsonObject) -> Draft:
    redacts: Any = None
    if event_type == "m.room.redaction":
        # MSC4169: a redaction may be sent like any other event.
        redacts = content.get("redacts")
        if not isinstance(redacts, str):
            raise BadJson("A redaction needs the event id that it `redacts`")
        content = {key: value for key, value in content.items() if key != "redacts"}
    draft = _draft(call, event_type, content, redacts=redacts)
    require_content(draft)
    return draft


def _redaction(call: Call, event_id: str, body: JsonObject) -> Draft:
    reason = body.get("reason")
    if reason is not None and not isinstance(reason, str):
        raise BadJson("`reason` must be a string")
    content = {} if reason is None else {"reason": reason}
    return _draft(call, "m.room.redaction", content, redacts=event_id)


def _with_relations(body: JsonObject) -> list[str]:
    """MSC3912: the types of relations by which events are to be redacted, too; `*` is all."""
    wanted = body.get(WITH_RELATIONS, [])
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise BadJson(f"`{WITH_RELATIONS}` must be a list of strings")
    return wanted


async def _redact_related(call: Call, room_id: str, draft: Draft, rel_types: Sequence[str]) -> None:
    """What the user may not redact of it stays."""
    assert draft.redacts is not None
    related = await call.parts.relations.ids_of_related(
        call.requester, room_id, draft.redacts, rel_types
    )
    for event_id in related:
        with suppress(Forbidden):
            await call.parts.stream.sender.send(room_id, replace(draft, redacts=event_id))


def _draft(
    call: Call,
    event_type: str,
    content: JsonObject,
    *,
    state_key: str | None = None,
    redacts: str | None = None,
) -> Draft:
    ts: int | None = None
    if call.requester.app_service is not None and call.query("ts") is not None:
        ts = call.query_int("ts", 0)
    requester = call.requester
    call.parts.stream.presence.active(requester.user_id)
    return Draft(
        requester.user_id, event_type, content, state_key, redacts, ts, requester.is_suspended
    )


def _delay(call: Call) -> int | None:
    """MSC4140: in how many milliseconds the event is to be sent, None for now."""
    if call.query(DELAY) is None:
        return None
    return call.query_int(DELAY, 0, minimum=1)


async def _send_later(
    call: Call, room_id: str, draft: Draft, delay: int, txn_id: str | None
) -> JsonObject:
    transaction = None
    if txn_id is not None:
        device_id = call.requester.device_id or ""
        transaction = Transaction(call.requester.user_id, device_id, txn_id)
    delayed = call.parts.delayed_events
    return {"delay_id": await delayed.schedule(room_id, draft, delay, transaction)}


async def _send_once(
    call: Call, room_id: str, draft: Draft, endpoint: str, txn_id: str
) -> JsonObject:
    if len(txn_id) > 255 or "\0" in txn_id:
        raise InvalidParam("The transaction id is too long, or holds NUL")
    requester = call.requester
    # An application service may act without a device; its transactions are its user's then.
    device_id = requester.device_id or ""
    event_id = await call.parts.stream.transactions.once(
        Transaction(requester.user_id, device_id, txn_id),
        f"{room_id}/{endpoint}",
        lambda transaction: _send(call, room_id, draft, transaction),
    )
    return {"event_id": event_id}


async def _send(
    call: Call, room_id: str, draft: Draft, transaction: Transaction | None
) -> StoredEvent:
    if draft.type == "m.room.tombstone" and draft.content.get("replacement_room") == room_id:
        raise InvalidParam("A room can't be replaced by itself")
    if "m.relates_to" in draft.content:
        await call.parts.relations.check(call.requester, room_id, draft.type, draft.content)
    return await call.parts.stream.sender.send(room_id, draft, transaction)
