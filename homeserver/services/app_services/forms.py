"""The forms in which application services get what happens."""

from __future__ import annotations

import msgspec

from homeserver.json_types import JsonObject
from homeserver.protocol.client_events import with_room_id
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.presence import UserPresence
from homeserver.services.app_services.transaction import Move, Waiting
from homeserver.store.events import ORDER_STEP
from homeserver.store.receipts import ReceiptRow
from homeserver.stream.changes import TypingChange
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.stored_event import StoredEvent

_encode = msgspec.json.encode


def event_form(room_id: str, room: LiveRoom | None, stored: StoredEvent, now: int) -> Waiting:
    """An event of the timeline, with its age; `now` in milliseconds."""
    json = with_room_id(stored.client_at(now), room_id)
    position = (stored.order or 0) // ORDER_STEP
    move = _move(room, stored) if stored.type == MEMBER else None
    return Waiting(position, json, room_id=room_id, move=move)


def _move(room: LiveRoom | None, stored: StoredEvent) -> Move | None:
    """None for what brought nobody in or out: a new name, say, or what is not so any more."""
    row = None if room is None else room.members.get(stored.state_key or "")
    if room is None or row is None:
        return None
    position = (stored.order or 0) // ORDER_STEP
    if row.membership == "join":
        came = stored.event.membership == "join" and row.joined_from == position
        return Move(row.user_id, True, position) if came else None
    went = stored.event.membership in ("leave", "ban") and row.is_left
    return Move(row.user_id, False, position) if went else None


def to_device_form(device: tuple[str, str], position: int, json: bytes) -> Waiting:
    """A to-device message as a service gets it: it has many devices (MSC4203)."""
    user_id, device_id = (_encode(part) for part in device)
    whom = b'{"to_user_id":%b,"to_device_id":%b,' % (user_id, device_id)
    return Waiting(position, whom + json[1:], device)


def receipt_form(room_id: str, row: ReceiptRow) -> Waiting:
    data: JsonObject = {"ts": row.ts}
    if row.thread_id:
        data["thread_id"] = row.thread_id
    content = {row.event_id: {row.receipt_type: {row.user_id: data}}}
    event = {"type": "m.receipt", "room_id": room_id, "content": content}
    return Waiting(row.position, _encode(event))


def typing_form(change: TypingChange) -> Waiting:
    content = {"user_ids": list(change.user_ids)}
    event = {"type": "m.typing", "room_id": change.room_id, "content": content}
    return Waiting(change.position, _encode(event))


def presence_form(presence: UserPresence, position: int, now: int) -> Waiting:
    content = presence.content(now)
    event = {"type": "m.presence", "sender": presence.user_id, "content": content}
    return Waiting(position, _encode(event))
