"""What changed in device lists (the table `device_list_changes`), and who shares a room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from homeserver.store.database import Connection


class DeviceListRow(Struct, frozen=True):
    """`device_id` is '' where it is not about one device.

    `only_for` is the one user whom it concerns, None: all who share a room with `user_id`.
    """

    position: int
    user_id: str
    device_id: str
    only_for: str | None = None


class Shared(Struct, frozen=True):
    """A room that a user is in: its number and since which position they are in it."""

    room_number: int
    joined_from: int


async def add(connection: Connection, rows: Sequence[DeviceListRow]) -> None:
    await connection.execute(
        """
        INSERT INTO device_list_changes (position, user_id, device_id, only_for)
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[])
        """,
        [r.position for r in rows],
        [r.user_id for r in rows],
        [r.device_id for r in rows],
        [r.only_for for r in rows],
    )


async def local_users_sharing_a_room(connection: Connection, user_ids: Iterable[str]) -> list[str]:
    """The local users who are in a room with any of these users."""
    records = await connection.fetch(
        """
        SELECT DISTINCT user_id FROM memberships
        WHERE is_local AND membership = 'join' AND room_number IN (
            SELECT room_number FROM memberships
            WHERE user_id = ANY($1::text[]) AND membership = 'join')
        """,
        list(user_ids),
    )
    return [record[0] for record in records]


async def users_changed(
    connection: Connection, user_id: str, room_numbers: Sequence[int], after: int, upto: int
) -> list[str]:
    """Whose devices changed between two positions, as far as it concerns a user in these rooms."""
    records = await connection.fetch(
        """
        SELECT DISTINCT c.user_id FROM device_list_changes c
        WHERE c.position > $3 AND c.position <= $4
            AND (c.only_for = $1 OR c.only_for IS NULL AND (c.user_id = $1 OR EXISTS (
                SELECT FROM memberships m WHERE m.user_id = c.user_id AND m.membership = 'join'
                    AND m.room_number = ANY($2::bigint[]))))
        """,
        user_id,
        room_numbers,
        after,
        upto,
    )
    return [record[0] for record in records]


async def memberships_changed(
    connection: Connection, room_numbers: Sequence[int], after: int, upto: int
) -> list[tuple[str, bool]]:
    """Who came or went in these rooms between two positions: (user id, whether they are in)."""
    records = await connection.fetch(
        """
        SELECT user_id, membership = 'join' FROM memberships
        WHERE room_number = ANY($1::bigint[]) AND position > $2 AND position <= $3
            AND membership IN ('join', 'leave', 'ban')
        """,
        room_numbers,
        after,
        upto,
    )
    return [(record[0], record[1]) for record in records]


async def members(connection: Connection, room_numbers: Sequence[int]) -> list[str]:
    """Everybody who is in any of these rooms."""
    records = await connection.fetch(
        """
        SELECT DISTINCT user_id FROM memberships
        WHERE room_number = ANY($1::bigint[]) AND membership = 'join'
        """,
        room_numbers,
    )
    return [record[0] for record in records]


async def shared_since(
    connection: Connection, rooms: Sequence[Shared], user_ids: Iterable[str], upto: int
) -> dict[str, int]:
    """Since which position each of these users has shared one of a user's `rooms`.

    Who shares none (at the position `upto`) is not in the answer.
    """
    records = await connection.fetch(
        """
        SELECT m.user_id, min(greatest(m.joined_from, mine.joined_from))
        FROM memberships m
        JOIN unnest($2::bigint[], $3::bigint[]) AS mine (room_number, joined_from)
            USING (room_number)
        WHERE m.user_id = ANY($1::text[]) AND m.membership = 'join' AND m.joined_from <= $4
        GROUP BY m.user_id
        """,
        list(user_ids),
        [room.room_number for room in rooms],
        [room.joined_from for room in rooms],
        upto,
    )
    return {record[0]: record[1] for record in records}


async def newest_update(connection: Connection, user_id: str) -> int:
    """The stream id of a local user's newest device list update, 0 if there is none."""
    newest: int = await connection.fetchval(
        """
        SELECT coalesce(max(position), 0) FROM device_list_changes
        WHERE user_id = $1 AND device_id <> ''
        """,
        user_id,
    )
    return newest


class Update(Struct, frozen=True):
    """A change of a local user's devices, and the one before it (0: none)."""

    position: int
    user_id: str
    device_id: str
    previous: int


