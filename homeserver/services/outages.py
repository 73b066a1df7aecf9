"""Keeps in Postgres which servers don't answer, so that a restart doesn't ask them all again."""

from __future__ import annotations

import asyncio

import structlog

from homeserver.errors import Unavailable
from homeserver.remote.availability import Availability
from homeserver.store import outages as outage_store
from homeserver.store.database import Database

EVERY_SECONDS = 10.0

log = structlog.get_logger()


class Outages:
    """Writes what changed, now and then."""

    def __init__(self, database: Database, availability: Availability) -> None:
        self._database = database
        self._availability = availability

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self.write()
            except Unavailable as error:
                log.warning("outages not written", reason=error.message)

    async def write(self) -> None:
        """At most two statements."""
        outages, ended = self._availability.take_changes()
        if not outages and not ended:
            return
        rows = [(o.destination, o.failing_since, o.failures, o.retry_at) for o in outages]
        try:
            async with self._database.connection() as connection:
                if rows:
                    await outage_store.put_outages(connection, rows)
                if ended:
                    await outage_store.delete_outages(connection, ended)
        except BaseException:
            self._availability.note_changed([*(o.destination for o in outages), *ended])
            raise
