"""Receipts: up to where each user has read each room, or thread."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.store.database import Connection


class ReceiptRow(Struct, frozen=True):
    """`thread_id` is '' when unthreaded; `event_order` is the event's place in the timeline."""

    room_number: int
    user_id: str
    receipt_type: str
    thread_id: str
    event_id: str
    event_order: int
    ts: int
    position: int


async def put(connection: Connection, rows: Sequence[ReceiptRow]) -> None:
    """Set receipts; the last of equal keys wins."""
    last = {(r.room_number, r.user_id, r.receipt_type, r.thread_id): r for r in rows}
    unique = list(last.values())
    await connection.execute(
        """
        INSERT INTO receipts (room_number, user_id, receipt_type, thread_id, event_id, event_order,
                              ts, position)
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[],
                             $6::bigint[], $7::bigint[], $8::bigint[])
        ON CONFLICT (room_number, user_id, receipt_type, thread_id) DO UPDATE
        SET event_id = excluded.event_id, event_order = excluded.event_order, ts = excluded.ts,
            position = excluded.position
        """,
        [r.room_number for r in unique],
        [r.user_id for r in unique],
        [r.receipt_type for r in unique],
        [r.thread_id for r in unique],
        [r.event_id for r in unique],
        [r.event_order for r in unique],
        [r.ts for r in unique],
        [r.position for r in unique],
    )


async def of_rooms(connection: Connection, room_numbers: Sequence[int]) -> list[ReceiptRow]:
    """All receipts of these rooms, oldest change first."""
    records = await connection.fetch(
        """
        SELECT room_number, user_id, receipt_type, thread_id, event_id, event_order, ts, position
        FROM receipts WHERE room_number = ANY($1::bigint[]) ORDER BY position
        """,
        list(room_numbers),
    )
    return [ReceiptRow(*record) for record in records]


async def of_user(
    connection: Connection, user_id: str, room_numbers: Sequence[int]
) -> list[ReceiptRow]:
    """A user's receipts in these rooms."""
    records = await connection.fetch(
        """
        SELECT room_number, user_id, receipt_type, thread_id, event_id, event_order, ts, position
        FROM receipts WHERE room_number = ANY($2::bigint[]) AND user_id = $1
        """,
        user_id,
        list(room_numbers),
    )
    return [ReceiptRow(*record) for record in records]


async def rooms_changed(
    connection: Connection, room_numbers: Sequence[int], after: int
) -> list[int]:
    """Which of these rooms have a receipt that changed after a stream position."""
    records = await connection.fetch(
        """
        SELECT DISTINCT room_number FROM receipts
        WHERE room_number = ANY($1::bigint[]) AND position > $2
        """,
        list(room_numbers),
        after,
    )
    return [record[0] for record in records]
