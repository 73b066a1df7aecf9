"""When and from where each device was last seen: kept in memory, written in batches.

client-server-api#get_matrixclientv3devices
"""

from __future__ import annotations

import asyncio

import structlog

from homeserver.clock import Clock
from homeserver.errors import Unavailable
from homeserver.requester import Requester
from homeserver.store import devices
from homeserver.store.database import Database
from homeserver.store.devices import Sighting

MAX_LENGTH = 1000
PERIOD_SECONDS = 30.0

log = structlog.get_logger()


class LastSeen:
    """The newest sighting of each device that is not written yet."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        # By user and device: when, from which address, with which user agent.
        self._unwritten: dict[tuple[str, str], tuple[int, str, str | None]] = {}

    def note(self, requester: Requester, ip: str, user_agent: str | None) -> None:
        """A device made a request just now."""
        if requester.device_id is None:
            return
        device = requester.user_id, requester.device_id
        self._unwritten[device] = self._clock(), ip, user_agent

    async def flush(self) -> None:
        """Write what is unwritten. If the database is away it stays for the next time."""
        unwritten = self._unwritten
        if not unwritten:
            return
        sightings = [
            Sighting(user_id, device_id, at, _text(ip), _text(user_agent or "") or None)
            for (user_id, device_id), (at, ip, user_agent) in unwritten.items()
        ]
        self._unwritten = {}
        try:
            async with self._database.connection() as connection:
                await devices.seen(connection, sightings)
        except Unavailable:
            self._unwritten = {**unwritten, **self._unwritten}
            log.warning("could not write when devices were last seen")

    async def run(self) -> None:
        """Flush from time to time, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            await self.flush()


def _text(header: str) -> str:
    """What a client (or a proxy) wrote, as Postgres can hold it."""
    return header[:MAX_LENGTH].encode("utf-8", "replace").decode().replace("\0", "")
