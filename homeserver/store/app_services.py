"""How far application services have been served; the transaction that each is being sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from homeserver.store.database import Connection
from homeserver.store.events import EVENT_COLUMNS, ORDER_STEP, EventRow, event_row
from homeserver.store.receipts import ReceiptRow


class FeedRow(Struct, frozen=True):
    """`sending` is the body of the transaction `txn_id`, None once that was taken."""

    service_id: str
    position: int
    txn_id: int
    sending: bytes | None = None
    sending_upto: int | None = None


async def load(connection: Connection, service_id: str) -> FeedRow | None:
    record = await connection.fetchrow(
        """
        SELECT service_id, position, txn_id, sending, sending_upto FROM app_services
        WHERE service_id = $1
        """,
        service_id,
    )
    return None if record is None else FeedRow(*record)


async def put(connection: Connection, row: FeedRow) -> None:
    await connection.execute(
        """
        INSERT INTO app_services (service_id, position, txn_id, sending, sending_upto)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (service_id) DO UPDATE
        SET position = excluded.position, txn_id = excluded.txn_id, sending = excluded.sending,
            sending_upto = excluded.sending_upto
        """,
        row.service_id,
        row.position,
        row.txn_id,
        row.sending,
        row.sending_upto,
    )


async def events_after(
    connection: Connection, position: int, limit: int
) -> list[tuple[str, EventRow]]:
    """The oldest live events above a position, each with its room id, in the log's order."""
    records = await connection.fetch(
        f"""
        SELECT {EVENT_COLUMNS}, r.room_id FROM event_log e JOIN rooms r USING (room_number)
        WHERE e.position > $1 AND e.timeline_order = e.position * {ORDER_STEP}
        ORDER BY e.position LIMIT $2
        """,  # noqa: S608 - constants
        position,
        limit,
    )
    return [(record["room_id"], event_row(record)) for record in records]


async def to_device_after(
    connection: Connection, service_id: str, position: int, limit: int
) -> list[tuple[str, str, int, bytes]]:
    """The oldest messages for devices of its users: user id, device id, position, json.

    At least `limit`, if there are so many: those at the last position are all there.
    """
    records = await connection.fetch(
        """
        SELECT m.user_id, m.device_id, m.position, m.json
        FROM to_device_messages m JOIN accounts a ON a.user_id = m.user_id
        WHERE a.app_service = $1 AND m.position > $2
        ORDER BY m.position FETCH FIRST $3 ROWS WITH TIES
        """,
        service_id,
        position,
        limit,
    )
    return [(r[0], r[1], r[2], r[3]) for r in records]


async def receipts_after(
    connection: Connection, position: int, upto: int, limit: int
) -> list[tuple[str, ReceiptRow]]:
    """The oldest receipts between two positions, each with its room id.

    It looks at all receipts: an index that only this needs would make each receipt dearer.
    """
    records = await connection.fetch(
        """
        SELECT r.room_id, room_number, c.user_id, c.receipt_type, c.thread_id, c.event_id,
               c.event_order, c.ts, c.position
        FROM receipts c JOIN rooms r USING (room_number)
        WHERE c.position > $1 AND c.position <= $2
        ORDER BY c.position LIMIT $3
        """,
        position,
        upto,
        limit,
    )
    return [(record[0], ReceiptRow(*record[1:])) for record in records]


async def device_changes_after(
    connection: Connection, position: int, limit: int
) -> list[tuple[int, str]]:
    """The oldest changes of device lists above a position: (position, user id)."""
    records = await connection.fetch(
        """
        SELECT position, user_id FROM device_list_changes
        WHERE position > $1 AND only_for IS NULL ORDER BY position LIMIT $2
        """,
        position,
        limit,
    )
    return [(record[0], record[1]) for record in records]


async def joined_rooms(connection: Connection, user_ids: Iterable[str]) -> list[tuple[str, str]]:
    """The rooms that these users are in, of whatever server: (user id, room id)."""
    records = await connection.fetch(
        """
        SELECT user_id, room_id FROM memberships JOIN rooms USING (room_number)
        WHERE user_id = ANY($1::text[]) AND membership = 'join'
        """,
        list(user_ids),
    )
    return [(record[0], record[1]) for record in records]


async def local_members(connection: Connection, room_ids: Sequence[str]) -> dict[str, list[str]]:
    """The users of this server in each of these rooms that has any."""
    records = await connection.fetch(
        """
        SELECT room_id, array_agg(user_id) FROM memberships JOIN rooms USING (room_number)
        WHERE room_id = ANY($1::text[]) AND is_local AND membership = 'join' GROUP BY room_id
        """,
        room_ids,
    )
    return {record[0]: record[1] for record in records}
