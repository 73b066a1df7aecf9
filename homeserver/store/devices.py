"""The devices of local users: the table `devices`."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.store.database import Connection


class Device(Struct, frozen=True):
    """A device as its user sees it; `last_seen_at` is in milliseconds since the epoch."""

    device_id: str
    display_name: str | None
    last_seen_at: int | None
    last_seen_ip: str | None
    last_seen_user_agent: str | None


class Sighting(Struct, frozen=True):
    """When and from where a device made its newest request."""

    user_id: str
    device_id: str
    at: int
    ip: str
    user_agent: str | None


_COLUMNS = ", ".join(Device.__struct_fields__)


async def upsert(
    connection: Connection, user_id: str, device_id: str, display_name: str | None, now: int
) -> bool:
    """Make the device if it isn't there, and tell whether it was made.

    The display name of a known device stays as it is.
    """
    made = await connection.fetchval(
        """
        INSERT INTO devices (user_id, device_id, display_name, created_at)
        VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING true
        """,
        user_id,
        device_id,
        display_name,
        now,
    )
    return made is not None


async def of_user(connection: Connection, user_id: str) -> list[Device]:
    """All devices of a user, oldest first."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM devices WHERE user_id = $1"  # noqa: S608 - fixed columns
        " ORDER BY created_at, device_id",
        user_id,
    )
    return [Device(**row) for row in rows]


async def ids_of_users(connection: Connection, user_ids: Sequence[str]) -> list[tuple[str, str]]:
    """All devices of these users: (user id, device id)."""
    rows = await connection.fetch(
        "SELECT user_id, device_id FROM devices WHERE user_id = ANY($1::text[])", user_ids
    )
    return [(row[0], row[1]) for row in rows]


async def names_of_users(
    connection: Connection, user_ids: Sequence[str]
) -> dict[tuple[str, str], str | None]:
    """What these users call their devices: (user id, device id) -> display name."""
    rows = await connection.fetch(
        "SELECT user_id, device_id, display_name FROM devices WHERE user_id = ANY($1::text[])",
        user_ids,
    )
    return {(row[0], row[1]): row[2] for row in rows}


async def find(connection: Connection, user_id: str, device_id: str) -> Device | None:
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM devices"  # noqa: S608 - fixed columns
        " WHERE user_id = $1 AND device_id = $2",
        user_id,
        device_id,
    )
    return Device(**row) if row is not None else None


async def rename(connection: Connection, user_id: str, device_id: str, display_name: str) -> bool:
    """False if there is no such device."""
    renamed = await connection.fetchval(
        """
        UPDATE devices SET display_name = $3
        WHERE user_id = $1 AND device_id = $2 RETURNING true
        """,
        user_id,
        device_id,
        display_name,
    )
    return renamed is not None


async def delete(connection: Connection, devices: Sequence[tuple[str, str]]) -> None:
    """Delete devices (user id, device id), with all that hangs on them: tokens, keys."""
    await connection.execute(
        """
        DELETE FROM devices d USING unnest($1::text[], $2::text[]) AS g (user_id, device_id)
        WHERE d.user_id = g.user_id AND d.device_id = g.device_id
        """,
        [user_id for user_id, _ in devices],
        [device_id for _, device_id in devices],
    )


async def seen(connection: Connection, sightings: Sequence[Sighting]) -> None:
    """Write down when and from where these devices were seen."""
    await connection.execute(
        """
        UPDATE devices AS d
        SET last_seen_at = s.at, last_seen_ip = s.ip, last_seen_user_agent = s.user_agent
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[])
            AS s (user_id, device_id, at, ip, user_agent)
        WHERE d.user_id = s.user_id AND d.device_id = s.device_id
        """,
        [s.user_id for s in sightings],
        [s.device_id for s in sightings],
        [s.at for s in sightings],
        [s.ip for s in sightings],
        [s.user_agent for s in sightings],
    )


async def unseen_since(connection: Connection, before: int) -> dict[str, list[str]]:
    """The devices of users that made no request since a time (milliseconds), by user.

    Without dehydrated ones, which never make any, and those of application services' users.
    """
    rows = await connection.fetch(
        """
        SELECT d.user_id, array_agg(d.device_id)
        FROM devices d JOIN accounts a USING (user_id)
        WHERE coalesce(d.last_seen_at, d.created_at) < $1 AND a.app_service IS NULL
            AND NOT EXISTS (SELECT FROM dehydrated_devices h
                            WHERE h.user_id = d.user_id AND h.device_id = d.device_id)
        GROUP BY d.user_id
        """,
        before,
    )
    return {row[0]: row[1] for row in rows}
