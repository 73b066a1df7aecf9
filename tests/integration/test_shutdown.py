"""SIGTERM: open requests are answered, the writer is drained, nothing is left running."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from homeserver.store.embedded import running_url
from tests.support.client import Refused, bodies, timeline
from tests.support.process import ServerProcess
from tests.support.server import settings

ALL = json.dumps({"room": {"timeline": {"limit": 100}}})


@pytest.fixture
async def process(own_directory: Path) -> AsyncIterator[ServerProcess]:
    server = ServerProcess(settings("embedded"), own_directory)
    await server.start()
    yield server
    await server.close()


async def test_a_long_poll_is_answered_at_the_end(
    process: ServerProcess, own_directory: Path
) -> None:
    alice = await process.client().register("alice")
    await alice.sync()
    poll = asyncio.create_task(alice.sync(timeout_ms=30_000))
    await asyncio.sleep(0.3)
    before = time.monotonic()
    assert await process.end() == 0
    assert time.monotonic() - before < 8
    assert (await poll)["next_batch"]
    assert running_url(own_directory / "data" / "postgres") is None


async def test_what_was_acknowledged_while_it_ended_is_there(process: ServerProcess) -> None:
    alice = await process.client().register("alice")
    room_ids = [await alice.create_room() for _ in range(4)]
    await alice.sync()
    acknowledged: dict[str, list[str]] = {}

    async def send(room_id: str) -> None:
        acknowledged[room_id] = []
        for number in range(80):
            try:
                await alice.send(room_id, str(number))
            except (Refused, aiohttp.ClientError, OSError):
                return
            acknowledged[room_id].append(str(number))

    senders = [asyncio.create_task(send(room_id)) for room_id in room_ids]
    async with asyncio.timeout(10):
        while not all(map(acknowledged.get, room_ids)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await process.end() == 0
    await asyncio.gather(*senders)
    assert "Traceback" not in process.log()
    await process.start()
    stored = await process.moved(alice).sync(filter=ALL)
    for room_id, texts in acknowledged.items():
        assert bodies(timeline(stored, room_id))[: len(texts)] == texts
