"""One application service being served: transactions in the order of the log, each until taken.

Rules of this file:
- A transaction is written down with its id before it is sent, and sent as it was written until
  it is taken: over restarts too, the same id has the same content. That it was taken may be
  written down with the next one: a service that is asked twice knows the id.
- While the feed is `behind`, all that is stored is read from Postgres, above the position up to
  which the service has taken it. Who types and who is online is not stored: the service is told
  of the newest that was published since the server started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress

import structlog
from msgspec import Struct
from msgspec.structs import replace

from homeserver import background
from homeserver.backoff import Backoff
from homeserver.errors import Unavailable
from homeserver.protocol.app_services import AppService
from homeserver.services.app_services.client import AppServiceClient, AppServiceFailed
from homeserver.services.app_services.queues import Queues
from homeserver.services.app_services.transaction import Batch, Waiting
from homeserver.store import app_services as feed_store
from homeserver.store import to_device as to_device_store
from homeserver.store.app_services import FeedRow
from homeserver.store.database import Database

BETWEEN_TRANSACTIONS_SECONDS = 0.05
BACKOFF_SECONDS = Backoff(1.0, 600.0)
FINISH_SECONDS = 5.0

log = structlog.get_logger()

ReadBehind = Callable[[AppService, int], Awaitable[Batch]]
"""The oldest that a service hasn't got above a position; an empty batch may end further on."""

Complete = Callable[[AppService, Batch], Awaitable[None]]
"""Puts into a batch what follows from what is in there: device lists, counts of keys."""


class Means(Struct, frozen=True):
    """What all feeds share. `position`: what is visible; `caught_up`: is told of who is."""

    database: Database
    client: AppServiceClient
    read_behind: ReadBehind
    complete: Complete
    caught_up: Callable[[AppService], None]
    position: Callable[[], int]


class Feed:
    """Serves one service. It has a task only while there is something to send."""

    def __init__(self, service: AppService, row: FeedRow, means: Means, *, behind: bool) -> None:
        self.service = service
        self._row = row
        self._means = means
        self._behind = behind
        self._queues = Queues()
        self._published = row.position
        self._failures = 0
        self._began = 0.0
        self._is_asking = False
        self._is_ending = False
        self._is_preparing = False
        """What was taken from the queues isn't written down yet."""
        self._is_restored = row.sending is not None
        self._task: asyncio.Task[None] | None = None
        if behind or row.sending is not None:
            self._work()

    def add_event(self, waiting: Waiting) -> None:
        self._add(self._queues.events.append, waiting)

    def add_to_device(self, waiting: Waiting) -> None:
        self._add(self._queues.to_device.append, waiting)

    def add_receipt(self, waiting: Waiting) -> None:
        self._add(self._queues.receipts.append, waiting)

    def add_changed_devices(self, waiting: Waiting) -> None:
        """Of a user, who need not be one whom the service knows."""
        self._add(self._queues.devices.append, waiting)

    def add_passing(self, key: Hashable, waiting: Waiting) -> None:
        """Typing, presence: what was said earlier under the key is over."""
        self._queues.put_passing(key, waiting)
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
        if not self._has_work and not self._is_preparing:
            # Nothing up to now is left to send: the next start needn't look for it.
            self._row = replace(self._row, position=self._means.position())
            with suppress(Unavailable):
                await self._save()

    def _add(self, put: Callable[[Waiting], None], waiting: Waiting) -> None:
        self._published = waiting.position
        if not self._behind:
            put(waiting)
            if self._queues.is_too_long:
                self._fall_behind()
        self._work()

    def _work(self) -> None:
        if self._task is None and not self._is_ending:
            self._task = asyncio.create_task(self._run(), name=f"app-service-{self.service.id}")

    @property
    def _has_work(self) -> bool:
        return bool(self._queues or self._behind or self._row.sending is not None)

    async def _run(self) -> None:
        await background.follow(
            lambda: self._has_work and not self._is_ending, self._step, self._fall_behind
        )
        self._task = None

    def _fall_behind(self) -> None:
        """What was taken from the queues for a transaction that wasn't made is read again."""
        self._queues.clear()
        self._behind = True

    async def _step(self) -> None:
        has_messages = self._is_restored
        self._is_restored = False
        if self._row.sending is None:
            await self._gather()
            self._is_preparing = True
            batch = await self._next_batch()
            await self._means.complete(self.service, batch)
            await self._prepare(batch)
            self._is_preparing = False
            if not batch:
                return
            has_messages = bool(batch.to_device)
        await self._send_until_taken()
        if self._row.sending is None and has_messages:
            async with self._means.database.connection() as connection:
                upto = self._row.position
                await to_device_store.delete_of_app_service(connection, self.service.id, upto)

    async def _prepare(self, batch: Batch) -> None:
        """Write a batch down as the transaction that is being sent, if there is anything in it."""
        reached = max(self._row.position, batch.upto)
        if not batch:
            self._row = replace(self._row, position=reached)
            return
        txn_id, body = self._row.txn_id + 1, batch.body()
        await self._save(replace(self._row, txn_id=txn_id, sending=body, sending_upto=reached))

    async def _gather(self) -> None:
        """Under load, let a little more come together; what comes after a pause isn't delayed."""
        now = asyncio.get_running_loop().time()
        wait = self._began + BETWEEN_TRANSACTIONS_SECONDS - now
        if wait > 0:
            await asyncio.sleep(wait)
        self._began = now + max(wait, 0.0)

    async def _save(self, row: FeedRow | None = None) -> None:
        """Write down how far it is; `row` is how far from now on."""
        async with self._means.database.connection() as connection:
            await feed_store.put(connection, row or self._row)
        self._row = row or self._row

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
        self._failures += 1
        log.info(
            "an application service failed",
            id=self.service.id,
            reason=str(failed),
            failures=self._failures,
        )
        await asyncio.sleep(BACKOFF_SECONDS.after(self._failures))

    async def _next_batch(self) -> Batch:
        if not self._behind:
            return self._queues.take(self._row.position)
        upto = self._means.position()
        batch = await self._means.read_behind(self.service, self._row.position)
        # What is published while Postgres is asked is found there the next time.
        if batch.is_empty and batch.upto >= upto and self._published <= upto:
            self._behind = False
            self._means.caught_up(self.service)
        self._queues.take_passing(batch)
        return batch
