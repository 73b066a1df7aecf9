"""Which threads users have subscribed to, or unsubscribed from (MSC4306)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.store.database import Connection


class ThreadSubscriptionRow(Struct, frozen=True):
    """`automatic`: the client subscribed by itself, as somebody mentioned the user, say.

    `decided_order`: the end of the room's timeline at that moment; what came before it doesn't
    undo it.
    """

    user_id: str
    room_id: str
    thread_root_id: str
    subscribed: bool
    automatic: bool
    decided_order: int
    position: int


_COLUMNS = "user_id, room_id, thread_root_id, subscribed, automatic, decided_order, position"


async def put(connection: Connection, rows: Sequence[ThreadSubscriptionRow]) -> None:
    """Set subscriptions; the last of equal keys wins."""
    unique = list({(r.user_id, r.room_id, r.thread_root_id): r for r in rows}.values())
    await connection.execute(
        f"""
        INSERT INTO thread_subscriptions ({_COLUMNS})
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::boolean[],
                             $6::bigint[], $7::bigint[])
        ON CONFLICT (room_id, thread_root_id, user_id) DO UPDATE
        SET subscribed = excluded.subscribed, automatic = excluded.automatic,
            decided_order = excluded.decided_order, position = excluded.position
        """,  # noqa: S608 - constants
        [r.user_id for r in unique],
        [r.room_id for r in unique],
        [r.thread_root_id for r in unique],
        [r.subscribed for r in unique],
        [r.automatic for r in unique],
        [r.decided_order for r in unique],
        [r.position for r in unique],
    )


async def get(
    connection: Connection, user_id: str, room_id: str, thread_root_id: str
) -> ThreadSubscriptionRow | None:
    """What a user last decided on a thread."""
    record = await connection.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM thread_subscriptions
        WHERE user_id = $1 AND room_id = $2 AND thread_root_id = $3
        """,  # noqa: S608 - constants
        user_id,
        room_id,
        thread_root_id,
    )
    return None if record is None else ThreadSubscriptionRow(*record)


async def subscribers(connection: Connection, room_id: str, thread_root_id: str) -> list[str]:
    """The users who are subscribed to a thread."""
    records = await connection.fetch(
        """
        SELECT user_id FROM thread_subscriptions
        WHERE room_id = $1 AND thread_root_id = $2 AND subscribed
        """,
        room_id,
        thread_root_id,
    )
    return [record[0] for record in records]


async def between(
    connection: Connection, user_id: str, after: int, upto: int, limit: int
) -> list[ThreadSubscriptionRow]:
    """A user's decisions with `after < position <= upto`, the newest first."""
    records = await connection.fetch(
        f"""
        SELECT {_COLUMNS} FROM thread_subscriptions
        WHERE user_id = $1 AND position > $2 AND position <= $3
        ORDER BY position DESC LIMIT $4
        """,  # noqa: S608 - constants
        user_id,
        after,
        upto,
        limit,
    )
    return [ThreadSubscriptionRow(*record) for record in records]
