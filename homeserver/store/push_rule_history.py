"""The push rules that users had earlier."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.store.account_data import AccountDataRow
from homeserver.store.database import Connection

KEPT = 20
"""Versions per user; what came under still older rules is judged by the oldest of these."""


async def keep(connection: Connection, new: Sequence[AccountDataRow], unchanged: bytes) -> None:
    """Write down the rules that these (of different users, not yet written) will replace.

    `unchanged` stands for the rules of who never changed any.
    """
    await connection.execute(
        """
        INSERT INTO push_rule_history (user_id, until_position, rules)
        SELECT n.user_id, n.position, coalesce(a.content, $4)
        FROM unnest($1::text[], $2::bigint[]) AS n (user_id, position)
        LEFT JOIN account_data a ON a.user_id = n.user_id AND a.room_id = '' AND a.type = $3
        """,
        [row.user_id for row in new],
        [row.position for row in new],
        new[0].type,
        unchanged,
    )
    await connection.execute(
        """
        DELETE FROM push_rule_history h
        WHERE user_id = ANY($1::text[]) AND until_position <= (
            SELECT until_position FROM push_rule_history o WHERE o.user_id = h.user_id
            ORDER BY until_position DESC OFFSET $2 LIMIT 1)
        """,
        [row.user_id for row in new],
        KEPT,
    )


async def of_users(
    connection: Connection, user_ids: Sequence[str]
) -> dict[str, tuple[tuple[int, bytes], ...]]:
    """The earlier rules of each user who has any, each with the position up to which they held."""
    records = await connection.fetch(
        """
        SELECT user_id, until_position, rules FROM push_rule_history
        WHERE user_id = ANY($1::text[]) ORDER BY until_position
        """,
        user_ids,
    )
    found: dict[str, tuple[tuple[int, bytes], ...]] = {}
    for user_id, until, rules in records:
        found[user_id] = (*found.get(user_id, ()), (until, rules))
    return found
