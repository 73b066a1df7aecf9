"""What commands do straight in the database, whether the server runs or not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from homeserver.config import EMBEDDED, Config
from homeserver.errors import MatrixError

SKIPPED_POSITIONS = 1_000_000_000
"""More than a server gives out between two backups; a stream position has 63 bits."""


class Refused(Exception):
    """The command can't be carried out; the text says why."""


@contextmanager
def database_url(config: Config) -> Iterator[str]:
    """Where the database is; the embedded one is started for as long as it takes."""
    if config.database != EMBEDDED:
        yield config.database
        return
    from homeserver.store.embedded import EmbeddedPostgres, running_url
    from homeserver.store.postgres_wheel import EmbeddedError

    directory = config.data_dir / "postgres"
    if (url := running_url(directory)) is not None:
        yield url
        return
    postgres = EmbeddedPostgres(directory)
    try:
        url = postgres.start()
    except (EmbeddedError, OSError) as error:
        raise Refused(str(error)) from error
    try:
        yield url
    finally:
        postgres.stop()


def after_restore(config: Config) -> int:
    """Make a database safe that was restored from a backup; how many one-time keys were cleared.

    Raises Refused, also while the server runs.
    """
    with database_url(config) as url:
        try:
            return asyncio.run(_after_restore(url))
        except MatrixError as error:
            raise Refused(error.message) from error


async def _after_restore(url: str) -> int:
    from asyncpg import UndefinedTableError

    from homeserver.store import one_time_keys, stream_positions
    from homeserver.store.database import Database

    database = await Database.open(url, connections=1)
    try:
        async with database.transaction() as connection:
            reserved = await stream_positions.take_lock(connection)
            # Clients may hold tokens from after the backup: they must not be given out again.
            await stream_positions.reserve(connection, reserved + SKIPPED_POSITIONS)
            # The keys may have been given out after the backup.
            return await one_time_keys.clear(connection)
    except stream_positions.WriterLockTaken as error:
        raise Refused(str(error)) from error
    except UndefinedTableError as error:
        raise Refused("The database is empty: restore the backup first") from error
    finally:
        await database.close()
