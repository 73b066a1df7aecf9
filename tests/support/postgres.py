"""One embedded PostgreSQL for a run of the tests, a migrated template in it, a clone per test.

The workers of a run share it: its directory is told by the environment, a lock file says who
starts it, and the run's first process stops it at the end.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg

from homeserver.store.database import migrate, migrations_directory
from homeserver.store.embedded import DATABASE, EmbeddedPostgres, running_url

VARIABLE = "HOMESERVER_TESTS_POSTGRES"
PREFIX = "homeserver-tests-"
TEMPLATE = "template_migrated"
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "autovacuum": "off",
}

_started: list[EmbeddedPostgres] = []


def begin_run() -> None:
    """Called by the first process of a run: names the directory, sweeps up after killed runs."""
    for left in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        pid = left.name.removeprefix(PREFIX).partition("-")[0]
        if not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            _remove(left)
    os.environ[VARIABLE] = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")


def end_run() -> None:
    """Called by the first process of a run, when the workers are gone."""
    directory = Path(os.environ.pop(VARIABLE))
    for postgres in _started:
        postgres.stop()
    _remove(directory)


def _remove(directory: Path) -> None:
    cluster = directory / "postgres"
    if running_url(cluster):
        left = EmbeddedPostgres(cluster)
        left.start()  # adopts it
        left.stop()
    shutil.rmtree(directory, ignore_errors=True)


def template_url() -> str:
    """The URL of a database with all migrations applied, which is only good for cloning."""
    directory = Path(os.environ[VARIABLE])
    with _locked(directory / "start.lock"):
        url = running_url(directory / "postgres")
        if url is None:
            postgres = EmbeddedPostgres(directory / "postgres", SETTINGS)
            url = postgres.start()
            _started.append(postgres)
        ready = directory / "template-is-ready"
        if not ready.exists():
            with ThreadPoolExecutor(1) as thread:  # no event loop of pytest's is disturbed there
                thread.submit(asyncio.run, _make_template(url)).result()
            ready.touch()
    return database_url(url, TEMPLATE)


def database_url(url: str, database: str) -> str:
    """`url` of the run's server with another database."""
    before, _, after = url.partition("?")
    return f"{before.rpartition('/')[0]}/{database}?{after}"


async def _make_template(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {TEMPLATE}")
    await connection.close()
    connection = await asyncpg.connect(database_url(url, TEMPLATE))
    await migrate(connection, migrations_directory())
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


@asynccontextmanager
async def cloned(template: str, *, empty: bool = False) -> AsyncIterator[str]:
    """The URL of a database of one's own, a copy of `template` (or empty), dropped at the end."""
    name = f"test_{uuid.uuid4().hex}"
    source = "template0" if empty else TEMPLATE
    connection = await asyncpg.connect(database_url(template, DATABASE))
    try:
        # Copied as files: a third of the CPU of the default way, which writes all to the WAL.
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {source} STRATEGY FILE_COPY")
        yield database_url(template, name)
    finally:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.close()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
