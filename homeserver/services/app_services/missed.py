"""What an application service has not got, read from Postgres in the order of the log."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.protocol.app_services import AppService
from homeserver.services.app_services.forms import event_form, receipt_form, to_device_form
from homeserver.services.app_services.interest import Interest
from homeserver.services.app_services.transaction import Batch, Waiting
from homeserver.store import app_services as feed_store
from homeserver.store.database import Connection, Database
from homeserver.store.events import ORDER_STEP, EventRow
from homeserver.store.receipts import ReceiptRow
from homeserver.stream.core import StreamCore
from homeserver.stream.stored_event import StoredEvent

EVENTS = 200
TO_DEVICE = 100
RECEIPTS = 1000
DEVICES = 1000


class _Receipts(Struct, frozen=True):
    """All receipts between two positions."""

    after: int
    upto: int
    rows: Sequence[tuple[str, ReceiptRow]]


class _Page(Struct):
    """Of each kind the oldest; `upto`: up to where none is missing."""

    upto: int
    events: Sequence[tuple[str, EventRow, StoredEvent]] = ()
    to_device: Sequence[Waiting] = ()
    devices: Sequence[Waiting] = ()
    receipts: Sequence[tuple[str, ReceiptRow]] = ()


class Missed:
    """Reads the next batch for a service that doesn't get what is published."""

    def __init__(
        self, database: Database, stream: StreamCore, interest: Interest, clock: Clock
    ) -> None:
        self._database = database
        self._stream = stream
        self._interest = interest
        self._clock = clock
        self._receipts: dict[str, _Receipts] = {}

    async def after(self, service: AppService, position: int) -> Batch:
        """The oldest that it hasn't got above a position; an empty batch may end further on."""
        async with self._database.connection() as connection:
            page = await self._read(connection, service, position)
        batch = Batch(page.upto)
        batch.to_device = [w for w in page.to_device if w.position <= page.upto]
        batch.devices = [w for w in page.devices if w.position <= page.upto]
        events = [found for found in page.events if _told_at(found[1]) <= page.upto]
        receipts = [found for found in page.receipts if found[1].position <= page.upto]
        room_ids = {found[0] for found in events} | {found[0] for found in receipts}
        rooms = await self._stream.rooms.get_many(room_ids)
        now = self._clock()
        for room_id, row, stored in events:
            room = rooms.get(room_id)
            if self._interest.in_event(service, room, row) or (
                room is not None and self._interest.had_member(service, room, _told_at(row))
            ):
                batch.events.append(event_form(room_id, room, stored, now))
        for room_id, receipt in receipts:
            if self._interest.in_receipt(service, rooms.get(room_id), receipt):
                batch.ephemeral.append(receipt_form(room_id, receipt))
        return batch

    async def _read(self, connection: Connection, service: AppService, position: int) -> _Page:
        page = _Page(self._stream.writer.position)
        rows = await feed_store.events_after(connection, position, EVENTS)
        if len(rows) == EVENTS:
            page.upto = _told_at(rows[-1][1])
        rooms = self._stream.rooms
        await rooms.learn_rules(connection, [row.room_number for _, row in rows])
        stored = await rooms.events.adopt(connection, [row for _, row in rows], rooms.rules_of)
        page.events = [(r, row, event) for (r, row), event in zip(rows, stored, strict=True)]
        if service.wants_ephemeral:
            found = await feed_store.to_device_after(connection, service.id, position, TO_DEVICE)
            page.to_device = [to_device_form((u, d), at, json) for u, d, at, json in found]
            if len(found) >= TO_DEVICE:
                page.upto = min(page.upto, page.to_device[-1].position)
            page.receipts = await self._receipts_after(connection, service, position, page)
        if service.wants_encryption:
            changes = await feed_store.device_changes_after(connection, position, DEVICES)
            page.devices = [Waiting(at, user_id=user_id) for at, user_id in changes]
            if len(changes) == DEVICES:
                page.upto = min(page.upto, page.devices[-1].position)
        return page

    async def _receipts_after(
        self, connection: Connection, service: AppService, position: int, page: _Page
    ) -> Sequence[tuple[str, ReceiptRow]]:
        """Read once for several pages of events: each reading looks at all receipts."""
        known = self._receipts.get(service.id)
        if known is None or position < known.after or page.upto > known.upto:
            upto = self._stream.writer.position
            rows = await feed_store.receipts_after(connection, position, upto, RECEIPTS)
            if len(rows) == RECEIPTS:
                upto = rows[-1][1].position
            known = self._receipts[service.id] = _Receipts(position, upto, rows)
        page.upto = min(page.upto, known.upto)
        return [found for found in known.rows if found[1].position > position]

    def forget(self, service: AppService) -> None:
        """It has caught up."""
        self._receipts.pop(service.id, None)


def _told_at(row: EventRow) -> int:
    """The position at which a live event was told: a later one than its number, if it was stored
    before it got its place."""
    assert row.timeline_order is not None
    return row.timeline_order // ORDER_STEP
