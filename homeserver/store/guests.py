"""Guests in rooms: across the tables of accounts, memberships and rooms, only read."""

from __future__ import annotations

from collections.abc import Iterable

from homeserver.store.database import Connection


async def unwelcome(
    connection: Connection, room_numbers: Iterable[int] | None
) -> list[tuple[str, str]]:
    """Guests (room id, user id) in those of these rooms, or of all, that take no guests now."""
    records = await connection.fetch(
        """
        SELECT r.room_id, m.user_id
        FROM accounts a
        JOIN memberships m ON m.user_id = a.user_id
        JOIN rooms r USING (room_number)
        JOIN room_facts f USING (room_number)
        WHERE a.is_guest AND m.membership = 'join' AND m.is_local
          AND f.guest_access IS DISTINCT FROM 'can_join'
          AND ($1::bigint[] IS NULL OR m.room_number = ANY($1))
        """,
        None if room_numbers is None else list(room_numbers),
    )
    return [(record[0], record[1]) for record in records]
