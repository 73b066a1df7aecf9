"""`ephemeral` of a joined room: who types, and what was read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homeserver.store.receipts import ReceiptRow
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.sync_request import SyncRequest, encode

PRIVATE = "m.read.private"


def ephemeral_events(request: SyncRequest, room: LiveRoom, *, new: bool) -> list[bytes]:
    """What changed after `since`; all of it from scratch, or if the room is `new` to the client."""
    matcher = request.filter.ephemeral
    since = 0 if new else request.since or 0
    if not matcher.matches_all and not matcher.room_allowed(room.room_id):
        return []
    events = []
    typing_changed = room.typing_position > since and (room.typing or request.since is not None)
    if typing_changed and matcher.type_allowed("m.typing"):
        events.append(typing_event(room))
    if matcher.type_allowed("m.receipt"):
        receipts = visible_receipts(room.receipts_since(since), request.user_id)
        if receipts:
            events.append(receipt_event(receipts))
    return events


def typing_event(room: LiveRoom) -> bytes:
    """client-server-api#mtyping"""
    return encode({"type": "m.typing", "content": {"user_ids": room.typing}})


def visible_receipts(receipts: Sequence[ReceiptRow], user_id: str) -> list[ReceiptRow]:
    """Private read receipts are shown to nobody but their owner."""
    return [r for r in receipts if r.receipt_type != PRIVATE or r.user_id == user_id]


def receipt_event(receipts: Sequence[ReceiptRow]) -> bytes:
    """client-server-api#mreceipt"""
    content: dict[str, dict[str, dict[str, Any]]] = {}
    for row in receipts:
        data: dict[str, Any] = {"ts": row.ts}
        if row.thread_id:
            data["thread_id"] = row.thread_id
        by_type = content.setdefault(row.event_id, {})
        by_type.setdefault(row.receipt_type, {})[row.user_id] = data
    return encode({"type": "m.receipt", "content": content})
