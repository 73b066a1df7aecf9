"""Members who wait in a long-poll, and one message until all of them have it."""

from __future__ import annotations

import asyncio

from bench.connection import Connection
from bench.people import User

SYNC = "/_matrix/client/v3/sync"
DELIVERY_SECONDS = 30.0


class Poller:
    """A member who long-polls for ever and tells when a text has arrived."""

    def __init__(self, user: User, since: str) -> None:
        self._user = user
        self._since = since
        self._task: asyncio.Task[None] | None = None
        self.awaited = b""
        self.arrived = asyncio.Event()

    async def start(self, url: str) -> None:
        connection = await Connection.open(url, self._user.token)
        self._task = asyncio.create_task(self._poll(connection))

    async def _poll(self, connection: Connection) -> None:
        try:
            while True:
                body = await connection.raw("GET", f"{SYNC}?timeout=60000&since={self._since}")
                self._since = body.partition(b'"next_batch":"')[2].partition(b'"')[0].decode()
                if self.awaited and self.awaited in body:
                    self.arrived.set()
        finally:
            connection.close()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def deliver(sender: User, room_id: str, pollers: list[Poller], text: str) -> None:
    """Sends a message; returns when every poller has it. Raises TimeoutError."""
    for poller in pollers:
        poller.arrived.clear()
        poller.awaited = text.encode()
    async with asyncio.timeout(DELIVERY_SECONDS):
        await sender.send(room_id, text)
        for poller in pollers:
            await poller.arrived.wait()
