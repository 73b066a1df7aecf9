"""Once a day, what nobody will ask for any more goes from the tables that grow with time.

Rules of this file: what goes can be told from the database alone, so it doesn't matter when, and
whether the last time was missed. Tables not named here are bounded by what users keep, or pruned
where they are written (to-device messages, media, tokens, outages, push rules).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from homeserver.clock import Clock
from homeserver.errors import Unavailable
from homeserver.store import device_lists as device_list_store
from homeserver.store import devices as device_store
from homeserver.store import events as event_store
from homeserver.store import federation_positions as federation_store
from homeserver.store import remote_devices as remote_device_store
from homeserver.store import to_device as to_device_store
from homeserver.store.database import Database

FIRST_SECONDS = 600.0
EVERY_SECONDS = 24 * 3600.0
DAY_MS = 24 * 3600 * 1000
DEAD_DAYS = 90
"""A server that hasn't answered for so long doesn't get the messages for its devices any more."""

DeleteDevices = Callable[[str, Sequence[str]], Awaitable[None]]
"""Logs devices of a user out and deletes them: (user id, device ids)."""

log = structlog.get_logger()


class Pruning:
    """Deletes what is of no use any more.

    `unseen_days`: devices that weren't seen for so long are logged out; None: never.
    """

    def __init__(
        self,
        database: Database,
        delete_devices: DeleteDevices,
        unseen_days: int | None,
        clock: Clock,
    ) -> None:
        self._database = database
        self._delete_devices = delete_devices
        self._unseen_days = unseen_days
        self._clock = clock

    async def run(self) -> None:
        """From time to time, until cancelled."""
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            try:
                await self.prune()
            except Unavailable as error:
                log.warning("nothing pruned", reason=error.message)
            await asyncio.sleep(EVERY_SECONDS)

    async def prune(self) -> None:
        """All of it, now."""
        await self._log_out_unseen()
        async with self._database.connection() as connection:
            position, behind = await federation_store.load(connection)
            await device_list_store.prune(connection, min([position, *behind.values()]))
            await remote_device_store.prune(connection)
            await event_store.prune_placed_later(connection)
            dead_since = self._clock() - DEAD_DAYS * DAY_MS
            await to_device_store.delete_for_dead_servers(connection, dead_since)

    async def _log_out_unseen(self) -> None:
        """Otherwise messages for devices that nobody has any more gather for ever."""
        if self._unseen_days is None:
            return
        before = self._clock() - self._unseen_days * DAY_MS
        async with self._database.connection() as connection:
            unseen = await device_store.unseen_since(connection, before)
        for user_id, device_ids in unseen.items():
            await self._delete_devices(user_id, device_ids)
        if unseen:
            log.info("devices logged out that were long unseen", users=len(unseen))
