"""Hands out what the log brings to the application services that it is for.

Rules of this file: `published` is called by the writer for every batch: what it does not have to
do is not done (no service, no interest, no encoding); an event is encoded once for all services.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from homeserver.clock import Clock
from homeserver.protocol.app_services import AppService
from homeserver.services.app_services.client import AppServiceClient
from homeserver.services.app_services.device_lists import DeviceListsOfServices
from homeserver.services.app_services.feed import Feed, Means
from homeserver.services.app_services.forms import (
    event_form,
    presence_form,
    receipt_form,
    to_device_form,
    typing_form,
)
from homeserver.services.app_services.interest import Interest
from homeserver.services.app_services.key_counts import KeyCountsOfServices
from homeserver.services.app_services.missed import Missed
from homeserver.services.app_services.registry import Registry
from homeserver.services.app_services.transaction import Batch, Waiting
from homeserver.store import app_services as feed_store
from homeserver.store.app_services import FeedRow
from homeserver.store.database import Database
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
        self._device_lists = DeviceListsOfServices(database, stream.rooms, self.interest)
        self._key_counts = KeyCountsOfServices(database, stream.rooms, stream.key_counts)
        self._feeds: dict[str, Feed] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        missed = Missed(database, stream, self.interest, clock)
        self._means = Means(
            database=database,
            client=client,
            read_behind=missed.after,
            complete=self._complete,
            caught_up=missed.forget,
            position=lambda: stream.writer.position,
        )

    async def start(self) -> None:
        """Take up all feeds where they were, and follow the log."""
        self._stream.writer.on_apply(self.interest.apply)
        self._stream.writer.on_failure(self.interest.fail)
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
        async with self._turn:
            await self.interest.load()
            wanted = {s.id: s for s in self._registry.services if s.url is not None}
            for service_id, feed in list(self._feeds.items()):
                if wanted.get(service_id) is not feed.service:
                    # It is told of what is published until it knows how far it came.
                    await feed.finish()
                    del self._feeds[service_id]
            for service_id, service in wanted.items():
                if service_id not in self._feeds:
                    await self._open_feed(service)

    async def _open_feed(self, service: AppService) -> None:
        async with self._database.connection() as connection:
            row = await feed_store.load(connection, service.id)
            known = row is not None
            row = row or FeedRow(service.id, self._stream.writer.position, 0)
            self._feeds[service.id] = Feed(service, row, self._means, behind=known)
            if not known:
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
                self._typing(change)
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
                    waiting = event_form(change.room_id, room, change.stored, self._clock())
                feed.add_event(waiting)

    def _to_device(self, change: ToDeviceChange) -> None:
        for feed in self._feeds.values():
            if not feed.service.wants_ephemeral:
                continue
            for row in change.messages:
                if feed.service.has_user(row.user_id):
                    device = (row.user_id, row.device_id)
                    feed.add_to_device(to_device_form(device, row.position, row.json))

    def _device_list(self, change: DeviceListChange) -> None:
        if change.only_for is None:
            for feed in self._feeds.values():
                if feed.service.wants_encryption:
                    feed.add_changed_devices(Waiting(change.position, user_id=change.user_id))

    def _typing(self, change: TypingChange) -> None:
        room = self._stream.rooms.peek(change.room_id)
        interested = () if room is None else self.interest.in_room(room)
        for feed in self._feeds.values():
            if feed.service.wants_ephemeral and feed.service.id in interested:
                feed.add_passing(("typing", change.room_id), typing_form(change))

    def _receipt(self, change: ReceiptChange) -> None:
        room = self._stream.rooms.peek(change.room_id)
        for feed in self._feeds.values():
            service = feed.service
            if service.wants_ephemeral and self.interest.in_receipt(service, room, change.row):
                feed.add_receipt(receipt_form(change.room_id, change.row))

    def _presence(self, change: PresenceChange) -> None:
        user_id = change.presence.user_id
        for feed in self._feeds.values():
            if not feed.service.wants_ephemeral:
                continue
            concerned = any(map(feed.service.has_user, change.concerned))
            if concerned or feed.service.has_user(user_id):
                waiting = presence_form(change.presence, change.position, self._clock())
                feed.add_passing(("presence", user_id), waiting)

    # What follows from a batch

    async def _complete(self, service: AppService, batch: Batch) -> None:
        await self._device_lists.complete(service, batch)
        await self._key_counts.complete(service, batch)
