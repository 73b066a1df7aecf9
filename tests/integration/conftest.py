"""What several chapters need beside the homeserver."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.conftest import StartServer
from tests.support.app_service import AppServiceServer
from tests.support.oauth import OPTIONS
from tests.support.server import RunningServer


@pytest.fixture
async def service() -> AsyncIterator[AppServiceServer]:
    running = AppServiceServer()
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def oauth(start_server: StartServer) -> RunningServer:
    """A server with the OAuth 2.0 API, and alice's account."""
    server = await start_server(**OPTIONS)
    await server.user("alice")
    return server
