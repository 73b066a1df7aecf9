"""The events that may notify a user, in the order of the log: for pushers and /notifications.

Rules of this file: nothing is written here. What an event did for a user whose rule set isn't the
default one, the caller decides by the outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
from msgspec import Struct

from homeserver.protocol.push_outcomes import MAIN, PushOutcomes, push_outcomes
from homeserver.store.database import Connection
from homeserver.store.events import ORDER_STEP


class NotableEvent(Struct, frozen=True):
    """An event that does something for somebody. `order` is its place in the room's timeline."""

    room_number: int
    event_id: str
    order: int
    thread: str
    outcomes: PushOutcomes

    @property
    def position(self) -> int:
        return self.order // ORDER_STEP


_NOTABLE = """
SELECT e.room_number, e.event_id, e.timeline_order, e.thread_root, e.push, e.push_sets, e.push_users
FROM unnest($2::bigint[], $3::bigint[]) AS w (room_number, bound)
CROSS JOIN LATERAL (
    SELECT * FROM events
    WHERE events.room_number = w.room_number AND {range}
      AND (push <> 0 OR push_sets IS NOT NULL OR push_users IS NOT NULL)
      AND redacted_by IS NULL AND sender <> $1
    ORDER BY timeline_order {direction} LIMIT $4
) AS e
ORDER BY e.timeline_order {direction} LIMIT $4
"""
_AFTER = _NOTABLE.format(range="timeline_order > w.bound", direction="ASC")
_BEFORE = _NOTABLE.format(
    range="timeline_order > w.bound AND timeline_order < $5", direction="DESC"
)


async def after(
    connection: Connection, user_id: str, rooms: Sequence[tuple[int, int]], limit: int
) -> list[NotableEvent]:
    """The oldest of others in these rooms (number, order after which), in the log's order."""
    numbers, bounds = [n for n, _ in rooms], [bound for _, bound in rooms]
    return _events(await connection.fetch(_AFTER, user_id, numbers, bounds, limit))


async def before(
    connection: Connection, user_id: str, rooms: Sequence[tuple[int, int]], order: int, limit: int
) -> list[NotableEvent]:
    """The newest of others below an order in these rooms (number, order after which)."""
    numbers, bounds = [n for n, _ in rooms], [bound for _, bound in rooms]
    return _events(await connection.fetch(_BEFORE, user_id, numbers, bounds, limit, order))


async def newest_position(connection: Connection) -> int:
    """The position of the newest event or membership; for the start, as it looks at all of them."""
    position: int | None = await connection.fetchval(
        "SELECT greatest((SELECT max(number) FROM events), (SELECT max(position) FROM memberships))"
    )
    return position or 0


def _events(records: Sequence[asyncpg.Record]) -> list[NotableEvent]:
    return [
        NotableEvent(r[0], r[1], r[2], r[3] or MAIN, push_outcomes(r[4], r[5], r[6]))
        for r in records
    ]
