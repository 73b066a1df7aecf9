"""What waits for one application service in memory, until it goes into a transaction.

Rules of this file: what Postgres has too (`events`, `to_device`, `receipts`, `devices`) is taken in
the order of the log, all kinds up to one position: so the position that a service was served up to
says of everything whether it was. Typing and presence are not stored: of them the newest is kept.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable

from homeserver.services.app_services.transaction import Batch, Waiting

MAX_WAITING = 2_000
AT_ONCE = 100
"""So many of each kind go into one transaction."""


class Queues:
    """Whether it is empty is its truth value."""

    def __init__(self) -> None:
        self.events: deque[Waiting] = deque()
        self.to_device: deque[Waiting] = deque()
        self.receipts: deque[Waiting] = deque()
        self.devices: deque[Waiting] = deque()
        self._passing: OrderedDict[Hashable, Waiting] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._passing) or any(self._stored)

    @property
    def _stored(self) -> tuple[deque[Waiting], ...]:
        return (self.events, self.to_device, self.receipts, self.devices)

    @property
    def is_too_long(self) -> bool:
        """Then Postgres keeps it better than we."""
        return any(len(queue) > MAX_WAITING for queue in self._stored)

    def clear(self) -> None:
        """Throw away what is in Postgres."""
        for queue in self._stored:
            queue.clear()

    def put_passing(self, key: Hashable, waiting: Waiting) -> None:
        """Who types in a room, or a user's presence: what was said under this key is over."""
        self._passing.pop(key, None)
        self._passing[key] = waiting
        if len(self._passing) > MAX_WAITING:
            self._passing.popitem(last=False)

    def take(self, position: int) -> Batch:
        """The next of all kinds. `position`: up to where nothing is left if nothing waits."""
        upto = self._upto()
        batch = Batch(position if upto is None else upto)
        batch.events = _take(self.events, upto)
        batch.to_device = _take(self.to_device, upto)
        batch.devices = _take(self.devices, upto)
        batch.ephemeral = _take(self.receipts, upto)
        self.take_passing(batch)
        return batch

    def take_passing(self, batch: Batch) -> None:
        """Put what isn't stored into a batch."""
        while self._passing and len(batch.ephemeral) < 2 * AT_ONCE:
            batch.ephemeral.append(self._passing.popitem(last=False)[1])

    def _upto(self) -> int | None:
        """Up to which position everything goes into the next transaction.

        No position is torn apart: one message to many devices has one.
        """
        waiting = [queue for queue in self._stored if queue]
        if not waiting:
            return None
        last = max(queue[-1].position for queue in waiting)
        ends = [queue[AT_ONCE].position - 1 for queue in waiting if len(queue) > AT_ONCE]
        first = min(queue[0].position for queue in waiting)
        return max(first, min([last, *ends]))


def _take(queue: deque[Waiting], upto: int | None) -> list[Waiting]:
    taken = []
    while upto is not None and queue and queue[0].position <= upto:
        taken.append(queue.popleft())
    return taken
