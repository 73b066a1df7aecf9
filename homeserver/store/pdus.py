"""Events as other servers get them: their PDUs, in bulk."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from homeserver.store.database import Connection
from homeserver.store.events import ORDER_STEP, Flag


class PduRow(Struct, frozen=True):
    """A PDU's bytes and what says how it may be served.

    `place` is its place in the timeline, even if no client may see it there.
    """

    event_id: str
    room_number: int
    type: str
    state_key: str | None
    sender: str
    json: bytes
    flags: int
    state_group: int | None
    place: int | None
    is_redacted: bool


_PLACE = f"""coalesce(timeline_order,
    CASE WHEN state_group IS NOT NULL AND flags & {Flag.OUTLIER} = 0
         THEN number * {ORDER_STEP} END)"""
"""Where an event is, or would be if it weren't soft-failed or hidden."""

_COLUMNS = f"""event_id, room_number, type, state_key, sender, json, flags, state_group, {_PLACE},
    redacted_by IS NOT NULL"""


async def by_ids(connection: Connection, event_ids: Iterable[str]) -> dict[str, PduRow]:
    """Those of these events that we have."""
    records = await connection.fetch(
        f"SELECT {_COLUMNS} FROM events WHERE event_id = ANY($1::text[])",  # noqa: S608 - constant
        list(event_ids),
    )
    return {record[0]: PduRow(*record) for record in records}


async def history(
    connection: Connection, room_number: int, start_ids: Iterable[str], limit: int
) -> list[PduRow]:
    """Up to `limit` timeline events, from the newest of `start_ids` backwards, the newest first."""
    records = await connection.fetch(
        f"""
        WITH start AS (
            SELECT max({_PLACE}) AS upto FROM events
            WHERE event_id = ANY($2::text[]) AND room_number = $1
        )
        SELECT {_COLUMNS} FROM events, start
        WHERE room_number = $1 AND timeline_order <= start.upto
        ORDER BY timeline_order DESC LIMIT $3
        """,  # noqa: S608 - constant
        room_number,
        list(start_ids),
        limit,
    )
    return [PduRow(*record) for record in records]


_SENT_BY = f"""
    e.number > $2 AND e.number <= $3 AND e.timeline_order = e.number * {ORDER_STEP}
    AND (substr(e.sender, strpos(e.sender, ':') + 1) = $1 OR e.flags & {Flag.RELAYED} <> 0)
"""


async def sent_to(
    connection: Connection, destination: str, span: tuple[str, int, int], limit: int
) -> list[tuple[int, PduRow]]:
    """What we have to tell a server (our events and those that we relay), oldest first, with
    their positions.

    `span` is our server's name and the positions (after, up to). It has what was said while one
    of its users was joined, and who of them was removed (or their invite taken back).
    """
    records = await connection.fetch(
        f"""
        WITH their_users AS MATERIALIZED (
            SELECT m.room_number, membership, position,
                   -- whom we learned of later, when we entered with a part of the members only
                   CASE WHEN joined_from <= complete_from THEN 0 ELSE coalesce(joined_from, 0) END
                     AS joined_from,
                   EXISTS (
                       SELECT FROM events removal
                       JOIN events before ON before.number = removal.replaces
                       WHERE removal.event_id = m.event_id
                         AND strpos(encode(before.json, 'escape'), '"membership":"join"') > 0
                   ) AS was_joined
            FROM memberships m LEFT JOIN partial_rooms USING (room_number)
            WHERE NOT is_local AND substr(user_id, strpos(user_id, ':') + 1) = $4
              AND (membership = 'join' OR membership IN ('leave', 'ban') AND position > $2)
        ), stays AS (
            SELECT room_number,
                   CASE WHEN membership = 'join' THEN joined_from
                        WHEN was_joined THEN 0 ELSE position END AS first,
                   CASE WHEN membership = 'join' THEN $3 ELSE position END AS last
            FROM their_users
            UNION ALL SELECT room_number, 0, $3 FROM partial_rooms
            WHERE complete_from IS NULL AND $4 = ANY(servers)
        )
        SELECT e.number, {_COLUMNS} FROM events e
        WHERE {_SENT_BY}
          -- who joins (leaves, knocks) by us has the event
          AND (e.sender IS DISTINCT FROM e.state_key
               OR substr(e.sender, strpos(e.sender, ':') + 1) <> $4)
          AND EXISTS (
            SELECT FROM stays
            WHERE stays.room_number = e.room_number AND e.number BETWEEN stays.first AND stays.last
        )
        ORDER BY e.number LIMIT $5
        """,  # noqa: S608 - constants
        *span,
        destination,
        limit,
    )
    return [(record[0], PduRow(*record[1:])) for record in records]


async def rooms_sent_to(connection: Connection, server_name: str, after: int) -> list[int]:
    """The rooms (numbers) into which our users have sent after a position, or others by us."""
    records = await connection.fetch(
        f"SELECT DISTINCT e.room_number FROM events e WHERE {_SENT_BY}",  # noqa: S608 - constant
        server_name,
        after,
        2**63 - 1,
    )
    return [record[0] for record in records]


async def servers_in(connection: Connection, room_numbers: Iterable[int], since: int) -> list[str]:
    """The other servers that are in any of these rooms, or left one after a position."""
    records = await connection.fetch(
        """
        SELECT DISTINCT substr(user_id, strpos(user_id, ':') + 1) FROM memberships
        WHERE room_number = ANY($1::bigint[]) AND NOT is_local
          AND (membership = 'join' OR position > $2)
        UNION SELECT unnest(servers) FROM partial_rooms
        WHERE complete_from IS NULL AND room_number = ANY($1::bigint[])
        """,
        list(room_numbers),
        since,
    )
    return [record[0] for record in records]


async def room_id_of(connection: Connection, room_number: int) -> str | None:
    room_id: str | None = await connection.fetchval(
        "SELECT room_id FROM rooms WHERE room_number = $1", room_number
    )
    return room_id


async def nearest(connection: Connection, room_number: int, ts: int, backwards: bool) -> str | None:
    """The timeline event nearest to a time in milliseconds, not after (or not before) it."""
    order = "<= $2 ORDER BY origin_server_ts DESC"
    if not backwards:
        order = ">= $2 ORDER BY origin_server_ts"
    event_id: str | None = await connection.fetchval(
        f"""
        SELECT event_id FROM events
        WHERE room_number = $1 AND timeline_order IS NOT NULL AND origin_server_ts {order} LIMIT 1
        """,  # noqa: S608 - constants
        room_number,
        ts,
    )
    return event_id
