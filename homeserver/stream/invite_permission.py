"""Which invites local users want to see. client-server-api#invite-permission"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from homeserver.lru_cache import LruCache
from homeserver.store import account_data as account_data_store
from homeserver.store.database import Database
from homeserver.store.rooms import MembershipRow
from homeserver.stream.changes import AccountDataChange, Change
from homeserver.stream.ignored_users import IgnoredUsers

INVITE_PERMISSION = "m.invite_permission_config"


class Wanted(Struct, frozen=True):
    """A user who takes no invites at all, or none of these users."""

    blocks: bool
    ignored: frozenset[str]

    def shows(self, row: MembershipRow) -> bool:
        """False for an unwanted invite. "Servers must not send room invites from ignored users to
        clients." """
        return row.membership != "invite" or not (self.blocks or row.sender in self.ignored)


class InvitePermission:
    """The settings of at most `capacity` users, kept current by the writer."""

    def __init__(self, database: Database, ignored: IgnoredUsers, *, capacity: int) -> None:
        self._database = database
        self._ignored = ignored
        self._known: LruCache[str, bool] = LruCache(capacity)
        self._changes = 0

    async def blocks(self, user_id: str) -> bool:
        """Whether a local user takes no invites at all; a query only the first time."""
        known = self._known.get(user_id)
        if known is not None:
            return known
        changes = self._changes
        async with self._database.connection() as connection:
            content = await account_data_store.get(connection, user_id, "", INVITE_PERMISSION)
        blocks = blocks_invites(content or b"{}")
        if changes == self._changes:
            self._known.put(user_id, blocks)
        return blocks

    async def wanted(self, user_id: str) -> Wanted:
        """Which of their invites a local user wants to see."""
        return Wanted(await self.blocks(user_id), await self._ignored.of(user_id))

    def apply(self, changes: Sequence[Change]) -> None:
        """Take in a committed batch (called by the writer)."""
        for change in changes:
            if isinstance(change, AccountDataChange) and change.row.type == INVITE_PERMISSION:
                self._changes += 1
                self._known.discard(change.row.user_id)

    def fail(self, changes: Sequence[Change]) -> None:
        """A commit failed and may yet have been carried out: read these again."""
        self.apply(changes)


def blocks_invites(content: bytes) -> bool:
    """Whether an `m.invite_permission_config` asks to block all invites."""
    return bool(msgspec.json.decode(content).get("default_action") == "block")
