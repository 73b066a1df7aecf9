"""What one member has not read of a room in memory: counted once, then kept current.

Rules of this file: events count after `start` (the member's join, or an unthreaded receipt), in a
thread after what was read of it; an own message reads its thread. What is below `floor` was counted
by Postgres (`deep`), what is above is in the room's timeline (`recent`).
client-server-api#receiving-notifications
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, field

from homeserver.protocol.push_outcomes import HIGHLIGHT, MAIN, NO_PUSH
from homeserver.store.events import LOWEST_ORDER, ORDER_STEP

if TYPE_CHECKING:
    from homeserver.store.receipts import ReceiptRow
    from homeserver.stream.stored_event import StoredEvent

READ_TYPES = ("m.read", "m.read.private")

Counts = dict[str, list[int]]
"""Notifications and highlights by thread."""

SetAt = Callable[[int], int]
"""The number of the rule set that the member was on at a stream position."""


class Reads(Struct):
    """Up to where a user has read, by thread ('' is an unthreaded receipt).

    `position` is the stream position of the newest receipt.
    """

    threads: dict[str, int] = field(default_factory=dict)
    position: int = 0

    def put(self, row: ReceiptRow) -> None:
        """ "the receipt which is more "ahead" or "recent" is used" """
        self.position = max(self.position, row.position)
        known = self.threads.get(row.thread_id, LOWEST_ORDER)
        self.threads[row.thread_id] = max(known, row.event_order)

    def start(self, joined: int) -> int:
        return max(joined, self.threads.get("", LOWEST_ORDER))

    def above(self, start: int) -> dict[str, int]:
        """What was read of threads, as far as it is not before `start`."""
        return {t: order for t, order in self.threads.items() if t and order > start}


class UserUnread(Struct):
    """`changed_at`: stream position at which the counts last changed. `upto`: what is counted.

    `deep` is None where Postgres has to be asked; `stale` where all has to be looked at again.
    """

    start: int
    reads: dict[str, int]
    floor: int
    deep: Counts | None
    upto: int
    changed_at: int = 0
    stale: bool = False
    recent: Counts = field(default_factory=dict)

    def take_in(
        self,
        events: Iterable[tuple[int, StoredEvent]],
        user_id: str,
        ignored: frozenset[str],
        set_at: SetAt,
    ) -> None:
        """Count events above `upto`, with their orders."""
        for order, stored in events:
            self.upto = order
            if stored.sender == user_id:
                if stored.state_key is None:
                    self._read(stored.thread_root or MAIN, order)
                continue
            push = stored.push
            if push is NO_PUSH or stored.redacted_by is not None or stored.sender in ignored:
                continue
            bits = push.of(user_id, set_at(order // ORDER_STEP) if push.sets else 0)
            if bits:
                self._count(stored.thread_root or MAIN, order, bits)

    def _count(self, thread: str, order: int, bits: int) -> None:
        if order <= self.reads.get(thread, self.start):
            return
        counts = self.recent.get(thread)
        if counts is None:
            counts = self.recent[thread] = [0, 0]
        counts[0] += 1
        counts[1] += bits & HIGHLIGHT != 0
        self.changed_at = order // ORDER_STEP

    def _read(self, thread: str, order: int) -> None:
        """ "When the user updates their read receipt (either by using the API or by sending an
        event), notifications prior to and including that event MUST be marked as read." """
        self.reads[thread] = max(order, self.reads.get(thread, order))
        gone = self.recent.pop(thread, None)
        if (self.deep or {}).pop(thread, None) or gone:
            self.changed_at = order // ORDER_STEP

    def reread(self, start: int, reads: Mapping[str, int]) -> None:
        """Start again after a receipt; what Postgres counted is kept as far as it still holds."""
        moved = {t: o for t, o in reads.items() if o > self.reads.get(t, self.start)}
        if start >= self.floor:
            self.deep = {}
        elif start != self.start or any(order < self.floor for order in moved.values()):
            self.deep = None
        elif self.deep:
            for thread in moved:
                self.deep.pop(thread, None)
        self.start = start
        self.reads = dict(reads)
        self.recent = {}
        self.upto = max(start, self.floor)
        self.stale = False

    def has_read(self, thread: str, order: int) -> bool:
        """Whether the member has read an event of a thread."""
        return order <= self.reads.get(thread, self.start)

    def totals(self) -> tuple[int, int]:
        """Notifications and highlights of the room with all its threads."""
        notifications = highlights = 0
        for counts in (self.recent, self.deep or {}):
            for found in counts.values():
                notifications += found[0]
                highlights += found[1]
        return notifications, highlights

    def by_thread(self) -> Counts:
        """Threads (and the main timeline) that have any."""
        merged = {thread: list(found) for thread, found in (self.deep or {}).items()}
        for thread, found in self.recent.items():
            known = merged.setdefault(thread, [0, 0])
            known[0] += found[0]
            known[1] += found[1]
        return merged
