"""The pool recovers, the migrations are applied once and in order."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import asyncpg
import pytest

from homeserver.errors import Unavailable
from homeserver.store.database import (
    Database,
    MigrationError,
    migrate,
    migrations_directory,
    read_migrations,
)
from tests.support import postgres


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text(
        "CREATE TABLE first (n int); INSERT INTO first VALUES (1)"
    )
    (tmp_path / "0002_second.sql").write_text("ALTER TABLE first ADD m int")
    return tmp_path


async def test_a_transaction_is_committed_at_its_end(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("CREATE TABLE t (n int)")
        await connection.execute("INSERT INTO t VALUES (1)")
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT n FROM t") == 1


async def test_a_transaction_with_an_exception_leaves_nothing(database: Database) -> None:
    with pytest.raises(KeyError):
        async with database.transaction() as connection:
            await connection.execute("CREATE TABLE t (n int)")
            raise KeyError
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT to_regclass('t')") is None


async def test_a_lost_connection_is_told_as_unavailable_and_replaced(database: Database) -> None:
    with pytest.raises(Unavailable):
        async with database.connection() as connection:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_idle_connections_that_were_cut_are_replaced(database: Database) -> None:
    async with database.connection() as first, database.connection() as second:
        pid = await second.fetchval("SELECT pg_backend_pid()")
        assert await first.fetchval("SELECT pg_terminate_backend($1)", pid)
        await asyncio.sleep(0.05)
    for _ in range(5):
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT 1") == 1


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("127.0.0.1:1/none", "Connect call failed"),
        ("127.0.0.1:x/none", "invalid literal"),
    ],
)
async def test_a_database_that_cannot_be_had_is_named_without_its_password(
    place: str, reason: str
) -> None:
    with pytest.raises(Unavailable, match=reason) as caught:
        await Database.open(f"postgresql://nobody:secret@{place}")
    assert place in caught.value.message
    assert "secret" not in caught.value.message


async def test_a_database_that_there_is_not_is_told_as_unavailable(database_url: str) -> None:
    with pytest.raises(Unavailable, match='"nothing" does not exist'):
        await Database.open(postgres.database_url(database_url, "nothing"))


async def test_an_error_of_the_statement_stays_what_it_is(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        async with database.connection() as connection:
            await connection.execute("SELECT * FROM nowhere")


async def test_migrations_are_applied_once_and_in_order(
    empty_database_url: str, migrations: Path
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    assert await migrate(connection, migrations) == ["0001_first", "0002_second"]
    assert await migrate(connection, migrations) == []
    assert await connection.fetchval("SELECT count(*) FROM first") == 1
    await connection.close()


async def test_servers_that_start_together_migrate_in_turn(
    empty_database_url: str, migrations: Path
) -> None:
    connections = [await asyncpg.connect(empty_database_url) for _ in range(3)]
    done = await asyncio.gather(*(migrate(c, migrations) for c in connections))
    assert sorted(map(len, done)) == [0, 0, 2]
    for connection in connections:
        await connection.close()


async def test_a_failed_migration_leaves_nothing_of_itself(
    empty_database_url: str, migrations: Path
) -> None:
    (migrations / "0003_broken.sql").write_text("CREATE TABLE third (n int); SELECT 1/0")
    connection = await asyncpg.connect(empty_database_url)
    with pytest.raises(MigrationError, match="0003_broken failed: division by zero"):
        await migrate(connection, migrations)
    assert await connection.fetchval("SELECT to_regclass('third')") is None
    assert await connection.fetchval("SELECT count(*) FROM schema_migrations") == 2
    await connection.close()


async def test_an_edited_or_newer_schema_is_refused(
    empty_database_url: str, migrations: Path
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await migrate(connection, migrations)
    (migrations / "0002_second.sql").write_text("ALTER TABLE first ADD other int")
    with pytest.raises(MigrationError, match=r"0002_second was applied .* another content"):
        await migrate(connection, migrations)
    (migrations / "0002_second.sql").unlink()
    with pytest.raises(MigrationError, match=r"newer \(0002_second\) than this server"):
        await migrate(connection, migrations)
    await connection.close()


async def test_a_tool_does_not_upgrade_the_schema_under_a_running_server(
    empty_database_url: str, migrations: Path
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    assert len(await migrate(connection, migrations, only_if_new=True)) == 2
    (migrations / "0003_third.sql").write_text("ALTER TABLE first ADD l int")
    with pytest.raises(MigrationError, match="older than this program"):
        await migrate(connection, migrations, only_if_new=True)
    assert await migrate(connection, migrations) == ["0003_third"]
    await connection.close()


async def test_a_database_that_cannot_hold_every_text_is_refused(
    database: Database, database_url: str, migrations: Path
) -> None:
    name = f"ascii_{secrets.token_hex(4)}"
    async with database.connection() as connection:
        await connection.execute(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'"
            " TEMPLATE template0"
        )
    ascii_only = await asyncpg.connect(postgres.database_url(database_url, name))
    with pytest.raises(MigrationError, match="ENCODING 'UTF8', this one has SQL_ASCII"):
        await migrate(ascii_only, migrations)
    await ascii_only.close()
    async with database.connection() as connection:
        await connection.execute(f"DROP DATABASE {name}")


def test_a_gap_or_a_clash_in_the_numbers_is_refused(migrations: Path) -> None:
    (migrations / "0002_other.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match="should have the number 0003"):
        read_migrations(migrations)


def test_our_own_migrations_are_in_order() -> None:
    assert migrations_directory().is_dir()
    read_migrations(migrations_directory())
