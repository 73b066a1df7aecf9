"""One application service being served: transactions in the order of the log, each until taken.

Rules of this file:
- A transaction is written down with its id before it is sent, and sent as it was written until
  it is taken: over restarts too, the same id has the same content. That it was taken may be
  written down with the next one: a service that is asked twice knows the id.
- While the feed is `behind`, events and to-device messages are read from Postgres; ephemeral data
  that came meanwhile is not kept for it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from msgspec import Struct
from msgspec.structs import replace

from homeserver.errors import Unavailable
from homeserver.protocol.app_services import AppService
from homeserver.services.app_services.client import AppServiceClient, AppServiceFailed
from homeserver.services.app_services.transaction import (
    MAX_EPHEMERAL,
    MAX_EVENTS,
    MAX_TO_DEVICE,
    Batch,
    Waiting,
)
from homeserver.store import app_services as feed_store
from homeserver.store import to_device as to_device_store
from homeserver.store.app_services import FeedRow
from homeserver.store.database import Database
from homeserver.stream.key_counts import KeyCounts

MAX_QUEUE = 2_000
BETWEEN_TRANSACTIONS_SECONDS = 0.05
FIRST_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 600.0
DATABASE_PATIENCE_SECONDS = 2.0
FINISH_SECONDS = 5.0

log = structlog.get_logger()

ReadBehind = Callable[[AppService, int], Awaitable[Batch]]
"""The oldest that a service hasn't got above a position; an empty batch may end further on."""


class Means(Struct, frozen=True):
    """What all feeds share. `position`: what is visible."""

    database: Database
    client: AppServiceClient
    key_counts: KeyCounts
    read_behind: ReadBehind
    position: Callable[[], int]


