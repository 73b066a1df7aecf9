"""Server-side key backups: `key_backups` and `backed_up_keys`."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.store.database import Connection


class Backup(Struct, frozen=True):
    """A version of a user's backup. `etag` changes with every change of a key in it."""

    version: int
    algorithm: str
    auth_data: bytes
    etag: int
    key_count: int
    is_deleted: bool


class BackedUpKey(Struct, frozen=True):
    """The key of one session of a room; `session_data` is a JSON object."""

    room_id: str
    session_id: str
    first_message_index: int
    forwarded_count: int
    is_verified: bool
    session_data: bytes


class Scope(Struct, frozen=True):
    """Keys of one backup: all, those of a room, or that of one session."""

    user_id: str
    version: int
    room_id: str | None = None
    session_id: str | None = None


_COLUMNS = "version, algorithm, auth_data, etag, key_count, is_deleted"
_IN_SCOPE = (
    "user_id = $1 AND version = $2"
    " AND ($3::text IS NULL OR room_id = $3) AND ($4::text IS NULL OR session_id = $4)"
)


async def create(connection: Connection, user_id: str, algorithm: str, auth_data: bytes) -> int:
    """Make a backup, which is the current one from now on; its version.

    The account is locked, so that two devices don't make the same version.
    """
    await connection.execute("SELECT FROM accounts WHERE user_id = $1 FOR NO KEY UPDATE", user_id)
    version: int = await connection.fetchval(
        """
        INSERT INTO key_backups (user_id, version, algorithm, auth_data)
        SELECT $1, coalesce(max(version), 0) + 1, $2, $3 FROM key_backups WHERE user_id = $1
        RETURNING version
        """,
        user_id,
        algorithm,
        auth_data,
    )
    return version


async def get(connection: Connection, user_id: str, version: int) -> Backup | None:
    """A version, also if it was deleted."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM key_backups WHERE user_id = $1 AND version = $2",  # noqa: S608
        user_id,
        version,
    )
    return Backup(*row) if row is not None else None


async def current(connection: Connection, user_id: str, *, lock: bool = False) -> Backup | None:
    """The newest version that isn't deleted; `lock`: nobody else changes it meanwhile."""
    row = await connection.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM key_backups WHERE user_id = $1 AND NOT is_deleted
        ORDER BY version DESC LIMIT 1 {"FOR UPDATE" if lock else ""}
        """,  # noqa: S608
        user_id,
    )
    return Backup(*row) if row is not None else None


async def set_auth_data(
    connection: Connection, user_id: str, version: int, auth_data: bytes
) -> None:
    await connection.execute(
        "UPDATE key_backups SET auth_data = $3 WHERE user_id = $1 AND version = $2",
        user_id,
        version,
        auth_data,
    )


async def delete(connection: Connection, user_id: str, version: int) -> None:
    """Delete a version with its keys; its number stays taken."""
    await connection.execute(
        """
        UPDATE key_backups SET is_deleted = true, auth_data = '{}', key_count = 0
        WHERE user_id = $1 AND version = $2
        """,
        user_id,
        version,
    )
    await connection.execute(
        "DELETE FROM backed_up_keys WHERE user_id = $1 AND version = $2", user_id, version
    )


async def delete_all(connection: Connection, user_id: str) -> None:
    """Forget everything that a user has backed up."""
    await connection.execute("DELETE FROM backed_up_keys WHERE user_id = $1", user_id)
    await connection.execute("DELETE FROM key_backups WHERE user_id = $1", user_id)


async def put_keys(connection: Connection, scope: Scope, keys: Sequence[BackedUpKey]) -> Backup:
    """Add keys, where they are better than those that are there; the backup afterwards.

    `keys` has no session twice; the backup must be locked.
    client-server-api#server-side-key-backups: verified before unverified, then the lower
    `first_message_index`, then the lower `forwarded_count`.
    """
    row = await connection.fetchrow(
        f"""
        WITH put AS (
            INSERT INTO backed_up_keys AS k
            SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[],
                                         $7::boolean[], $8::bytea[])
            ON CONFLICT (user_id, version, room_id, session_id) DO UPDATE
            SET first_message_index = excluded.first_message_index,
                forwarded_count = excluded.forwarded_count,
                is_verified = excluded.is_verified, session_data = excluded.session_data
            WHERE (NOT excluded.is_verified, excluded.first_message_index, excluded.forwarded_count)
                < (NOT k.is_verified, k.first_message_index, k.forwarded_count)
            RETURNING (xmax = 0) AS is_new
        ), counted AS (
            SELECT count(*) AS put, count(*) FILTER (WHERE is_new) AS added FROM put
        )
        UPDATE key_backups b SET key_count = key_count + c.added, etag = etag + least(c.put, 1)
        FROM counted c WHERE b.user_id = $1 AND b.version = $2
        RETURNING {_COLUMNS}
        """,  # noqa: S608
        scope.user_id,
        scope.version,
        [k.room_id for k in keys],
        [k.session_id for k in keys],
        [k.first_message_index for k in keys],
        [k.forwarded_count for k in keys],
        [k.is_verified for k in keys],
        [k.session_data for k in keys],
    )
    assert row is not None, "the caller has locked the backup"
    return Backup(*row)


async def keys(connection: Connection, scope: Scope) -> list[BackedUpKey]:
    """The keys in scope, by room."""
    records = await connection.fetch(
        f"""
        SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, session_data
        FROM backed_up_keys WHERE {_IN_SCOPE} ORDER BY room_id, session_id
        """,  # noqa: S608
        scope.user_id,
        scope.version,
        scope.room_id,
        scope.session_id,
    )
    return [BackedUpKey(*record) for record in records]


async def delete_keys(connection: Connection, scope: Scope) -> Backup | None:
    """Delete the keys in scope; the backup afterwards, None if there is none."""
    row = await connection.fetchrow(
        f"""
        WITH deleted AS (DELETE FROM backed_up_keys WHERE {_IN_SCOPE} RETURNING 1),
        counted AS (SELECT count(*) AS n FROM deleted)
        UPDATE key_backups b SET key_count = key_count - c.n, etag = etag + least(c.n, 1)
        FROM counted c WHERE b.user_id = $1 AND b.version = $2 AND NOT b.is_deleted
        RETURNING {_COLUMNS}
        """,  # noqa: S608
        scope.user_id,
        scope.version,
        scope.room_id,
        scope.session_id,
    )
    return Backup(*row) if row is not None else None
