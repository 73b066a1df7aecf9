"""What becomes of a user's rooms and data when the account has ended.

client-server-api#account-deactivation
"""

from __future__ import annotations

import structlog

from homeserver.errors import MatrixError
from homeserver.protocol.event_types import MEMBER
from homeserver.store import account_data, accounts, profiles
from homeserver.store.database import Database
from homeserver.stream.core import StreamCore
from homeserver.stream.drafts import Draft

PRESENT = {"join", "invite", "knock"}

log = structlog.get_logger()


class Departures:
    """Takes the users whose accounts have ended out of their rooms."""

    def __init__(self, database: Database, stream: StreamCore) -> None:
        self._database = database
        self._users = stream.users
        self._sender = stream.sender
        self._rooms = stream.rooms
        self._writer = stream.writer

    async def account_ended(self, user_id: str, erase: bool) -> None:
        """Leave every room, reject every invite; if asked to `erase`, forget what isn't an event,
        and have those who come later see the events redacted.

        "The server should additionally erase any non-event data associated with the user"
        """
        if erase:
            await self._rooms.erase(user_id, self._writer.position)
            async with self._database.transaction() as connection:
                await profiles.delete_all(connection, user_id)
                await account_data.delete_all(connection, user_id)
        await self._leave_all(user_id)

    async def finish(self) -> None:
        """Leave the rooms of those whose leaving a crash or an outage interrupted."""
        async with self._database.connection() as connection:
            left_over = await accounts.deactivated_in_rooms(connection)
        for user_id in left_over:
            await self._leave_all(user_id)

    async def _leave_all(self, user_id: str) -> None:
        user = await self._users.get(user_id)
        present = [room_id for room_id, row in user.rooms.items() if row.membership in PRESENT]
        for room_id in present:
            await self._leave(room_id, user_id)

    async def _leave(self, room_id: str, user_id: str) -> None:
        """Leave one room. Should that fail, the other rooms are left all the same."""
        try:
            draft = Draft(user_id, MEMBER, {"membership": "leave"}, user_id)
            await self._sender.send(room_id, draft)
        except MatrixError as error:
            log.warning("a deactivated user could not leave", room_id=room_id, error=error.message)
