"""Who cites whom: the auth events of events, followed inside the database."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from homeserver.store.database import Connection
from homeserver.store.state import StateKey


class ChainLink(Struct, frozen=True):
    """A state event and the ids of its auth events."""

    event_id: str
    key: StateKey
    auth_events: tuple[str, ...]


async def auth_chain(connection: Connection, event_ids: Iterable[str]) -> list[ChainLink]:
    """The state events among `event_ids` and in their auth chains; one query."""
    records = await connection.fetch(
        """
        WITH RECURSIVE chain AS (
            SELECT number FROM events WHERE event_id = ANY($1::text[])
            UNION
            SELECT cited.number
            FROM chain JOIN events e ON e.number = chain.number
            CROSS JOIN LATERAL unnest(e.auth_events) AS cited (number)
        )
        SELECT e.number, e.event_id, e.type, e.state_key, e.auth_events
        FROM chain JOIN events e ON e.number = chain.number
        WHERE e.state_key IS NOT NULL
        """,
        list(event_ids),
    )
    ids = {record[0]: record[1] for record in records}
    return [
        ChainLink(
            record[1],
            (record[2], record[3]),
            tuple(ids[number] for number in record[4] if number in ids),
        )
        for record in records
    ]
