"""Verifications in rooms, for clients that have a connection for encryption alone.

Rules of this file: the Rust SDK (Element X) reads the steps of such a verification from the
connection that tells it of rooms, but sends its answers when a request of its connection for
encryption ends. So that one is ended as soon as the other one comes back: then the step was read.
"""

from __future__ import annotations

from collections.abc import Iterable

from homeserver.lru_cache import LruCache
from homeserver.protocol.events import Event
from homeserver.store.events import ORDER_STEP
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.notifier import Notifier

MEMBERS = 5
"""People verify each other in a direct chat; more members than these, and it is none."""

DeviceKey = tuple[str, str | None]


class Verifications:
    """Which devices (of `capacity` at most) have read a step, and not been given the occasion."""

    def __init__(self, rooms: LiveRooms, notifier: Notifier, capacity: int) -> None:
        self._rooms = rooms
        self._notifier = notifier
        self._owed: LruCache[DeviceKey, bool] = LruCache(capacity)

    def told_with(self, user_id: str, since: int, room_ids: Iterable[str]) -> bool:
        """Whether an answer to a user may tell of a step, of these rooms from a position on."""
        rooms = filter(None, map(self._rooms.peek, room_ids if since else ()))
        return any(_may_hold_step(room, user_id, since) for room in rooms)

    def was_read(self, device: DeviceKey, position: int) -> None:
        """An answer up to this position that tells of one has come to a device."""
        self._owed.put(device, True)
        self._notifier.wake(device[0], position)

    def is_owed(self, device: DeviceKey) -> bool:
        """Whether the connection for encryption has to be answered, if with nothing new."""
        return self._owed.get(device) is not None

    def answered(self, device: DeviceKey) -> None:
        """That connection is being answered."""
        self._owed.discard(device)


def _may_hold_step(room: LiveRoom, user_id: str, since: int) -> bool:
    if room.joined_count > MEMBERS:
        return False
    entries = room.entries_after(max(since * ORDER_STEP, room.timeline_floor))
    events = (entry.stored.event for entry in entries)
    return any(event.sender != user_id and _may_be_step(event) for event in events)


def _may_be_step(event: Event) -> bool:
    """It may be encrypted, and it begins with a message."""
    begins = event.content.get("msgtype") == "m.key.verification.request"
    encrypted = event.type == "m.room.encrypted"
    return begins or encrypted or event.type.startswith("m.key.verification.")
