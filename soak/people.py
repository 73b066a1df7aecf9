"""People with one device each, who sync all the time and remember what they were told."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import aiohttp

from homeserver.json_types import JsonObject
from soak.servers import Server
from tests.support.client import Client, Refused

Answer = TypeVar("Answer")

LOST = (aiohttp.ClientError, OSError, TimeoutError, ValueError)
"""How an answer that doesn't come is told."""
AGAIN_SECONDS = 0.5
GIVEN_UP_SECONDS = 600.0
LONG_POLL_MS = 20_000
FILTER = json.dumps({"room": {"timeline": {"limit": 50}}, "presence": {"types": []}})
TO_DEVICE = "org.example.soak"


class Person:
    """`told` counts the events of the timelines, `received` the messages to the device."""

    def __init__(self, client: Client, server: Server, is_anchor: bool) -> None:
        self.client = client
        self.server = server
        self.is_anchor = is_anchor
        self.told: Counter[str] = Counter()
        self.received: Counter[int] = Counter()
        self.receipts: set[tuple[str, str]] = set()

    @property
    def user_id(self) -> str:
        return self.client.user_id

    async def follow(self) -> None:
        """Syncs until cancelled; an answer that was lost is asked for again."""
        while True:
            try:
                answer = await self.client.sync(timeout_ms=LONG_POLL_MS, filter=FILTER)
            except (*LOST, Refused):
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            self._remember(answer)

    def _remember(self, answer: JsonObject) -> None:
        for room in answer.get("rooms", {}).get("join", {}).values():
            self.told.update(event["event_id"] for event in room["timeline"]["events"])
            for event in room.get("ephemeral", {}).get("events", []):
                if event["type"] == "m.receipt":
                    self._remember_receipts(event["content"])
        for event in answer.get("to_device", {}).get("events", []):
            if event["type"] == TO_DEVICE:
                self.received[event["content"]["number"]] += 1

    def _remember_receipts(self, content: JsonObject) -> None:
        for event_id, kinds in content.items():
            self.receipts.update((user_id, event_id) for user_id in kinds.get("m.read", {}))

    async def until_answered(self, ask: Callable[[], Awaitable[Answer]]) -> tuple[Answer, bool]:
        """The answer, and whether it had to be asked for again. Raises Refused (4xx)."""
        end = time.monotonic() + GIVEN_UP_SECONDS
        again = False
        while True:
            try:
                return await ask(), again
            except Refused as refused:
                if refused.status < 500 or time.monotonic() > end:
                    raise
            except LOST:
                if time.monotonic() > end:
                    raise
            again = True
            await asyncio.sleep(AGAIN_SECONDS)

    async def once(self, ask: Awaitable[Any]) -> Any:
        """The answer, None if it is refused or the server isn't there."""
        with suppress(*LOST, Refused):
            return await ask
        return None


async def join(person: Person, room_id: str, via: str) -> None:
    """Raises Refused, and what aiohttp raises."""
    query = {"via": via, "server_name": via}
    await person.client.request("POST", f"/join/{room_id}", {}, query=query)