async def updates_for_server(
    connection: Connection, destination: str, span: tuple[str, int, int], limit: int
) -> list[Update]:
    """What a server that shares a room with its user is to be told, oldest first.

    `span` is our server's name and the positions (after, up to).
    """
    records = await connection.fetch(
        """
        SELECT c.position, c.user_id, c.device_id, coalesce((
            SELECT max(p.position) FROM device_list_changes p
            WHERE p.user_id = c.user_id AND p.device_id <> '' AND p.position < c.position), 0)
        FROM device_list_changes c
        WHERE c.position > $2 AND c.position <= $3 AND c.only_for IS NULL
          AND substr(c.user_id, strpos(c.user_id, ':') + 1) = $1
          AND EXISTS (
            SELECT FROM memberships mine JOIN memberships theirs USING (room_number)
            WHERE mine.user_id = c.user_id AND mine.membership = 'join'
              AND NOT theirs.is_local AND theirs.membership = 'join'
              AND substr(theirs.user_id, strpos(theirs.user_id, ':') + 1) = $4
            UNION ALL
            SELECT FROM memberships mine JOIN partial_rooms USING (room_number)
            WHERE mine.user_id = c.user_id AND mine.membership = 'join'
              AND complete_from IS NULL AND $4 = ANY(servers))
        ORDER BY c.position LIMIT $5
        """,
        *span,
        destination,
        limit,
    )
    return [Update(*record) for record in records]


async def newest_of_devices(connection: Connection, user_ids: Sequence[str]) -> list[Update]:
    """The newest change of each device of these users, as if it were the first."""
    records = await connection.fetch(
        """
        SELECT max(position), user_id, device_id, 0 FROM device_list_changes
        WHERE user_id = ANY($1::text[]) AND device_id <> ''
        GROUP BY user_id, device_id ORDER BY max(position)
        """,
        user_ids,
    )
    return [Update(*record) for record in records]


async def servers_sharing_a_room(connection: Connection, user_ids: Iterable[str]) -> list[str]:
    """The other servers that are in a room with any of these users."""
    records = await connection.fetch(
        """
        SELECT DISTINCT substr(theirs.user_id, strpos(theirs.user_id, ':') + 1)
        FROM memberships mine JOIN memberships theirs USING (room_number)
        WHERE mine.user_id = ANY($1::text[]) AND mine.membership = 'join'
          AND NOT theirs.is_local AND theirs.membership = 'join'
        UNION
        SELECT unnest(servers) FROM memberships JOIN partial_rooms USING (room_number)
        WHERE user_id = ANY($1::text[]) AND membership = 'join' AND complete_from IS NULL
        """,
        list(user_ids),
    )
    return [record[0] for record in records]


async def joined_since(
    connection: Connection, positions: Mapping[str, int]
) -> dict[str, list[str]]:
    """By server, our users who have joined a room with it since a position of its own."""
    records = await connection.fetch(
        """
        WITH servers AS (
            SELECT * FROM unnest($1::text[], $2::bigint[]) AS server (name, since)
        ), joined AS MATERIALIZED (
            SELECT room_number, user_id, joined_from FROM memberships
            WHERE is_local AND membership = 'join' AND joined_from > $3
        )
        SELECT name, joined.user_id
        FROM joined JOIN memberships theirs USING (room_number)
        JOIN servers ON name = substr(theirs.user_id, strpos(theirs.user_id, ':') + 1)
        WHERE NOT theirs.is_local AND theirs.membership = 'join' AND joined.joined_from > since
        UNION
        SELECT name, user_id
        FROM joined JOIN partial_rooms USING (room_number) JOIN servers ON name = ANY(servers)
        WHERE complete_from IS NULL AND joined_from > since
        """,
        list(positions),
        list(positions.values()),
        min(positions.values(), default=0),
    )
    found: dict[str, list[str]] = {}
    for name, user_id in records:
        found.setdefault(name, []).append(user_id)
    return found


async def users_after(connection: Connection, server_name: str, after: int) -> list[str]:
    """Our users whose devices changed after a position."""
    records = await connection.fetch(
        """
        SELECT DISTINCT user_id FROM device_list_changes
        WHERE position > $2 AND only_for IS NULL
          AND substr(user_id, strpos(user_id, ':') + 1) = $1
        """,
        server_name,
        after,
    )
    return [record[0] for record in records]


async def prune(connection: Connection, told_upto: int) -> None:
    """Delete the changes that newer ones make superfluous.

    Who asks what changed since a position is told of users, servers also of devices: the newest
    change of each existing device is enough, and of a device that is no more until all servers
    were told (`told_upto`).
    """
    await connection.execute(
        """
        DELETE FROM device_list_changes WHERE position IN (
            SELECT position FROM (
                SELECT position, row_number() OVER (
                    PARTITION BY user_id, device_id, only_for ORDER BY position DESC) AS age
                FROM device_list_changes) AS aged
            WHERE age > 1)
        """
    )
    await connection.execute(
        """
        DELETE FROM device_list_changes c
        WHERE c.position <= $1 AND c.device_id <> '' AND c.only_for IS NULL
            AND NOT EXISTS (SELECT FROM devices d
                            WHERE d.user_id = c.user_id AND d.device_id = c.device_id)
            AND EXISTS (SELECT FROM device_list_changes newer
                        WHERE newer.user_id = c.user_id AND newer.position > c.position
                            AND newer.device_id <> '' AND newer.only_for IS NULL)
        """,
        told_upto,
    )
