"""`account_data`, global and of rooms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from homeserver.protocol.filters import EventMatcher
from homeserver.store import account_data as account_data_store
from homeserver.store.account_data import AccountDataRow
from homeserver.store.database import Database
from homeserver.stream.changes import AccountDataChange, Change
from homeserver.stream.live_users import LiveUser
from homeserver.stream.push_rules import LivePushRules, is_push_rules, unchanged_row
from homeserver.stream.sync_request import SyncRequest, encode

ByRoom = dict[str, list[AccountDataRow]]
EMPTY_CONTENT = b"{}"


class AccountDataLog:
    """Reads users' account data as their clients get them."""

    def __init__(self, database: Database, push_rules: LivePushRules) -> None:
        self.database = database
        self._push_rules = push_rules

    async def read(self, request: SyncRequest, user: LiveUser) -> ByRoom:
        """All of them (from scratch), or what changed, by room id ('': global)."""
        changes = None if request.from_scratch else user.changes_since(request.since or 0)
        if changes is not None:
            return self._by_room(_newest(_rows(changes)))
        after = 0 if request.from_scratch else request.since or 0
        async with self.database.connection() as connection:
            rows = await account_data_store.of_user(connection, user.user_id, after)
        if request.from_scratch:
            # Deleted data has an empty content; whoever starts anew never knew it.
            rows = [row for row in rows if row.content != EMPTY_CONTENT]
            if not any(map(is_push_rules, rows)):
                rows.append(unchanged_row(user.user_id))
        return self._by_room(rows)

    def _by_room(self, rows: Iterable[AccountDataRow]) -> ByRoom:
        found: ByRoom = {}
        for row in rows:
            found.setdefault(row.room_id, []).append(self._served(row))
        return found

    def _served(self, row: AccountDataRow) -> AccountDataRow:
        """Push rules are stored without the server's defaults."""
        if not is_push_rules(row):
            return row
        return replace(row, content=self._push_rules.served(row.user_id, row.content))


def account_data_events(matcher: EventMatcher, rows: Sequence[AccountDataRow]) -> list[bytes]:
    """The rows that the filter lets through, as events."""
    if not matcher.matches_all:
        rows = [row for row in rows if matcher.type_allowed(row.type)]
    return [_event(row) for row in rows]


def _event(row: AccountDataRow) -> bytes:
    return b'{"type":' + encode(row.type) + b',"content":' + row.content + b"}"


def _rows(changes: Iterable[Change]) -> Iterable[AccountDataRow]:
    return (change.row for change in changes if isinstance(change, AccountDataChange))


def _newest(rows: Iterable[AccountDataRow]) -> Iterable[AccountDataRow]:
    return {(row.room_id, row.type): row for row in rows}.values()
