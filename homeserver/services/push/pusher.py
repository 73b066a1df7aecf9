"""One pusher at work: what is pending is told in the order of the log, each until it is taken.

Rules of this file: a pusher has a task only while it has work. While it is `behind`, what is
pending is read from Postgres; a queue that grows too long is thrown away, for it is there too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec
import structlog
from msgspec import Struct

from homeserver import background
from homeserver.backoff import Backoff
from homeserver.json_types import JsonObject
from homeserver.protocol.pushers import NO_BADGE, PushedEvent, PushTarget, notification
from homeserver.services.push.badges import Badges
from homeserver.services.push.gateways import GatewayFailed, GatewayRefused, Gateways
from homeserver.services.push.pushed_events import Pending, PushedEvents
from homeserver.store.pushers import PusherRow

MAX_QUEUE = 100
FINISH_SECONDS = 5.0
REFUSED_SECONDS = Backoff(1.0, 3600.0)

log = structlog.get_logger()


class Means(Struct, frozen=True):
    """What all pushers share. `position`: what is visible; `moved`, `rejected` are told of it."""

    gateways: Gateways
    events: PushedEvents
    badges: Badges
    position: Callable[[], int]
    moved: Callable[[Pusher], None]
    rejected: Callable[[Pusher], None]
    catching_up: asyncio.Semaphore


class Pusher:
    """Serves one pusher of a user. `position`: up to where it has been served."""

    def __init__(self, row: PusherRow, means: Means, *, behind: bool) -> None:
        self.position = row.position
        self._means = means
        self._behind = behind
        self._queue: deque[Pending] = deque()
        self._badge_wanted = False
        self._told_badge: int | None = None
        self._published = row.position
        self._task: asyncio.Task[None] | None = None
        self._is_asking = False
        self._is_ending = False
        self._refusals = 0
        self.change(row)
        if behind:
            self._work()

    def change(self, row: PusherRow) -> None:
        """The client changed it."""
        self.row = row
        data: JsonObject = msgspec.json.decode(row.data)
        self._target = PushTarget(row.app_id, row.pushkey, row.pushkey_ts, data)

    @property
    def is_idle(self) -> bool:
        """Whether all that was published has been told, or needn't be."""
        return not self._behind and not self._queue and self._task is None

    def publish(self, pending: Pending) -> None:
        """Something to tell was published."""
        self._published = pending.position
        if not self._behind:
            self._queue.append(pending)
            if len(self._queue) > MAX_QUEUE:
                self._fall_behind()
        self._work()

    def refresh_badge(self) -> None:
        """The user has read something: the number has to go down."""
        if self._told_badge != 0 and not self._target.data.get(NO_BADGE):
            self._badge_wanted = True
            self._work()

    def stop(self) -> asyncio.Task[None] | None:
        """End; gives the task that ends, if there is one."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        return task

    async def finish(self) -> None:
        """End, but for a request that is under way: a while is waited for its answer."""
        self._is_ending = True
        if self._task is not None and self._is_asking:
            await asyncio.wait([self._task], timeout=FINISH_SECONDS)
        task = self.stop()
        if task is not None:
            await asyncio.wait([task])

    def _work(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="pusher")

    async def _run(self) -> None:
        await background.follow(self._has_work, self._step, self._fall_behind)
        if self._task is asyncio.current_task():
            self._task = None

    def _has_work(self) -> bool:
        wanted = self._behind or self._queue or self._badge_wanted
        return bool(wanted) and not self._is_ending

    def _fall_behind(self) -> None:
        """What is pending is read from Postgres."""
        self._queue.clear()
        self._behind = True

    async def _step(self) -> None:
        if self._behind:
            await self._catch_up()
        elif self._queue:
            await self._tell(self._queue[0])
            if self._queue and not self._is_ending:
                self._queue.popleft()
        elif self._badge_wanted:
            self._badge_wanted = False
            await self._tell_badge()

    async def _catch_up(self) -> None:
        async with self._means.catching_up:
            upto = self._means.position()
            pending = await self._means.events.pending_after(self.row.user_id, self.position)
        for each in pending:
            await self._tell(each)
            if self._is_ending:
                return
        # What is published while Postgres is asked is found there the next time.
        if not pending and self._published <= upto:
            self._behind = False
            self._move(upto)

    async def _tell(self, pending: Pending) -> None:
        """Tell it until the gateway takes it, or there is nothing to tell any more."""
        while not self._is_ending:
            await self._means.gateways.ready(self._target.data["url"])
            event = await self._means.events.details(self.row.user_id, pending)
            if event is None or await self._send(event):
                self._move(pending.position)
                return

    async def _tell_badge(self) -> None:
        unread = await self._means.badges.unread(self.row.user_id)
        if unread != self._told_badge and not self._queue:
            while not await self._send(None):
                await self._means.gateways.ready(self._target.data["url"])

    async def _send(self, event: PushedEvent | None) -> bool:
        """False if the gateway failed."""
        unread = None
        if not self._target.data.get(NO_BADGE):
            unread = await self._means.badges.unread(self.row.user_id)
        target = self._target
        self._is_asking = True
        try:
            body = notification(target, event, unread)
            url = target.data["url"]
            rejected = await self._means.gateways.notify(self.row.user_id, url, body)
        except GatewayRefused:
            self._is_asking = False
            await self._pause()
            return False
        except GatewayFailed:
            return False
        finally:
            self._is_asking = False
        self._refusals = 0
        self._told_badge = unread
        if target.pushkey in rejected:
            self._means.rejected(self)
        return True

    async def _pause(self) -> None:
        """Longer each time: what is refused once is likely to be refused again."""
        self._refusals += 1
        log.info("a push gateway refuses a pusher", app_id=self.row.app_id, times=self._refusals)
        await asyncio.sleep(REFUSED_SECONDS.after(self._refusals))

    def _move(self, position: int) -> None:
        if position > self.position:
            self.position = position
            self._means.moved(self)
