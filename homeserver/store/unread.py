"""What is unread below what memory holds, counted by Postgres.

Rules of this file: nothing is written here; what an event does for whom was decided when it came
(`events.push`, `push_sets`, `push_users`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import Struct

from homeserver.protocol.push_outcomes import push_outcomes
from homeserver.store.database import Connection
from homeserver.store.events import ORDER_STEP


class UnreadStretch(Struct, frozen=True):
    """A stretch of a room, `after < timeline_order <= upto`; `reads` says of some threads up to
    which order they were read."""

    room_number: int
    after: int
    upto: int
    reads: dict[str, int]


class UnreadReader(Struct, frozen=True):
    """Whose counts. `thresholds`: stream positions at which their push rules changed, ascending."""

    user_id: str
    ignored: Collection[str]
    thresholds: Sequence[int]


class UnreadGroup(Struct, frozen=True):
    """`count` events of a thread that do the same for the reader, whose rules were the
    `version`-th; `bits` by the number of the rule set."""

    room_number: int
    thread: str
    version: int
    default: int
    sets: dict[int, int]
    personal: int | None
    count: int

    def bits(self, set_number: int) -> int:
        if self.personal is not None:
            return self.personal
        return self.sets.get(set_number, self.default)


async def unread_groups(
    connection: Connection, reader: UnreadReader, stretches: Sequence[UnreadStretch]
) -> list[UnreadGroup]:
    """The events that may notify a user and that they haven't read; their own mark others read."""
    reads = [(s.room_number, thread, read) for s in stretches for thread, read in s.reads.items()]
    records = await connection.fetch(
        """
        WITH looked_at AS MATERIALIZED (
            SELECT e.room_number, w.after, coalesce(e.thread_root, 'main') AS thread,
                   e.timeline_order, e.sender, e.state_key, e.redacted_by,
                   e.push, e.push_sets, e.push_users
            FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS w (room_number, after, upto)
            CROSS JOIN LATERAL (
                SELECT * FROM events
                WHERE events.room_number = w.room_number
                  AND timeline_order > w.after AND timeline_order <= w.upto
            ) AS e
            WHERE e.push <> 0 OR e.push_sets IS NOT NULL OR e.push_users IS NOT NULL
               OR e.sender = $1
        ), read_up_to AS (
            SELECT room_number, thread, max(timeline_order) AS read FROM (
                SELECT * FROM unnest($5::bigint[], $6::text[], $7::bigint[])
                    AS r (room_number, thread, timeline_order)
                UNION ALL
                SELECT room_number, thread, timeline_order FROM looked_at
                WHERE sender = $1 AND state_key IS NULL
            ) AS either
            GROUP BY room_number, thread
        )
        SELECT room_number, thread,
               width_bucket(timeline_order / $10, $8::bigint[]) AS version, push, push_sets,
               CASE WHEN push_users IS NOT NULL THEN (
                   SELECT left(entry, 1)::int FROM unnest(push_users) AS entry
                   WHERE substr(entry, 2) = $1 LIMIT 1
               ) END AS personal,
               count(*)
        FROM looked_at LEFT JOIN read_up_to USING (room_number, thread)
        WHERE timeline_order > coalesce(read, after) AND redacted_by IS NULL
          AND sender <> $1 AND sender <> ALL($9::text[])
        GROUP BY 1, 2, 3, 4, 5, 6
        """,
        reader.user_id,
        [s.room_number for s in stretches],
        [s.after for s in stretches],
        [s.upto for s in stretches],
        [read[0] for read in reads],
        [read[1] for read in reads],
        [read[2] for read in reads],
        list(reader.thresholds),
        list(reader.ignored),
        ORDER_STEP,
    )
    return [
        UnreadGroup(r[0], r[1], r[2], r[3], dict(push_outcomes(0, r[4], None).sets), r[5], r[6])
        for r in records
    ]
