"""The one door: every change enters here, is committed in a group, gets its position, is published.

Rules of this file:
- Positions are given out by `allocate` in memory and submitted in that order, with no `await`
  between: the queue's order is the order of positions.
- A position is visible (`position`) if and only if it is committed and published, and all
  positions below it are too.
- If a commit fails, so does everything that was queued behind it: it may be built on it. But if
  Postgres refuses one change for what it holds, only that and what is queued for its room fail.
- After a commit: apply to what is in memory, make the position visible, answer the senders, wake
  the sleepers. All of it in one step without an `await`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from msgspec import Struct

from homeserver.errors import Unavailable
from homeserver.histogram import Histogram
from homeserver.store import stream_positions
from homeserver.store.database import Connection, Database, unavailable_if_lost
from homeserver.stream.changes import Change, EventChange, MembershipChange, OutliersChange

log = structlog.get_logger(__name__)

RESERVED_AT_ONCE = 100_000
MAX_BATCH = 1000
RECONNECT_SECONDS = 0.5
CLOSE_SECONDS = 5.0
LOCK_PATIENCE_SECONDS = 5.0


Write = Callable[[Connection, Any], Awaitable[None]]
Published = Callable[[Sequence[Change]], None]


class _Submission(Struct):
    changes: tuple[Change, ...]
    done: asyncio.Future[None]

    def rooms(self) -> set[str]:
        """The rooms whose heads these changes move: what comes next there is built on them."""
        kinds = EventChange | OutliersChange | MembershipChange
        return {change.room_id for change in self.changes if isinstance(change, kinds)}


class _BadChange(Exception):
    """Postgres refuses what one submission wants to have written; `error` says why."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class StreamWriter:
    """Commits changes in groups and publishes them in order.

    `tables` maps a change's type to the coroutine that writes a batch of that type, in the order in
    which types are written; a type with None is published without being stored (typing).
    `is_one_statement` tells of changes of one type whether a single statement writes them all.
    """

    def __init__(
        self,
        database: Database,
        tables: dict[type, Write | None],
        is_one_statement: Callable[[Sequence[Any]], bool],
        commit_seconds: Histogram,
        batch_sizes: Histogram,
    ) -> None:
        self._database = database
        self._tables = tables
        self._is_one_statement = is_one_statement
        self._connection: Connection | None = None
        self._queue: list[_Submission] = []
        self._in_flight: list[_Submission] = []
        self._singly = 0
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._allocated = 0
        self._reserved = 0
        self._apply: list[Published] = []
        self._wake: list[Published] = []
        self._failed: list[Published] = []
        self.position = 0
        self.commit_seconds = commit_seconds
        self.batch_sizes = batch_sizes

    async def start(self) -> None:
        """Take the writer lock and go on above every position that was ever given out.

        Raises Unavailable if the database can't be reached, WriterLockTaken if another server
        process writes to this database.
        """
        self._connection = await self._database.dedicated()
        self._reserved = await self._take_lock(self._connection)
        self._allocated = self.position = self._reserved
        self._task = asyncio.create_task(self._run(), name="stream-writer")
        self._task.add_done_callback(self._ended)

    async def _take_lock(self, connection: Connection) -> int:
        """Take the lock; a process that was killed a moment ago may still seem to hold it."""
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            try:
                return await stream_positions.take_lock(connection)
            except stream_positions.WriterLockTaken:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Commit what is queued, then end. Later submissions are refused."""
        self._closing = True
        self._work.set()
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._connection is not None:
            await self._connection.close(timeout=CLOSE_SECONDS)

    def on_apply(self, callback: Published) -> None:
        """Call back with each committed batch before its positions become visible."""
        self._apply.append(callback)

    def on_publish(self, callback: Published) -> None:
        """Call back with each committed batch once its positions are visible."""
        self._wake.append(callback)

    def on_failure(self, callback: Published) -> None:
        """Call back with changes that were submitted and will never be committed."""
        self._failed.append(callback)

    def allocate(self) -> int:
        """The next position. The change that bears it must be submitted without an `await`."""
        self._allocated += 1
        return self._allocated

    def submit(self, *changes: Change) -> asyncio.Future[None]:
        """Queue changes that belong together: they are committed in one transaction, or not at all.

        The future is done when they are committed and visible; it raises Unavailable otherwise.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closing or self._task is None:
            _refuse(done, Unavailable("The server is shutting down. Try again in a moment."))
            for callback in self._failed:
                callback(changes)
            return done
        self._queue.append(_Submission(changes, done))
        self._work.set()
        return done

    async def append(self, *changes: Change) -> None:
        """Submit and wait until the changes are visible."""
        await self.submit(*changes)

    async def settle(self) -> None:
        """Wait until all that is queued now is committed, or has failed."""
        waiting = [submission.done for submission in (*self._in_flight, *self._queue)]
        if waiting:
            await asyncio.wait(waiting)

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._queue:
                self._in_flight = self._take_batch()
                try:
                    await self._commit_in_flight()
                except Unavailable as error:
                    lost = [change for one in self._in_flight for change in one.changes]
                    self._fail_everything(error)
                    await self._reconnect(lost)
                except _BadChange as bad:
                    self._fail_in_flight(bad.error)
                except Exception as error:  # whatever it is, it must not end the writer
                    log.exception("commit failed")
                    self._fail_everything(error)
            if self._closing:
                return

    def _take_batch(self) -> list[_Submission]:
        size = 1 if self._singly else MAX_BATCH
        self._singly = max(0, self._singly - 1)
        batch = self._queue[:size]
        del self._queue[:size]
        return batch

    async def _commit_in_flight(self) -> None:
        started = time.perf_counter()
        changes = [change for submission in self._in_flight for change in submission.changes]
        try:
            await self._commit(changes)
        except Unavailable:
            raise
        except Exception as error:
            if len(self._in_flight) == 1:
                log.exception("commit failed")
                raise _BadChange(error) from error
            # One of them can't be written: each by itself, so that the others don't suffer.
            self._queue[:0] = self._in_flight
            self._singly += len(self._in_flight)
            self._in_flight = []
            return
        self.commit_seconds.observe(time.perf_counter() - started)
        self.batch_sizes.observe(len(changes))
        self._publish(changes)

    async def _commit(self, changes: Sequence[Change]) -> None:
        by_type: dict[type, list[Change]] = {}
        for change in changes:
            by_type.setdefault(type(change), []).append(change)
        writes = [
            (write, by_type[kind])
            for kind, write in self._tables.items()
            if kind in by_type and write is not None
        ]
        unknown = by_type.keys() - self._tables.keys()
        if unknown:
            raise TypeError(f"the stream writer has no table for {unknown}")
        reserve = self._allocated > self._reserved - RESERVED_AT_ONCE // 2
        if not writes and not reserve:
            return
        connection = self._connection
        if connection is None:
            raise Unavailable("The database is away")
        with unavailable_if_lost(connection):
            if len(writes) == 1 and not reserve and self._is_one_statement(writes[0][1]):
                # A statement is a transaction of its own: two round trips less.
                write, of_type = writes[0]
                await write(connection, of_type)
                return
            reserved = self._reserved
            async with connection.transaction():
                if reserve:
                    reserved = await stream_positions.reserve(
                        connection, self._allocated + RESERVED_AT_ONCE
                    )
                for write, of_type in writes:
                    await write(connection, of_type)
            self._reserved = reserved

    def _publish(self, changes: Sequence[Change]) -> None:
        for callback in self._apply:
            callback(changes)
        self.position = max(self.position, changes[-1].position)
        for submission in self._in_flight:
            if not submission.done.done():
                submission.done.set_result(None)
        self._in_flight = []
        for callback in self._wake:
            try:
                callback(changes)
            except Exception:  # whatever it is, the others are told all the same
                log.exception("a follower failed", follower=callback.__qualname__)

    def _fail_everything(self, error: Exception) -> None:
        """What was in flight failed; what is queued may be built on it."""
        failed = [*self._in_flight, *self._queue]
        self._queue = []
        self._fail(failed, error)

    def _fail_in_flight(self, error: Exception) -> None:
        """It can't be written; what is queued for the same rooms is built on it."""
        rooms = {room_id for submission in self._in_flight for room_id in submission.rooms()}
        built_on = [one for one in self._queue if not rooms.isdisjoint(one.rooms())]
        self._queue = [one for one in self._queue if rooms.isdisjoint(one.rooms())]
        self._fail([*self._in_flight, *built_on], error)

    def _fail(self, failed: Sequence[_Submission], error: Exception) -> None:
        self._in_flight = []
        changes = [change for submission in failed for change in submission.changes]
        for callback in self._failed:
            callback(changes)
        for submission in failed:
            if not submission.done.done():
                answer = Unavailable("The database can't store this now. Try again in a moment.")
                answer.__cause__ = error
                _refuse(submission.done, answer)

    async def _connection_with_lock(self) -> tuple[Connection, int]:
        """Raises Unavailable, WriterLockTaken (the old session may still be ending)."""
        connection = await self._database.dedicated()
        try:
            with unavailable_if_lost(connection):
                return connection, await stream_positions.take_lock(connection)
        except BaseException:
            connection.terminate()
            raise

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Nothing is taken any more; if that wasn't asked for, it is told and every sender too."""
        if self._closing or task.cancelled():
            return
        log.critical("the stream writer has died; restart the server", exc_info=task.exception())
        self._closing = True
        self._fail_everything(Unavailable("The stream writer has died"))

    async def _reconnect(self, lost: Sequence[Change]) -> None:
        """Wait for Postgres to come back and take the writer lock again.

        What became of the `lost` changes is certain only when the session that wrote them has let
        go of the lock: who read what they touch before that, reads it again.
        """
        log.error("the database is away; waiting for it")
        while not self._closing:
            await asyncio.sleep(RECONNECT_SECONDS)
            self._fail_everything(Unavailable("The database is away"))
            try:
                connection, reserved = await self._connection_with_lock()
            except (Unavailable, stream_positions.WriterLockTaken):
                continue
            if reserved < self._reserved:
                raise RuntimeError("the database went back in time; restart the server")
            self._connection = connection
            self._reserved = reserved
            for callback in self._failed:
                callback(lost)
            self._fail_everything(Unavailable("The database is away"))
            log.info("the database is back")
            return


def _refuse(done: asyncio.Future[None], error: Unavailable) -> None:
    """Nobody has to wait for it: presence doesn't."""
    done.set_exception(error)
    done.exception()
