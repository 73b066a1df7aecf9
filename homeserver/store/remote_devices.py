"""The devices of remote users as far as we know them: `remote_device_lists`, `remote_devices`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from homeserver.store.database import Connection
from homeserver.store.device_keys import PublishedDevice


class RemoteList(Struct, frozen=True):
    """`stream_id` of the newest update in it, None: not known. `fetched_at`: a stream position."""

    user_id: str
    stream_id: int | None
    is_stale: bool
    fetched_at: int


async def replace(
    connection: Connection, lists: Sequence[RemoteList], devices: Sequence[PublishedDevice]
) -> None:
    """Set whole lists, with all their devices."""
    users = [row.user_id for row in lists]
    await connection.execute("DELETE FROM remote_devices WHERE user_id = ANY($1::text[])", users)
    await put_devices(connection, devices)
    await connection.execute(
        """
        INSERT INTO remote_device_lists (user_id, stream_id, is_stale, fetched_at)
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::boolean[], $4::bigint[])
        ON CONFLICT (user_id) DO UPDATE SET stream_id = excluded.stream_id,
            is_stale = excluded.is_stale, fetched_at = excluded.fetched_at
        """,
        users,
        [row.stream_id for row in lists],
        [row.is_stale for row in lists],
        [row.fetched_at for row in lists],
    )


async def put_devices(connection: Connection, devices: Sequence[PublishedDevice]) -> None:
    """Set single devices."""
    await connection.execute(
        """
        INSERT INTO remote_devices (user_id, device_id, json, display_name)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[])
        ON CONFLICT (user_id, device_id) DO UPDATE
        SET json = excluded.json, display_name = excluded.display_name
        """,
        [d.user_id for d in devices],
        [d.device_id for d in devices],
        [d.json for d in devices],
        [d.display_name for d in devices],
    )


async def delete_device(connection: Connection, user_id: str, device_id: str) -> None:
    await connection.execute(
        "DELETE FROM remote_devices WHERE user_id = $1 AND device_id = $2", user_id, device_id
    )


async def set_stream_id(connection: Connection, user_id: str, stream_id: int) -> None:
    """The list holds this update now."""
    await connection.execute(
        "UPDATE remote_device_lists SET stream_id = $2 WHERE user_id = $1", user_id, stream_id
    )


async def mark_stale(connection: Connection, user_id: str) -> None:
    """An update of this list was missed."""
    await connection.execute(
        "UPDATE remote_device_lists SET is_stale = true WHERE user_id = $1", user_id
    )


async def get(connection: Connection, user_id: str) -> RemoteList | None:
    row = await connection.fetchrow(
        """
        SELECT user_id, stream_id, is_stale, fetched_at FROM remote_device_lists
        WHERE user_id = $1
        """,
        user_id,
    )
    return RemoteList(*row) if row is not None else None


async def devices_of(connection: Connection, user_ids: Sequence[str]) -> list[PublishedDevice]:
    """All devices that we know of these users."""
    records = await connection.fetch(
        """
        SELECT user_id, device_id, json, display_name FROM remote_devices
        WHERE user_id = ANY($1::text[]) ORDER BY user_id, device_id
        """,
        user_ids,
    )
    return [PublishedDevice(*record) for record in records]


class Following(Struct, frozen=True):
    """Whether we hear of a remote user's changes (a room is shared), and have heard of all."""

    user_id: str
    is_shared: bool
    is_fresh: bool


async def following(connection: Connection, user_ids: Iterable[str]) -> list[Following]:
    """For each remote user: whether a local user shares a room, and whether our list is whole.

    It is if it was fetched while a room was shared that is shared still, and no update is missing.
    """
    records = await connection.fetch(
        """
        WITH wanted AS (SELECT * FROM unnest($1::text[]) AS w (user_id)),
        theirs AS (
            SELECT m.user_id, m.room_number, m.joined_from
            FROM memberships m JOIN wanted USING (user_id) WHERE m.membership = 'join'
        ), ours AS (
            SELECT room_number, min(joined_from) AS joined_from FROM memberships
            WHERE is_local AND membership = 'join'
                AND room_number IN (SELECT room_number FROM theirs)
            GROUP BY room_number
        ), shared AS (
            SELECT t.user_id, min(greatest(t.joined_from, o.joined_from)) AS since
            FROM theirs t JOIN ours o USING (room_number) GROUP BY t.user_id
        )
        SELECT user_id, s.since IS NOT NULL,
            coalesce(NOT l.is_stale AND l.fetched_at >= s.since, false)
        FROM wanted LEFT JOIN shared s USING (user_id)
            LEFT JOIN remote_device_lists l USING (user_id)
        """,
        list(user_ids),
    )
    return [Following(*record) for record in records]


async def prune(connection: Connection) -> None:
    """Delete the lists of users with whom no room is shared: they would be fetched anew anyway."""
    await connection.execute(
        """
        WITH gone AS (
            DELETE FROM remote_device_lists l
            WHERE NOT EXISTS (
                SELECT FROM memberships m
                WHERE m.user_id = l.user_id AND m.membership = 'join' AND m.room_number IN (
                    SELECT room_number FROM memberships WHERE is_local AND membership = 'join'))
            RETURNING user_id
        )
        DELETE FROM remote_devices d USING gone WHERE d.user_id = gone.user_id
        """
    )
