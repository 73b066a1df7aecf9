"""Fixtures of real clients."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.js_client import JsClients


@pytest.fixture
async def js() -> AsyncIterator[JsClients]:
    clients = JsClients()
    await clients.start()
    yield clients
    await clients.stop()
