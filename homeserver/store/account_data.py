"""Account data: what clients keep with their user's account, globally or for a room."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.store.database import Connection


class AccountDataRow(Struct, frozen=True):
    """`room_id` is '' for global account data; `content` is a JSON object."""

    user_id: str
    room_id: str
    type: str
    content: bytes
    position: int


async def put(connection: Connection, rows: Sequence[AccountDataRow]) -> None:
    """Set account data; the last of equal keys wins."""
    last = {(r.user_id, r.room_id, r.type): r for r in rows}
    unique = list(last.values())
    await connection.execute(
        """
        INSERT INTO account_data (user_id, room_id, type, content, position)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bigint[])
        ON CONFLICT (user_id, room_id, type) DO UPDATE
        SET content = excluded.content, position = excluded.position
        """,
        [r.user_id for r in unique],
        [r.room_id for r in unique],
        [r.type for r in unique],
        [r.content for r in unique],
        [r.position for r in unique],
    )


async def of_user(connection: Connection, user_id: str, after: int = 0) -> list[AccountDataRow]:
    """A user's account data, global and of rooms, that changed after a stream position."""
    records = await connection.fetch(
        """
        SELECT user_id, room_id, type, content, position FROM account_data
        WHERE user_id = $1 AND position > $2 ORDER BY position
        """,
        user_id,
        after,
    )
    return [AccountDataRow(*record) for record in records]


async def of_users(
    connection: Connection, user_ids: Sequence[str], types: Sequence[str]
) -> dict[tuple[str, str], bytes]:
    """The global account data of some types, by user and type."""
    records = await connection.fetch(
        """
        SELECT user_id, type, content FROM account_data
        WHERE user_id = ANY($1) AND room_id = '' AND type = ANY($2)
        """,
        user_ids,
        types,
    )
    return {(record[0], record[1]): record[2] for record in records}


async def get(connection: Connection, user_id: str, room_id: str, type_: str) -> bytes | None:
    """The content of one piece of account data."""
    content: bytes | None = await connection.fetchval(
        "SELECT content FROM account_data WHERE user_id = $1 AND room_id = $2 AND type = $3",
        user_id,
        room_id,
        type_,
    )
    return content


async def delete_all(connection: Connection, user_id: str) -> None:
    """Forget all account data of a user whose account has ended."""
    await connection.execute("DELETE FROM account_data WHERE user_id = $1", user_id)
