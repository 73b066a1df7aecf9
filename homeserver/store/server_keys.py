"""The table `server_keys`: the public keys of other servers."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import Struct

from homeserver.store.database import Connection


class ServerKey(Struct, frozen=True):
    """A key and until when (milliseconds since the epoch) it may sign.

    `response` is the JSON in which the server published it.
    """

    server_name: str
    key_id: str
    verify_key: bytes
    valid_until_ts: int
    fetched_at: int
    response: bytes


async def find_keys(connection: Connection, wanted: Collection[tuple[str, str]]) -> list[ServerKey]:
    """The keys with these server names and key ids, as far as they are known."""
    rows = await connection.fetch(
        """
        SELECT server_name, key_id, verify_key, valid_until_ts, fetched_at, response
        FROM server_keys
        JOIN unnest($1::text[], $2::text[]) AS wanted (server_name, key_id)
            USING (server_name, key_id)
        """,
        [server_name for server_name, _ in wanted],
        [key_id for _, key_id in wanted],
    )
    return [ServerKey(*row) for row in rows]


async def find_keys_of_servers(
    connection: Connection, server_names: Collection[str]
) -> list[ServerKey]:
    """All known keys of these servers."""
    rows = await connection.fetch(
        """
        SELECT server_name, key_id, verify_key, valid_until_ts, fetched_at, response
        FROM server_keys WHERE server_name = ANY($1::text[])
        """,
        list(server_names),
    )
    return [ServerKey(*row) for row in rows]


async def put_keys(connection: Connection, keys: Iterable[ServerKey]) -> None:
    """Adds or refreshes keys. A key id that is known with other bytes gets the new ones."""
    rows = sorted(keys, key=lambda key: (key.server_name, key.key_id))  # no deadlocks
    await connection.execute(
        """
        INSERT INTO server_keys
            (server_name, key_id, verify_key, valid_until_ts, fetched_at, response)
        SELECT * FROM unnest(
            $1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[]
        )
        ON CONFLICT (server_name, key_id) DO UPDATE SET
            verify_key = EXCLUDED.verify_key,
            valid_until_ts = EXCLUDED.valid_until_ts,
            fetched_at = EXCLUDED.fetched_at,
            response = EXCLUDED.response
        """,
        [key.server_name for key in rows],
        [key.key_id for key in rows],
        [key.verify_key for key in rows],
        [key.valid_until_ts for key in rows],
        [key.fetched_at for key in rows],
        [key.response for key in rows],
    )
