"""The table `received_pdus`: what was acknowledged before it was dealt with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from homeserver.store.database import Connection


class ReceivedPdu(Struct, frozen=True):
    event_id: str
    room_id: str
    origin: str
    json: bytes
    received_at: int


async def put(connection: Connection, rows: Sequence[ReceivedPdu]) -> None:
    """Keep these until `delete`; one that is kept already stays as it is."""
    await connection.execute(
        """
        INSERT INTO received_pdus (event_id, room_id, origin, json, received_at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bigint[])
        ON CONFLICT (event_id) DO NOTHING
        """,
        [row.event_id for row in rows],
        [row.room_id for row in rows],
        [row.origin for row in rows],
        [row.json for row in rows],
        [row.received_at for row in rows],
    )


async def delete(connection: Connection, event_ids: Iterable[str]) -> None:
    """These were dealt with."""
    await connection.execute(
        "DELETE FROM received_pdus WHERE event_id = ANY($1::text[])", list(event_ids)
    )


async def all_pdus(connection: Connection) -> list[ReceivedPdu]:
    """What is still to be dealt with, in the order in which it came."""
    records = await connection.fetch(
        "SELECT event_id, room_id, origin, json, received_at FROM received_pdus"
        " ORDER BY received_at"
    )
    return [ReceivedPdu(*record) for record in records]
