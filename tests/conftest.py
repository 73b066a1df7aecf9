"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog

from homeserver.store.database import Database
from tests.support import postgres
from tests.support.server import RunningServer, settings

StartServer = Callable[..., Awaitable[RunningServer]]


def pytest_configure(config: pytest.Config) -> None:
    # Tracebacks as Python shows them: drawn in boxes they take a second each.
    plain = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[structlog.processors.add_log_level, plain])
    if not hasattr(config, "workerinput"):
        postgres.begin_run()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        postgres.end_run()


@pytest.fixture(scope="session")
def template_url() -> str:
    """Starts the run's PostgreSQL when the first test needs it."""
    return postgres.template_url()


@pytest.fixture
def own_directory() -> Path:
    """Where an embedded PostgreSQL of the test's own can be.

    Not in `tmp_path`: each start of pytest shuts everybody else out of the folder above, and run
    as root PostgreSQL is somebody else.
    """
    return Path(tempfile.mkdtemp(dir=os.environ[postgres.VARIABLE]))


@pytest.fixture
async def database_url(template_url: str) -> AsyncIterator[str]:
    """A migrated database of the test's own."""
    async with postgres.cloned(template_url) as url:
        yield url


@pytest.fixture
async def empty_database_url(template_url: str) -> AsyncIterator[str]:
    """A database without any table."""
    async with postgres.cloned(template_url, empty=True) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool to a migrated database of the test's own."""
    opened = await Database.open(database_url, connections=5)
    yield opened
    await opened.close()


@pytest.fixture
async def start_server(template_url: str, tmp_path: Path) -> AsyncIterator[StartServer]:
    """Starts a homeserver with a database of its own; `await start_server(section={...})`."""
    async with AsyncExitStack() as stack:

        async def start(**more: Any) -> RunningServer:
            database = await stack.enter_async_context(postgres.cloned(template_url))
            values = settings(database, **more)
            data = tmp_path / f"data-{values['server_name'].replace(':', '-')}"
            server = RunningServer({"data_dir": str(data), **values}, tmp_path)
            stack.push_async_callback(server.stop)
            await server.start()
            return server

        yield start


@pytest.fixture
async def server(start_server: StartServer) -> RunningServer:
    """A running homeserver with the config of `tests/support/server.py`."""
    return await start_server()
