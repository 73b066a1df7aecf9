"""Which member events each device has already been sent, for lazy-loading without repeats.

client-server-api#lazy-loading-room-members
"""

from __future__ import annotations

from collections import OrderedDict

DeviceKey = tuple[str, str | None]


class SentMembers:
    """Per device, room and member the event sent, and in which answer: `capacity` of them together.

    A client that comes back with an older token hasn't seen what was sent after it, so an entry
    counts only for tokens from its own answer on. Devices that synced longest ago are forgotten
    first: they are told some members again.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._devices: OrderedDict[DeviceKey, dict[tuple[str, str], tuple[str, int]]] = (
            OrderedDict()
        )
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def start_again(self, device: DeviceKey) -> None:
        """The device syncs from scratch."""
        self._size -= len(self._devices.pop(device, ()))

    def knows(self, device: DeviceKey, room_id: str, event: tuple[str, str], since: int) -> bool:
        """Whether the device got this (user, event id) in an answer up to `since`."""
        sent = self._devices.get(device, {}).get((room_id, event[0]))
        return sent is not None and sent[0] == event[1] and sent[1] <= since

    def record(self, device: DeviceKey, room_id: str, event: tuple[str, str], upto: int) -> None:
        """The answer with token `upto` has this (user, event id)."""
        sent = self._devices.setdefault(device, {})
        self._devices.move_to_end(device)
        before = len(sent)
        sent[(room_id, event[0])] = (event[1], upto)
        self._size += len(sent) - before
        while self._size > self._capacity:
            _, forgotten = self._devices.popitem(last=False)
            self._size -= len(forgotten)
