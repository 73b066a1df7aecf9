"""`kill -9` while devices send to devices and claim keys: nothing is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.client import Client
from tests.support.encryption import claim, one_time_keys
from tests.support.process import ServerProcess
from tests.support.server import settings

MESSAGES, SENDERS = 1000, 10
KEYS = 400
CRASHES_AFTER = (150, 400, 700)
"""Received messages."""
LOST = (aiohttp.ClientError, OSError)


@pytest.fixture
async def process(own_directory: Path) -> AsyncIterator[ServerProcess]:
    server = ServerProcess(settings("embedded"), own_directory)
    await server.start()
    yield server
    await server.close()


class Life:
    """Clients that outlive the server's crashes: each call is repeated until it is answered."""

    def __init__(self, process: ServerProcess) -> None:
        self._process = process
        self.received: list[tuple[int, int]] = []
        """(sender, number), in the order of arrival"""
        self.claimed: list[str] = []

    async def until_answered(self, client: Client, call: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            self._process.moved(client)
            try:
                return await call()
            except LOST:
                await asyncio.sleep(0.05)

    async def send(self, client: Client, receiver: Client, sender: int) -> None:
        for number in range(MESSAGES // SENDERS):
            messages = {receiver.user_id: {receiver.device_id: {"n": [sender, number]}}}
            path = f"/sendToDevice/test/{sender}.{number}"
            body = {"messages": messages}
            await self.until_answered(client, lambda p=path, b=body: client.put(p, b))  # type: ignore[misc]

    async def claim(self, client: Client, device: Client) -> None:
        """Claims until none is left. What a crash takes with it may be lost, never given again."""
        while (key := await self.until_answered(client, lambda: claim(client, device))) is not None:
            self.claimed.append(key)

    async def receive(self, client: Client) -> None:
        while len(self.received) < MESSAGES:
            answer = await self.until_answered(client, lambda: client.sync(timeout_ms=1000))
            events = answer.get("to_device", {}).get("events", [])
            self.received += [tuple(event["content"]["n"]) for event in events]

    async def crash(self) -> None:
        for count in CRASHES_AFTER:
            while len(self.received) < count:  # noqa: ASYNC110 - it is what the others get
                await asyncio.sleep(0.01)
            self._process.kill()
            await self._process.start()


async def test_nothing_is_lost_or_doubled_when_the_server_is_killed(
    process: ServerProcess,
) -> None:
    alice = await process.client().register("alice")
    bob = await process.client().register("bob")
    keys = {"one_time_keys": one_time_keys(*(f"key{n:03}" for n in range(KEYS)))}
    await bob.post("/keys/upload", keys)
    await bob.sync()
    life = Life(process)

    async with asyncio.timeout(120):
        await asyncio.gather(
            life.crash(),
            life.receive(bob),
            *(life.send(alice, bob, sender) for sender in range(SENDERS)),
            *(life.claim(alice, bob) for _ in range(4)),
        )

    assert len(life.received) == len(set(life.received)) == MESSAGES
    for sender in range(SENDERS):
        numbers = [number for who, number in life.received if who == sender]
        assert numbers == sorted(numbers)
    assert len(life.claimed) == len(set(life.claimed))
    assert len(life.claimed) >= KEYS - 4 * len(CRASHES_AFTER)
    # Bob's client may not have heard that its keys arrived, and sends them again.
    assert (await bob.post("/keys/upload", keys))["one_time_key_counts"] == {"signed_curve25519": 0}
    assert "to_device" not in await bob.sync()
