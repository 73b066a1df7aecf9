"""Which invites local users want to see. client-server-api#invite-permission, MSC4155"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from homeserver.errors import InviteBlocked
from homeserver.lru_cache import LruCache
from homeserver.protocol.globs import Glob, whole_glob
from homeserver.protocol.identifiers import server_name_of
from homeserver.store import account_data as account_data_store
from homeserver.store.database import Database
from homeserver.store.rooms import MembershipRow
from homeserver.stream.changes import AccountDataChange, Change
from homeserver.stream.ignored_users import IgnoredUsers

INVITE_PERMISSION = "m.invite_permission_config"
FILTER = "org.matrix.msc4155.invite_permission_config"
"""The lists of MSC4155, which the specification doesn't have yet."""
MAX_GLOBS = 1000
Action = Literal["allow", "ignore", "block"]
# "users" before "servers"; of each, the first list that names the inviter counts (MSC4155).
_LISTS: tuple[tuple[str, Action], ...] = (
    ("allowed_users", "allow"),
    ("ignored_users", "ignore"),
    ("blocked_users", "block"),
    ("allowed_servers", "allow"),
    ("ignored_servers", "ignore"),
    ("blocked_servers", "block"),
)


class Rules(Struct, frozen=True):
    """What a user does with invites: `blocks_all`, or by lists of globs for inviters."""

    blocks_all: bool = False
    lists: tuple[tuple[str, tuple[Glob, ...]], ...] = ()

    def action(self, inviter: str) -> Action:
        if self.blocks_all:
            return "block"
        actions = dict(_LISTS)
        for name, globs in self.lists:
            subject = inviter if name.endswith("_users") else server_name_of(inviter)
            if any(glob.matches(subject) for glob in globs):
                return actions[name]
        return "allow"


class Wanted(Struct, frozen=True):
    """What a user does with invites, and whom they ignore altogether."""

    rules: Rules
    ignored: frozenset[str]

    def shows(self, row: MembershipRow) -> bool:
        """False for an unwanted invite. "Servers must not send room invites from ignored users to
        clients." """
        if row.membership != "invite":
            return True
        return row.sender not in self.ignored and self.rules.action(row.sender) == "allow"


class InvitePermission:
    """The settings of at most `capacity` users, kept current by the writer."""

    def __init__(self, database: Database, ignored: IgnoredUsers, *, capacity: int) -> None:
        self._database = database
        self._ignored = ignored
        self._known: LruCache[str, Rules] = LruCache(capacity)

    async def blocks(self, user_id: str, inviter: str) -> bool:
        """Whether a local user takes no invites of this one; a query only the first time."""
        return (await self._rules(user_id)).action(inviter) == "block"

    async def require(self, user_id: str, inviter: str) -> None:
        """A local user takes invites of this one. Raises InviteBlocked."""
        if await self.blocks(user_id, inviter):
            raise InviteBlocked(f"{user_id} does not take your invites")

    async def wanted(self, user_id: str) -> Wanted:
        """Which of their invites a local user wants to see."""
        return Wanted(await self._rules(user_id), await self._ignored.of(user_id))

    async def _rules(self, user_id: str) -> Rules:
        known = self._known.get(user_id)
        if known is not None:
            return known
        discards = self._known.discards
        async with self._database.connection() as connection:
            types = (INVITE_PERMISSION, FILTER)
            found = await account_data_store.of_users(connection, [user_id], types)
        rules = rules_of(*(found.get((user_id, type_), b"{}") for type_ in types))
        self._known.put_read(user_id, rules, discards)
        return rules

    def apply(self, changes: Sequence[Change]) -> None:
        """Take in a committed batch (called by the writer)."""
        for change in changes:
            if isinstance(change, AccountDataChange) and change.row.type in (
                INVITE_PERMISSION,
                FILTER,
            ):
                self._known.discard(change.row.user_id)

    def fail(self, changes: Sequence[Change]) -> None:
        """A commit failed and may yet have been carried out: read these again."""
        self.apply(changes)


def rules_of(permission: bytes, filtering: bytes) -> Rules:
    """The contents of an `m.invite_permission_config` and of MSC4155's, which may be anything."""
    if msgspec.json.decode(permission).get("default_action") == "block":
        return Rules(blocks_all=True)
    lists = msgspec.json.decode(filtering)
    found = ((name, _globs(lists.get(name))) for name, _ in _LISTS)
    return Rules(lists=tuple((name, globs) for name, globs in found if globs))


def _globs(patterns: Any) -> tuple[Glob, ...]:
    listed = patterns if isinstance(patterns, list) else []
    return tuple(whole_glob(text) for text in listed[:MAX_GLOBS] if isinstance(text, str))
