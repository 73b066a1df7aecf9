"""The way to Postgres: the connection pool, and the schema's migrations.

Rules of this file: whoever can't reach Postgres is told `errors.Unavailable`, never an asyncpg
error; a connection goes back to the pool as it is, so nobody leaves settings, cursors, advisory
locks or listeners behind on one.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
from msgspec import Struct

from homeserver.errors import Unavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

ACQUIRE_SECONDS = 10.0
CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 10.0
OLDEST_POSTGRES = 15
MIGRATION_LOCK = 7_061_746_972_480_000_001  # the advisory lock of `migrate`; any fixed number

_STUMBLES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_LOST = (
    asyncpg.InternalClientError,  # told of its end by Postgres, but not yet closed
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
)

_CREATE_MIGRATIONS = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum bytea NOT NULL,  -- SHA-256 of the file as it was applied
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


async def _leave_as_it_is(_connection: Any) -> None:
    """Instead of asyncpg's reset, which sends four statements at each release."""


def _options() -> dict[str, Any]:
    return {
        "timeout": CONNECT_SECONDS,
        "statement_cache_size": 1024,
        "max_cached_statement_lifetime": 0,  # a prepared statement stays
        "server_settings": {"application_name": "homeserver", "jit": "off"},
    }


class Database:
    """A pool of connections to one Postgres database.

    It recovers by itself: a lost connection is replaced when it is needed next.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], url: str) -> None:
        self._pool = pool
        self._url = url

    @classmethod
    async def open(cls, url: str, connections: int = 16) -> Database:
        """Connects to `url` (postgresql://…); raises Unavailable, which says why it can't."""
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=connections,
                max_queries=10_000_000,
                max_inactive_connection_lifetime=300,
                reset=_leave_as_it_is,
                **_options(),
            )
        except (*_STUMBLES, OSError, ValueError) as error:
            reason = "it doesn't answer" if isinstance(error, TimeoutError) else error
            raise Unavailable(f"The database {_shown(url)} can't be used: {reason}") from error
        return cls(pool, url)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for as long as the block lasts; each statement is its own transaction."""
        with unavailable_if_lost():
            try:
                connection = await self._pool.acquire(timeout=ACQUIRE_SECONDS)
            except TimeoutError as error:
                raise Unavailable("The database is too busy; try again later") from error
        try:
            with unavailable_if_lost(connection):
                yield connection
        finally:
            await self._pool.release(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction, committed when the block ends without an exception."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def dedicated(self) -> asyncpg.Connection[asyncpg.Record]:
        """A connection outside the pool, which the caller closes; raises Unavailable.

        What happens on it isn't translated: see `unavailable_if_lost`.
        """
        with unavailable_if_lost():
            return await asyncpg.connect(self._url, **_options())

    async def close(self) -> None:
        """Closes the pool, if need be the hard way."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


def _shown(url: str) -> str:
    """A database's URL without who logs in there and with which password."""
    return re.sub(r"//[^/?]*@", "//", url).partition("?")[0]


@contextmanager
def unavailable_if_lost(connection: Connection | None = None) -> Iterator[None]:
    """Turns the loss of `connection` (None: a failure to connect) into Unavailable."""
    try:
        yield
    except (*_STUMBLES, OSError) as error:
        # Without a connection an OSError is the refused connect; TimeoutError is an OSError too.
        # With one, only its own end counts: the block's other failures are the block's.
        lost = isinstance(error, OSError) if connection is None else is_closed(connection)
        if isinstance(error, asyncpg.InternalClientError) and connection is not None:
            connection.terminate()
        if lost or isinstance(error, _LOST):
            raise Unavailable("The database can't be reached; try again later") from error
        raise


def is_closed(connection: Connection) -> bool:
    """Is it over with this connection? (The pool takes a lost one away from its holder.)"""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


class MigrationError(Exception):
    """The database's schema and this server don't fit; the text says why and what to do."""


class Migration(Struct, frozen=True):
    """One file `NNNN_subject.sql`."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> bytes:
        return hashlib.sha256(self.sql.encode()).digest()


def migrations_directory() -> Path:
    """`migrations/` of the installed package, or of the repository it runs from."""
    package = Path(__file__).parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def read_migrations(directory: Path) -> list[Migration]:
    """The migrations in `directory`, in order; raises MigrationError on a gap or a clash."""
    found = []
    for expected, path in enumerate(sorted(directory.glob("*.sql")), 1):
        number = path.name.partition("_")[0]
        if number != f"{expected:04d}":
            raise MigrationError(
                f"{path}: the next migration should have the number {expected:04d}"
            )
        found.append(Migration(expected, path.stem, path.read_text(encoding="utf-8")))
    return found


async def migrate(
    connection: Connection, directory: Path, *, only_if_new: bool = False
) -> list[str]:
    """Brings the schema up to the newest migration in `directory`; the names of those applied.

    Holds an advisory lock meanwhile, so that servers that start together take turns. With
    `only_if_new` an older schema is refused: its server may be running.
    Raises MigrationError if the database is newer than this server, or an applied file changed.
    """
    migrations = read_migrations(directory)
    await _check_postgres(connection)
    await connection.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
    try:
        await connection.execute(_CREATE_MIGRATIONS)
        done = await _check_applied(connection, migrations)
        if only_if_new and 0 < done < len(migrations):
            raise MigrationError(
                "The database's schema is older than this program:"
                " start the server once with it, which upgrades the schema"
            )
        for migration in migrations[done:]:
            await _apply(connection, migration)
    finally:
        if not is_closed(connection):
            await connection.execute("SELECT pg_advisory_unlock($1)", MIGRATION_LOCK)
    return [migration.name for migration in migrations[done:]]


async def _check_postgres(connection: Connection) -> None:
    version = connection.get_server_version()
    if version.major < OLDEST_POSTGRES:
        raise MigrationError(
            f"PostgreSQL {OLDEST_POSTGRES} or newer is needed, this is {version.major}"
        )
    encoding = connection.get_settings().server_encoding
    if encoding != "UTF8":
        raise MigrationError(
            f"The database must be made with ENCODING 'UTF8', this one has {encoding}"
        )


async def _check_applied(connection: Connection, migrations: list[Migration]) -> int:
    """How many are applied already; raises MigrationError where they aren't ours."""
    rows = await connection.fetch("SELECT * FROM schema_migrations ORDER BY number")
    if len(rows) > len(migrations):
        raise MigrationError(
            f"The database's schema is newer ({rows[-1]['name']}) than this server"
            f" ({migrations[-1].name if migrations else 'no migrations'}):"
            " run the newer server, or restore a backup from before its upgrade"
        )
    for row, migration in zip(rows, migrations, strict=False):
        if row["number"] != migration.number:
            raise MigrationError(f"The database lacks the migration {migration.name}")
        if row["checksum"] != migration.checksum:
            raise MigrationError(
                f"The migration {row['name']} was applied to this database with another content:"
                " an applied migration must never be edited"
            )
    return len(rows)


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.checksum,
            )
    except asyncpg.PostgresError as error:
        raise MigrationError(f"The migration {migration.name} failed: {error}") from error
