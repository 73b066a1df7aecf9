"""Fixtures that every test may ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from homeserver.store.database import Database
from tests.support import postgres


def pytest_configure(config: pytest.Config) -> None:
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
