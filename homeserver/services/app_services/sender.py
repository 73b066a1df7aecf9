"""Hands out what the log brings to the application services that it is for.

Rules of this file: `published` is called by the writer for every batch: what it does not have to
do is not done (no service, no interest, no encoding); an event is encoded once for all services.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import structlog

from homeserver.clock import Clock
from homeserver.json_types import JsonObject
from homeserver.protocol.app_services import AppService
from homeserver.services.app_services.client import AppServiceClient
from homeserver.services.app_services.feed import Feed, Means
from homeserver.services.app_services.interest import Interest
from homeserver.services.app_services.registry import Registry
from homeserver.services.app_services.transaction import MAX_TO_DEVICE, Batch, Waiting
from homeserver.store import app_services as feed_store
from homeserver.store.app_services import FeedRow
from homeserver.store.database import Database
from homeserver.store.events import ORDER_STEP
from homeserver.store.receipts import ReceiptRow
from homeserver.stream.changes import (
    Change,
    DeviceListChange,
    EventChange,
    PresenceChange,
    ReceiptChange,
    ToDeviceChange,
    TypingChange,
)
from homeserver.stream.core import StreamCore
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.stored_event import StoredEvent

READ_AT_ONCE = 200
PRIVATE = "m.read.private"

log = structlog.get_logger()


class AppServiceSender:
    """A feed for each application service that has a URL."""

    def __init__(
        self,
        database: Database,
        stream: StreamCore,
        registry: Registry,
        client: AppServiceClient,
        clock: Clock,
    ) -> None:
        self._database = database
        self._stream = stream
        self._registry = registry
        self._clock = clock
        self.interest = Interest(database, registry)
        self._feeds: dict[str, Feed] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._means = Means(
            database=database,
            client=client,
            key_counts=stream.key_counts,
            read_behind=self._read_behind,
            position=lambda: stream.writer.position,
        )

    async def start(self) -> None:
        """Take up all feeds where they were, and follow the log."""
        self._stream.writer.on_apply(self.interest.apply)
        self._stream.writer.on_publish(self.published)
        self._registry.on_change.append(self._changed)
        await self._open_feeds()

    async def stop(self) -> None:
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        await asyncio.gather(*(feed.finish() for feed in self._feeds.values()))

    def _changed(self) -> None:
        """The registrations were read again."""
        task = asyncio.create_task(self._open_feeds())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open_feeds(self) -> None:
        await self.interest.load()
        wanted = {s.id: s for s in self._registry.services if s.url is not None}
        for service_id, feed in list(self._feeds.items()):
            if wanted.get(service_id) is not feed.service:
                del self._feeds[service_id]
                await feed.finish()
        for service_id, service in wanted.items():
            if service_id not in self._feeds:
                async with self._database.connection() as connection:
                    row = await feed_store.load(connection, service_id)
                known = row is not None
                position = self._stream.writer.position
                row = row or FeedRow(service_id, position, 0)
                self._feeds[service_id] = Feed(service, row, self._means, behind=known)
                if not known:
                    async with self._database.connection() as connection:
                        await feed_store.put(connection, row)

    # What the log brings

    def published(self, changes: Sequence[Change]) -> None:
        """Hand out what a batch brings (called by the writer)."""
        if not self._feeds:
            return
        for change in changes:
            if type(change) is EventChange:
                if change.in_timeline:
                    self._event(change)
            elif type(change) is ToDeviceChange:
                self._to_device(change)
            elif type(change) is DeviceListChange:
                self._device_list(change)
            elif type(change) is TypingChange:
                content = {"user_ids": list(change.user_ids)}
                self._in_room("m.typing", change.room_id, content, change.position)
            elif type(change) is ReceiptChange:
                self._receipt(change)
            elif type(change) is PresenceChange:
                self._presence(change)

    def _event(self, change: EventChange) -> None:
        room = self._stream.rooms.peek(change.room_id)
        waiting: Waiting | None = None
        for feed in self._feeds.values():
            if self.interest.in_event(feed.service, room, change.row):
                if waiting is None:
                    order = change.row.timeline_order or 0
                    json = self._client_event(change.room_id, change.stored)
                    waiting = Waiting(order // ORDER_STEP, json)
                feed.add_event(waiting)

    def _client_event(self, room_id: str, stored: StoredEvent) -> bytes:
        client = stored.client_at(self._clock())
        return b'{"room_id":%b,%b' % (msgspec.json.encode(room_id), client[1:])

    def _to_device(self, change: ToDeviceChange) -> None:
        for feed in self._feeds.values():
            if not feed.service.wants_ephemeral:
                continue
            for row in change.messages:
                if feed.service.has_user(row.user_id):
                    device = (row.user_id, row.device_id)
                    feed.add_to_device(_addressed(device, row.position, row.json))

    def _device_list(self, change: DeviceListChange) -> None:
        rooms = None
        for feed in self._feeds.values():
            if not feed.service.wants_encryption or change.only_for is not None:
                continue
            if rooms is None:
                rooms = self._rooms_with(change.user_id)
            if any(feed.service.id in self.interest.in_room(room) for room in rooms):
                feed.add_changed_devices(change.user_id, change.position)

    def _rooms_with(self, user_id: str) -> list[LiveRoom]:
        user = self._stream.users.peek(user_id)
        if user is None:
            return [r for r in self._stream.rooms.in_memory() if r.membership_of(user_id) == "join"]
        found = (self._stream.rooms.peek(room_id) for room_id in user.joined_rooms())
        return [room for room in found if room is not None]

    def _in_room(self, event_type: str, room_id: str, content: JsonObject, position: int) -> None:
        room = self._stream.rooms.peek(room_id)
        if room is None:
            return
        interested = self.interest.in_room(room)
        waiting: Waiting | None = None
        for feed in self._feeds.values():
            if feed.service.wants_ephemeral and feed.service.id in interested:
                if waiting is None:
                    event = {"type": event_type, "room_id": room_id, "content": content}
                    waiting = Waiting(position, msgspec.json.encode(event))
                feed.add_ephemeral(waiting)

    def _receipt(self, change: ReceiptChange) -> None:
        row = change.row
        content = {row.event_id: {row.receipt_type: {row.user_id: _receipt_data(row)}}}
        if row.receipt_type != PRIVATE:
            self._in_room("m.receipt", change.room_id, content, change.position)
            return
        for feed in self._feeds.values():
            if feed.service.wants_ephemeral and feed.service.has_user(row.user_id):
                event = {"type": "m.receipt", "room_id": change.room_id, "content": content}
                feed.add_ephemeral(Waiting(change.position, msgspec.json.encode(event)))

    def _presence(self, change: PresenceChange) -> None:
        user_id = change.presence.user_id
        for feed in self._feeds.values():
            if not feed.service.wants_ephemeral:
                continue
            concerned = any(map(feed.service.has_user, change.concerned))
            if concerned or feed.service.has_user(user_id):
                content = change.presence.content(self._clock())
                event = {"type": "m.presence", "sender": user_id, "content": content}
                feed.add_ephemeral(Waiting(change.position, msgspec.json.encode(event)))

    async def _read_behind(self, service: AppService, position: int) -> Batch:
        """The oldest that a service hasn't got, from Postgres."""
        upto = self._stream.writer.position
        async with self._database.connection() as connection:
            found = await feed_store.events_after(connection, position, READ_AT_ONCE)
            rows = await feed_store.to_device_after(
                connection, service.id, position, MAX_TO_DEVICE if service.wants_ephemeral else 0
            )
            await self._stream.rooms.learn_rules(connection, [row.room_number for _, row in found])
            stored = await self._stream.rooms.events.adopt(
                connection, [row for _, row in found], self._stream.rooms.rules_of
            )
        if len(found) == READ_AT_ONCE:
            upto = found[-1][1].number
        if rows and len(rows) == MAX_TO_DEVICE:
            upto = min(upto, rows[-1][2])
        batch = Batch(upto)
        room_ids = {room_id for room_id, row in found if row.number <= upto}
        rooms = await self._stream.rooms.get_many(room_ids)
        for (room_id, row), event in zip(found, stored, strict=True):
            room = rooms.get(room_id)
            if row.number <= upto and (
                self.interest.in_event(service, room, row)
                or (room is not None and self.interest.had_member(service, room, row.number))
            ):
                batch.events.append(Waiting(row.number, self._client_event(room_id, event)))
        batch.to_device = [_addressed((r[0], r[1]), r[2], r[3]) for r in rows if r[2] <= upto]
        return batch


def _addressed(device: tuple[str, str], position: int, json: bytes) -> Waiting:
    """A to-device message as a service gets it: it has many devices (MSC4203)."""
    user_id, device_id = (msgspec.json.encode(part) for part in device)
    whom = b'{"to_user_id":%b,"to_device_id":%b,' % (user_id, device_id)
    return Waiting(position, whom + json[1:], device)


def _receipt_data(row: ReceiptRow) -> JsonObject:
    data: JsonObject = {"ts": row.ts}
    if row.thread_id:
        data["thread_id"] = row.thread_id
    return data
