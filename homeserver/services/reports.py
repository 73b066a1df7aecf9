"""Users report events, rooms and users to the moderators of their server.

client-server-api#reporting-content
"""

from __future__ import annotations

import structlog

from homeserver.clock import Clock
from homeserver.errors import Forbidden, NotFound
from homeserver.protocol.identifiers import is_user_id, server_name_of
from homeserver.requester import Requester
from homeserver.store import accounts as account_store
from homeserver.store import reports as report_store
from homeserver.store.database import Database
from homeserver.store.reports import Report
from homeserver.stream.reading.rooms import NO_EVENT, Reading

log = structlog.get_logger()


class Reports:
    """Keeps reports, and says in the log that there is one."""

    def __init__(self, database: Database, reading: Reading, server_name: str, now: Clock) -> None:
        self._database = database
        self._reading = reading
        self._server_name = server_name
        self._now = now

    async def event(self, requester: Requester, room_id: str, event_id: str, reason: str) -> None:
        """Report an event. Raises NotFound, also for a room that the reporter isn't in."""
        try:
            reader = await self._reading.readers.open(requester, room_id)
        except Forbidden:
            raise NotFound(NO_EVENT) from None
        # "The event was not found or you are not joined to the room where the event resides."
        if not reader.is_joined:
            raise NotFound(NO_EVENT)
        stored = await self._reading.event(reader, event_id)
        await self._keep(requester, room_id, event_id, stored.sender, reason)

    async def room(self, requester: Requester, room_id: str, reason: str) -> None:
        """Report a room, whether one is in it or not. Raises NotFound."""
        if await self._reading.rooms.get(room_id) is None:
            raise NotFound("The room was not found")
        await self._keep(requester, room_id, None, None, reason)

    async def user(self, requester: Requester, user_id: str, reason: str) -> None:
        """Report a user. Raises NotFound for a user id of this server that nobody has."""
        if not is_user_id(user_id):
            raise NotFound("The user was not found")
        if server_name_of(user_id) == self._server_name:
            async with self._database.connection() as connection:
                if await account_store.find(connection, user_id) is None:
                    raise NotFound("The user was not found")
        await self._keep(requester, None, None, user_id, reason)

    async def _keep(
        self,
        requester: Requester,
        room_id: str | None,
        event_id: str | None,
        user_id: str | None,
        reason: str,
    ) -> None:
        report = Report(self._now(), requester.user_id, room_id, event_id, user_id, reason)
        async with self._database.connection() as connection:
            report_id = await report_store.add(connection, report)
        log.warning("something was reported", report=report_id, reporter=requester.user_id)
