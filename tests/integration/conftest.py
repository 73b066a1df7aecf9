"""What several chapters need beside the homeserver."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.app_service import AppServiceServer


@pytest.fixture
async def service() -> AsyncIterator[AppServiceServer]:
    running = AppServiceServer()
    await running.start()
    yield running
    await running.stop()
