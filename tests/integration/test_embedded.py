"""The embedded PostgreSQL: made, adopted after a crash, stopped, reachable for nobody else."""

from __future__ import annotations

import os
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from homeserver.store.embedded import EmbeddedPostgres, running_url
from homeserver.store.postgres_wheel import EmbeddedError
from tests.support.postgres import VARIABLE


@pytest.fixture(scope="module")
def directory() -> Path:
    """One cluster for the tests of this file, since making one takes a second."""
    made = EmbeddedPostgres(Path(tempfile.mkdtemp(dir=os.environ[VARIABLE])) / "postgres")
    made.start()
    made.stop()
    return made.directory


@pytest.fixture
def postgres(directory: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(directory, {"fsync": "off"})
    server.start()
    yield server
    server.stop()


def socket_directory(url: str) -> str:
    return parse_qs(urlsplit(url).query)["host"][0]


async def ask(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_it_starts_quickly_and_stops(directory: Path) -> None:
    server = EmbeddedPostgres(directory)
    before = time.monotonic()
    url = server.start()
    assert time.monotonic() - before < 5
    assert await ask(url, "SELECT current_database()::text") == "homeserver"
    assert running_url(directory) == url
    server.stop()
    assert running_url(directory) is None


async def test_its_settings_are_durable(directory: Path) -> None:
    server = EmbeddedPostgres(directory)
    url = server.start()
    assert await ask(url, "SHOW fsync") == "on"
    assert await ask(url, "SHOW synchronous_commit") == "on"
    assert await ask(url, "SHOW full_page_writes") == "on"
    assert await ask(url, "SHOW jit") == "off"
    server.stop()


async def test_nobody_else_can_reach_it(postgres: EmbeddedPostgres) -> None:
    assert await ask(postgres.url, "SHOW listen_addresses") == ""
    assert stat.S_IMODE(Path(socket_directory(postgres.url)).stat().st_mode) == 0o700


async def test_one_left_running_by_a_crash_is_adopted(directory: Path) -> None:
    crashed = EmbeddedPostgres(directory, {"fsync": "off"})
    url = crashed.start()
    pid = await ask(url, "SELECT pg_postmaster_start_time()")
    assert crashed._lock is not None
    os.close(crashed._lock)  # as the kernel does when a process dies
    heir = EmbeddedPostgres(directory)
    assert heir.start() == url
    assert await ask(url, "SELECT pg_postmaster_start_time()") == pid
    heir.stop()
    assert running_url(directory) is None
    assert crashed._process is not None
    crashed._process.wait(10)


async def test_it_recovers_from_its_own_crash(directory: Path) -> None:
    server = EmbeddedPostgres(directory)
    url = server.start()
    await ask(url, "CREATE TABLE IF NOT EXISTS kept (n int)")
    await ask(url, "INSERT INTO kept VALUES (42)")
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGKILL)
    server._process.wait(10)
    assert server._lock is not None
    os.close(server._lock)
    again = EmbeddedPostgres(directory)
    assert await ask(again.start(), "SELECT max(n) FROM kept") == 42
    again.stop()


def test_a_second_homeserver_is_refused(postgres: EmbeddedPostgres) -> None:
    second = EmbeddedPostgres(postgres.directory)
    with pytest.raises(EmbeddedError, match="in use by another homeserver"):
        second.start()
    assert running_url(postgres.directory) == postgres.url


def test_a_stale_pid_file_of_another_process_is_no_obstacle(directory: Path) -> None:
    (directory / "postmaster.pid").write_text(f"{os.getpid()}\n{directory}\n1\n5432\n\n\n\nready\n")
    server = EmbeddedPostgres(directory, {"fsync": "off"})
    server.start()
    server.stop()


def test_a_process_with_postgres_in_its_name_is_not_taken_for_it(directory: Path) -> None:
    (directory / "postmaster.pid").write_text(f"{os.getpid()}\n{directory}\n1\n5432\n\n\n\nready\n")
    assert running_url(directory) is None
    (directory / "postmaster.pid").unlink()


async def test_a_long_path_gets_its_socket_elsewhere(own_directory: Path) -> None:
    server = EmbeddedPostgres(own_directory / ("long" * 30) / "postgres", {"fsync": "off"})
    url = server.start()
    assert await ask(url, "SELECT 1") == 1
    sockets = socket_directory(url)
    assert len(sockets) < 80
    server.stop()
    assert not Path(sockets).exists()


def test_a_directory_with_something_else_in_it_is_refused(own_directory: Path) -> None:
    (own_directory / "postgres").mkdir()
    (own_directory / "postgres" / "photo.jpg").touch()
    with pytest.raises(EmbeddedError, match="holds no PostgreSQL"):
        EmbeddedPostgres(own_directory / "postgres").start()
