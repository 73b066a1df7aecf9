"""Events as other servers get them: their PDUs, in bulk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from homeserver.store.database import Connection


@dataclass(frozen=True, slots=True)
class PduRow:
    """A PDU's bytes and what says how it may be served."""

    event_id: str
    room_number: int
    type: str
    state_key: str | None
    json: bytes
    flags: int
    state_group: int | None
    is_redacted: bool


_COLUMNS = (
    "event_id, room_number, type, state_key, json, flags, state_group, redacted_by IS NOT NULL"
)


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
    """Up to `limit` timeline events, from the newest of `start_ids` backwards, the newest first.

    Soft-failed events that are asked for by name are among them.
    """
    records = await connection.fetch(
        f"""
        WITH start AS (
            SELECT max(timeline_order) AS upto FROM events
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