class Feed:
    """Serves one service. It has a task only while there is something to send."""

    def __init__(self, service: AppService, row: FeedRow, means: Means, *, behind: bool) -> None:
        self.service = service
        self._row = row
        self._means = means
        self._behind = behind
        self._events: deque[Waiting] = deque()
        self._ephemeral: deque[Waiting] = deque()
        self._to_device: deque[Waiting] = deque()
        self._changed_devices: dict[str, int] = {}
        self._published = row.position
        self._failures = 0
        self._began = 0.0
        self._is_asking = False
        self._is_ending = False
        self._is_restored = row.sending is not None
        self._task: asyncio.Task[None] | None = None
        if behind or row.sending is not None:
            self._work()

    def add_event(self, waiting: Waiting) -> None:
        self._add(self._events, waiting)

    def add_to_device(self, waiting: Waiting) -> None:
        self._add(self._to_device, waiting)

    def add_ephemeral(self, waiting: Waiting) -> None:
        """Typing, receipts, presence: not kept while the service doesn't answer."""
        if not self._behind and not self._failures:
            self._ephemeral.append(waiting)
            if len(self._ephemeral) > MAX_QUEUE:
                self._ephemeral.popleft()
            self._work()

    def add_changed_devices(self, user_id: str, position: int) -> None:
        self._changed_devices[user_id] = position
        self._work()

    async def finish(self) -> None:
        """End, but for a request that is under way: a while is waited for its answer."""
        self._is_ending = True
        task = self._task
        if task is not None:
            if self._is_asking:
                await asyncio.wait([task], timeout=FINISH_SECONDS)
            task.cancel()
            await asyncio.wait([task])
        if not self._has_work:
            # Nothing up to now is left to send: the next start needn't look for it.
            self._row = replace(self._row, position=self._means.position())
            with suppress(Unavailable):
                await self._save()

    def _add(self, queue: deque[Waiting], waiting: Waiting) -> None:
        self._published = waiting.position
        if not self._behind:
            queue.append(waiting)
            if len(queue) > MAX_QUEUE:
                self._events.clear()
                self._to_device.clear()
                self._behind = True
        self._work()

    def _work(self) -> None:
        if self._task is None and not self._is_ending:
            self._task = asyncio.create_task(self._run(), name=f"app-service-{self.service.id}")

    @property
    def _has_work(self) -> bool:
        queued = self._events or self._ephemeral or self._to_device or self._changed_devices
        return bool(queued or self._behind or self._row.sending is not None)

    async def _run(self) -> None:
        try:
            while self._has_work and not self._is_ending:
                try:
                    await self._step()
                except Unavailable:
                    await asyncio.sleep(DATABASE_PATIENCE_SECONDS)
        except asyncio.CancelledError:
            raise
        except Exception:
            # A fault of ours: what was not sent is read from Postgres at the next event.
            log.exception("serving an application service failed", id=self.service.id)
            self._behind = True
        self._task = None

    async def _step(self) -> None:
        has_messages = self._is_restored
        self._is_restored = False
        if self._row.sending is None:
            await self._gather()
            batch = await self._next_batch()
            if not batch:
                self._row = replace(self._row, position=max(self._row.position, batch.upto))
                await self._save()
                return
            has_messages = bool(batch.to_device)
            await self._add_key_counts(batch)
            self._row = replace(
                self._row,
                txn_id=self._row.txn_id + 1,
                sending=batch.body(),
                sending_upto=max(batch.upto, self._row.position),
            )
            await self._save()
        await self._send_until_taken()
        if self._row.sending is None and has_messages:
            async with self._means.database.connection() as connection:
                upto = self._row.position
                await to_device_store.delete_of_app_service(connection, self.service.id, upto)

    async def _gather(self) -> None:
        """Under load, let a little more come together; what comes after a pause isn't delayed."""
        now = asyncio.get_running_loop().time()
        wait = self._began + BETWEEN_TRANSACTIONS_SECONDS - now
        if wait > 0:
            await asyncio.sleep(wait)
        self._began = now + max(wait, 0.0)

    async def _save(self) -> None:
        async with self._means.database.connection() as connection:
            await feed_store.put(connection, self._row)

    async def _send_until_taken(self) -> None:
        while not self._is_ending:
            body = self._row.sending
            assert body is not None
            self._is_asking = True
            try:
                await self._means.client.send_transaction(self.service, self._row.txn_id, body)
            except AppServiceFailed as failed:
                self._is_asking = False
                await self._back_off(failed)
                continue
            self._failures = 0
            upto = self._row.sending_upto or self._row.position
            self._row = replace(self._row, position=upto, sending=None, sending_upto=None)
            if not self._has_work or self._is_ending:
                await self._save()  # otherwise the next transaction's row says it too
            self._is_asking = False
            return

    async def _back_off(self, failed: AppServiceFailed) -> None:
        wait = min(FIRST_BACKOFF_SECONDS * 2 ** min(self._failures, 20), MAX_BACKOFF_SECONDS)
        self._failures += 1
        self._ephemeral.clear()
        log.info(
            "an application service failed",
            id=self.service.id,
            reason=str(failed),
            failures=self._failures,
        )
        await asyncio.sleep(wait * (0.8 + 0.4 * random.random()))  # noqa: S311

    async def _next_batch(self) -> Batch:
        if not self._behind:
            return self._queued()
        upto = self._means.position()
        batch = await self._means.read_behind(self.service, self._row.position)
        batch.changed_devices = set(self._changed_devices)
        self._changed_devices.clear()
        # What is published while Postgres is asked is found there the next time.
        if not batch and batch.upto >= upto and self._published <= upto:
            self._behind = False
        return batch

    def _queued(self) -> Batch:
        batch = Batch(self._row.position)
        batch.events = _take(self._events, MAX_EVENTS)
        upto = self._events[0].position - 1 if self._events else None
        while self._to_device and len(batch.to_device) < MAX_TO_DEVICE:
            if upto is not None and self._to_device[0].position > upto:
                break
            batch.to_device.append(self._to_device.popleft())
        batch.ephemeral = _take(self._ephemeral, MAX_EPHEMERAL)
        batch.changed_devices = set(self._changed_devices)
        self._changed_devices.clear()
        last = [w[-1].position for w in (batch.events, batch.to_device) if w]
        batch.upto = max([self._row.position, *last])
        if self._to_device:
            batch.upto = min(batch.upto, self._to_device[0].position - 1)
        return batch

    async def _add_key_counts(self, batch: Batch) -> None:
        """Who was sent messages has lost one-time keys, and should know how many are left."""
        if not self.service.wants_encryption:
            return
        for user_id, device_id in batch.delivered():
            left = await self._means.key_counts.of((user_id, device_id))
            batch.key_counts.setdefault(user_id, {})[device_id] = left.counts
            types = left.unused_fallback_types
            batch.fallback_types.setdefault(user_id, {})[device_id] = types


def _take(queue: deque[Waiting], limit: int) -> list[Waiting]:
    return [queue.popleft() for _ in range(min(limit, len(queue)))]
