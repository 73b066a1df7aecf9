"""One-time keys, each given out once, and fallback keys: `one_time_keys`, `fallback_keys`."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.store.database import Connection


class KeyRow(Struct, frozen=True):
    """A key as its device uploads it; `json` is canonical, `key_id` without the algorithm."""

    algorithm: str
    key_id: str
    json: bytes


class Wanted(Struct, frozen=True):
    """A device of which a key is claimed, and the key's algorithm."""

    user_id: str
    device_id: str
    algorithm: str


class Claimed(Struct, frozen=True):
    """A key that was given out for a claim."""

    wanted: Wanted
    key_id: str
    json: bytes


class KeyCount(Struct, frozen=True):
    """What a device has of one algorithm. `has_unused_fallback` is None if it has none at all."""

    algorithm: str
    one_time_keys: int
    has_unused_fallback: bool | None


async def add(
    connection: Connection, user_id: str, device_id: str, rows: Sequence[KeyRow]
) -> tuple[list[str], int]:
    """Add one-time keys in one statement; nothing is added if a key id stands for another key.

    Returns those ids, and how many keys the device has then. A key that is there, or was given
    out already, is not added again.
    """
    record = await connection.fetchrow(
        """
        WITH given AS (
            SELECT * FROM unnest($3::text[], $4::text[], $5::bytea[]) AS g (algorithm, key_id, json)
        ), clashes AS (
            SELECT g.algorithm || ':' || g.key_id AS id FROM given g
            JOIN one_time_keys k ON k.user_id = $1 AND k.device_id = $2
                AND k.algorithm = g.algorithm AND k.key_id = g.key_id
            WHERE k.json <> g.json
        ), forgotten AS (
            DELETE FROM one_time_keys k WHERE user_id = $1 AND device_id = $2 AND json IS NULL
                AND NOT EXISTS (SELECT FROM given g
                                WHERE g.algorithm = k.algorithm AND g.key_id = k.key_id)
        ), added AS (
            INSERT INTO one_time_keys (user_id, device_id, algorithm, key_id, json)
            SELECT $1, $2, algorithm, key_id, json FROM given
            WHERE NOT EXISTS (SELECT FROM clashes)
            ON CONFLICT DO NOTHING RETURNING number
        )
        SELECT ARRAY(SELECT id FROM clashes),
               (SELECT count(*) FROM added) + (
                   SELECT count(*) FROM one_time_keys
                   WHERE user_id = $1 AND device_id = $2 AND json IS NOT NULL)
        """,
        user_id,
        device_id,
        [row.algorithm for row in rows],
        [row.key_id for row in rows],
        [row.json for row in rows],
    )
    assert record is not None
    return record[0], record[1]


async def put_fallback(
    connection: Connection, user_id: str, device_id: str, rows: Sequence[KeyRow]
) -> int:
    """Set the fallback key of each algorithm; a new one is unused. Returns how many there are."""
    count: int = await connection.fetchval(
        """
        WITH put AS (
            INSERT INTO fallback_keys AS f (user_id, device_id, algorithm, key_id, json)
            SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::bytea[])
            ON CONFLICT (user_id, device_id, algorithm) DO UPDATE
            SET key_id = excluded.key_id, json = excluded.json,
                is_used = f.is_used AND f.key_id = excluded.key_id
            RETURNING algorithm
        )
        SELECT count(*) FROM (
            SELECT algorithm FROM put UNION
            SELECT algorithm FROM fallback_keys WHERE user_id = $1 AND device_id = $2) AS every
        """,
        user_id,
        device_id,
        [row.algorithm for row in rows],
        [row.key_id for row in rows],
        [row.json for row in rows],
    )
    return count


async def claim(connection: Connection, wanted: Sequence[Wanted]) -> list[Claimed]:
    """Give out the oldest one-time key of each, where there is one; no two callers get the same.

    `wanted` has no device and algorithm twice.
    """
    records = await connection.fetch(
        """
        WITH found AS (
            SELECT w.user_id, w.device_id, w.algorithm, k.number, k.key_id, k.json
            FROM unnest($1::text[], $2::text[], $3::text[]) AS w (user_id, device_id, algorithm)
            CROSS JOIN LATERAL (
                SELECT number, key_id, json FROM one_time_keys k
                WHERE k.user_id = w.user_id AND k.device_id = w.device_id
                    AND k.algorithm = w.algorithm AND k.json IS NOT NULL
                ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED
            ) k
        )
        UPDATE one_time_keys k SET json = NULL FROM found WHERE k.number = found.number
        RETURNING found.user_id, found.device_id, found.algorithm, found.key_id, found.json
        """,
        *_columns(wanted),
    )
    return [Claimed(Wanted(*r[:3]), r[3], r[4]) for r in records]


async def use_fallback(connection: Connection, wanted: Sequence[Wanted]) -> list[Claimed]:
    """Give out the fallback key of each, where there is one; from now on it counts as used."""
    records = await connection.fetch(
        """
        WITH wanted AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
                AS w (user_id, device_id, algorithm)
        ), marked AS (
            UPDATE fallback_keys f SET is_used = true FROM wanted w
            WHERE f.user_id = w.user_id AND f.device_id = w.device_id
                AND f.algorithm = w.algorithm AND NOT f.is_used
        )
        SELECT user_id, device_id, algorithm, key_id, json
        FROM fallback_keys JOIN wanted USING (user_id, device_id, algorithm)
        """,
        *_columns(wanted),
    )
    return [Claimed(Wanted(*r[:3]), r[3], r[4]) for r in records]


async def counts(
    connection: Connection, devices: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], list[KeyCount]]:
    """What each of these devices (user id, device id) has left, by algorithm."""
    records = await connection.fetch(
        """
        WITH asked AS (SELECT * FROM unnest($1::text[], $2::text[]) AS a (user_id, device_id))
        SELECT user_id, device_id, algorithm, coalesce(k.count, 0), NOT f.is_used
        FROM (SELECT user_id, device_id, algorithm, count(*)
              FROM asked JOIN one_time_keys USING (user_id, device_id)
              WHERE json IS NOT NULL GROUP BY user_id, device_id, algorithm) k
        FULL JOIN (SELECT user_id, device_id, algorithm, is_used
                   FROM asked JOIN fallback_keys USING (user_id, device_id)) f
            USING (user_id, device_id, algorithm)
        ORDER BY algorithm
        """,
        [user_id for user_id, _ in devices],
        [device_id for _, device_id in devices],
    )
    found: dict[tuple[str, str], list[KeyCount]] = {device: [] for device in devices}
    for user_id, device_id, *count in records:
        found[user_id, device_id].append(KeyCount(*count))
    return found


async def clear(connection: Connection) -> int:
    """Forget all one-time keys of all devices; how many there were.

    For a database restored from a backup: keys that it still holds may have been given out since.
    """
    deleted: int = await connection.fetchval(
        """
        WITH deleted AS (DELETE FROM one_time_keys RETURNING json)
        SELECT count(json) FROM deleted
        """
    )
    return deleted


def _columns(wanted: Sequence[Wanted]) -> tuple[list[str], list[str], list[str]]:
    return (
        [w.user_id for w in wanted],
        [w.device_id for w in wanted],
        [w.algorithm for w in wanted],
    )
