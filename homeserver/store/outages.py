"""The table `server_outages`: which servers don't answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from homeserver.store.database import Connection

OutageRow = tuple[str, int, int, int]
"""Destination, failing since, failures in a row, retry at."""


async def all_outages(connection: Connection) -> list[OutageRow]:
    rows = await connection.fetch(
        "SELECT destination, failing_since, failures, retry_at FROM server_outages"
    )
    return [(row[0], row[1], row[2], row[3]) for row in rows]


async def put_outages(connection: Connection, outages: Sequence[OutageRow]) -> None:
    await connection.execute(
        """
        INSERT INTO server_outages (destination, failing_since, failures, retry_at)
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::integer[], $4::bigint[])
        ON CONFLICT (destination) DO UPDATE SET
            failing_since = EXCLUDED.failing_since,
            failures = EXCLUDED.failures,
            retry_at = EXCLUDED.retry_at
        """,
        *(list(column) for column in zip(*outages, strict=True)),
    )


async def delete_outages(connection: Connection, destinations: Collection[str]) -> None:
    await connection.execute(
        "DELETE FROM server_outages WHERE destination = ANY($1::text[])", list(destinations)
    )
