"""The messages that wait for local devices, the oldest of them in memory.

Rules of this file:
- What a token has acknowledged is never shown again: a sync reads above its token, always. That
  the rows go away is housekeeping, done in batches.
- `Inbox.complete`: every message above `floor` is in `messages`. If it isn't, those in memory are
  still the oldest ones, and what arrives stays in Postgres only.
client-server-api#send-to-device-messaging
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence

import structlog
from msgspec import Struct, field

from homeserver.clock import Clock
from homeserver.errors import Unavailable
from homeserver.store import to_device as to_device_store
from homeserver.store.database import Database
from homeserver.store.to_device import DeviceKey
from homeserver.stream.changes import Change, DeviceListChange, ToDeviceChange

PER_SYNC = 100
"""The specification's recommendation."""
IN_MEMORY = 300
HOUSEKEEPING_SECONDS = 1.0
TRANSACTIONS_KEPT_MS = 24 * 3600 * 1000
FORGET_TRANSACTIONS_EVERY_MS = 3600 * 1000

log = structlog.get_logger()


class Inbox(Struct, eq=False):
    """One device's messages: (position, json), the oldest first."""

    floor: int
    messages: deque[tuple[int, bytes]] = field(default_factory=deque)
    complete: bool = False
    arriving: list[tuple[int, bytes]] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def arrive(self, position: int, json: bytes) -> None:
        if self.arriving is not None:
            self.arriving.append((position, json))
        elif self.complete:
            self.messages.append((position, json))
            self.complete = len(self.messages) < IN_MEMORY


class Waiting(Struct, frozen=True):
    """Messages for a sync. `upto` is the position of the last if there are more, else None."""

    messages: Sequence[bytes]
    upto: int | None = None


NOTHING = Waiting(())


class Inboxes:
    """The inboxes of the `capacity` devices that synced last."""

    def __init__(self, database: Database, clock: Clock, *, capacity: int) -> None:
        self._database = database
        self._clock = clock
        self._capacity = capacity
        self._inboxes: OrderedDict[DeviceKey, Inbox] = OrderedDict()
        self._delivered: dict[DeviceKey, int] = {}
        self._transactions_forgotten_at = 0

    async def read(self, device: DeviceKey, after: int, upto: int) -> Waiting:
        """The oldest messages above `after`, which the device has said to have got."""
        inbox = self._inboxes.get(device)
        if inbox is None or after < inbox.floor:
            inbox = self._new_inbox(device, after)
        else:
            self._inboxes.move_to_end(device)
        self._acknowledge(device, inbox, after)
        if not inbox.complete and len(inbox.messages) <= PER_SYNC:
            async with inbox.lock:
                await self._load(device, inbox)
        if not inbox.messages:
            return NOTHING
        found = [message for message in inbox.messages if after < message[0] <= upto]
        shown = [json for _, json in found[:PER_SYNC]]
        return Waiting(shown, found[PER_SYNC - 1][0] if len(found) > PER_SYNC else None)

    def _new_inbox(self, device: DeviceKey, after: int) -> Inbox:
        """An inbox that nothing is known of yet; rows below may be left over."""
        inbox = self._inboxes[device] = Inbox(after)
        self._inboxes.move_to_end(device)
        if after:
            self._delivered[device] = max(after, self._delivered.get(device, 0))
        if len(self._inboxes) > self._capacity:
            self._inboxes.popitem(last=False)
        return inbox

    def _acknowledge(self, device: DeviceKey, inbox: Inbox, after: int) -> None:
        messages = inbox.messages
        if messages and messages[0][0] <= after:
            while messages and messages[0][0] <= after:
                messages.popleft()
            self._delivered[device] = max(after, self._delivered.get(device, 0))
        inbox.floor = max(inbox.floor, after)

    async def _load(self, device: DeviceKey, inbox: Inbox) -> None:
        """Fill up from Postgres. What arrives meanwhile is behind all that the query sees."""
        if inbox.complete or len(inbox.messages) > PER_SYNC:
            return
        arriving = inbox.arriving = []
        after = inbox.messages[-1][0] if inbox.messages else inbox.floor
        try:
            async with self._database.connection() as connection:
                rows = await to_device_store.waiting(connection, device, after, IN_MEMORY)
        finally:
            inbox.arriving = None
        inbox.messages.extend(rows)
        if len(rows) < IN_MEMORY:
            last = rows[-1][0] if rows else after
            inbox.messages.extend(message for message in arriving if message[0] > last)
            inbox.complete = True

    def apply(self, changes: Sequence[Change]) -> None:
        """Take in a committed batch (called by the writer)."""
        for change in changes:
            if isinstance(change, ToDeviceChange):
                for row in change.messages:
                    inbox = self._inboxes.get((row.user_id, row.device_id))
                    if inbox is not None:
                        inbox.arrive(row.position, row.json)
            elif isinstance(change, DeviceListChange) and change.is_deleted:
                self._inboxes.pop((change.user_id, change.device_id), None)

    def fail(self, changes: Sequence[Change]) -> None:
        """A commit failed and may yet have been carried out: read everything again."""
        self._inboxes.clear()

    async def run(self) -> None:
        """The housekeeping, until cancelled."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            try:
                await self.clean()
            except Unavailable as error:
                log.warning("delivered messages not deleted", reason=error.message)

    async def clean(self) -> None:
        """Delete what was delivered, and transaction ids that nobody will repeat."""
        now = self._clock()
        is_time = now - self._transactions_forgotten_at > FORGET_TRANSACTIONS_EVERY_MS
        delivered = dict(self._delivered)
        if not delivered and not is_time:
            return
        async with self._database.connection() as connection:
            if delivered:
                await to_device_store.delete(connection, delivered)
            if is_time:
                before = now - TRANSACTIONS_KEPT_MS
                await to_device_store.forget_transactions(connection, before)
                self._transactions_forgotten_at = now
        for device, position in delivered.items():
            if self._delivered.get(device) == position:
                del self._delivered[device]
