"""Which member events each device has already been sent, for lazy-loading without repeats.

client-server-api#lazy-loading-room-members
"""

from __future__ import annotations

from collections import OrderedDict

DeviceKey = tuple[str, str | None]


class SentMembers:
    """For at most `capacity` devices: per room and member the event sent, and in which answer.

    A client that comes back with an older token hasn't seen what was sent after it, so an entry
    counts only for tokens from its own answer on.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._devices: OrderedDict[DeviceKey, dict[tuple[str, str], tuple[str, int]]] = (
            OrderedDict()
        )

    def start_again(self, device: DeviceKey) -> None:
        """The device syncs from scratch."""
        self._devices.pop(device, None)

    def knows(self, device: DeviceKey, room_id: str, event: tuple[str, str], since: int) -> bool:
        """Whether the device got this (user, event id) in an answer up to `since`."""
        sent = self._devices.get(device, {}).get((room_id, event[0]))
        return sent is not None and sent[0] == event[1] and sent[1] <= since

    def record(self, device: DeviceKey, room_id: str, event: tuple[str, str], upto: int) -> None:
        """The answer with token `upto` has this (user, event id)."""
        sent = self._devices.setdefault(device, {})
        self._devices.move_to_end(device)
        sent[(room_id, event[0])] = (event[1], upto)
        if len(self._devices) > self._capacity:
            self._devices.popitem(last=False)
