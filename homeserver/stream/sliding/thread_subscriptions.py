"""The extension for thread subscriptions (MSC4308)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from homeserver.json_types import JsonObject
from homeserver.store import thread_subscriptions as subscription_store
from homeserver.store.database import Database
from homeserver.store.thread_subscriptions import ThreadSubscriptionRow
from homeserver.stream.changes import ThreadSubscriptionChange
from homeserver.stream.live_users import LiveUser
from homeserver.stream.sliding.extensions import Scope
from homeserver.stream.sliding.request import Extensions
from homeserver.stream.sliding.sync import ExtensionPart, FurtherExtension
from homeserver.stream.sync_request import encode

NAME = "io.element.msc4308.thread_subscriptions"


def thread_subscriptions_extension(database: Database) -> FurtherExtension:
    """What the user decided about threads since the connection's last answer."""

    async def extension(scope: Scope, asked: Extensions, upto: int) -> Sequence[ExtensionPart]:
        limit = asked.thread_subscriptions.limit
        if not asked.thread_subscriptions.enabled or limit == 0:
            return ()
        after = scope.told.position
        rows = _from_memory(scope.user, after)
        if rows is None or len(rows) > limit:
            async with database.connection() as connection:
                rows = await subscription_store.between(
                    connection, scope.user.user_id, after, upto, limit + 1
                )
        if not rows:
            return ()
        answer = subscriptions_object(rows[:limit])
        if len(rows) > limit:
            answer["prev_batch"] = str(rows[limit - 1].position - 1)
        return (ExtensionPart(NAME, encode(answer)),)

    return extension


def subscriptions_object(rows: Iterable[ThreadSubscriptionRow]) -> JsonObject:
    """`subscribed` and `unsubscribed`, each by room and thread root."""
    found: JsonObject = {}
    for row in rows:
        thread: dict[str, Any] = {"bump_stamp": row.position}
        if row.subscribed:
            thread["automatic"] = row.automatic
        kind = found.setdefault("subscribed" if row.subscribed else "unsubscribed", {})
        kind.setdefault(row.room_id, {})[row.thread_root_id] = thread
    return found


def _from_memory(user: LiveUser, after: int) -> list[ThreadSubscriptionRow] | None:
    changes = user.changes_since(after)
    if changes is None:
        return None
    rows = {
        (change.row.room_id, change.row.thread_root_id): change.row
        for change in changes
        if isinstance(change, ThreadSubscriptionChange)
    }
    return sorted(rows.values(), key=lambda row: row.position, reverse=True)
