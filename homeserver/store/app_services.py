"""How far application services have been served; the transaction that each is being sent."""

from __future__ import annotations

from msgspec import Struct

from homeserver.store.database import Connection
from homeserver.store.events import EVENT_COLUMNS, EventRow, event_row


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
    """The oldest timeline events above a position, each with its room id, in the log's order."""
    records = await connection.fetch(
        f"""
        SELECT {EVENT_COLUMNS}, r.room_id FROM events e JOIN rooms r USING (room_number)
        WHERE e.number > $1 AND e.timeline_order IS NOT NULL
        ORDER BY e.number LIMIT $2
        """,  # noqa: S608 - constants
        position,
        limit,
    )
    return [(record["room_id"], event_row(record)) for record in records]


async def to_device_after(
    connection: Connection, service_id: str, position: int, limit: int
) -> list[tuple[str, str, int, bytes]]:
    """The oldest messages for devices of its users: user id, device id, position, json."""
    records = await connection.fetch(
        """
        SELECT m.user_id, m.device_id, m.position, m.json
        FROM to_device_messages m JOIN accounts a ON a.user_id = m.user_id
        WHERE a.app_service = $1 AND m.position > $2
        ORDER BY m.position LIMIT $3
        """,
        service_id,
        position,
        limit,
    )
    return [(r[0], r[1], r[2], r[3]) for r in records]
