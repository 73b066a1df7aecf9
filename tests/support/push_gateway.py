"""A push gateway as a real server: it keeps what it is told, and answers as it is set to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from homeserver.json_types import JsonObject
from tests.support.client import DEADLINE, Client

PATH = "/_matrix/push/v1/notify"


class PushGateway:
    """`told` are the notifications that it took; `asked` counts all requests."""

    def __init__(self) -> None:
        self.told: list[JsonObject] = []
        self.asked = 0
        self.status = 200
        self.rejected: list[str] = []
        self.refused: set[str] = set()
        """For these pushkeys it answers 400."""
        self.redirect_to: str | None = None
        self.huge = False
        self.hangs = False
        self._let_go = asyncio.Event()
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    async def start(self) -> None:
        """Listen; at the same port again after a stop."""
        app = web.Application()
        app.router.add_post(PATH, self._notify)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self._let_go.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _notify(self, request: web.Request) -> web.StreamResponse:
        body: Any = await request.json()
        self.asked += 1
        if body["notification"]["devices"][0]["pushkey"] in self.refused:
            return web.json_response({"errcode": "M_BAD_JSON"}, status=400)
        async with self._changed:
            if self.status == 200 and self.redirect_to is None and not self.hangs:
                self.told.append(body["notification"])
            self._changed.notify_all()
        if self.hangs:
            await self._let_go.wait()
        if self.redirect_to is not None:
            return web.Response(status=307, headers={"Location": self.redirect_to})
        if self.huge:
            return web.Response(body=b" " * 10_000_000)
        return web.json_response({"rejected": self.rejected}, status=self.status)

    async def wait_for(self, count: int) -> list[JsonObject]:
        """What it was told of events, once it is so many; fails after the deadline."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(lambda: len(self.events) >= count)
        return self.events

    async def wait_until_asked(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(lambda: self.asked >= count)

    @property
    def events(self) -> list[JsonObject]:
        """What it was told of events, without mere counts."""
        return [told for told in self.told if "event_id" in told]

    async def set_pusher(self, client: Client, pushkey: str = "key", **more: Any) -> None:
        """Have a client make a pusher that leads here; `data` is added to."""
        body = {
            "kind": "http",
            "app_id": "org.example.app",
            "pushkey": pushkey,
            "app_display_name": "App",
            "device_display_name": "Phone",
            "lang": "en",
            **more,
        }
        body["data"] = {"url": self.url, **more.get("data", {})}
        await client.post("/pushers/set", body)


@asynccontextmanager
async def push_gateway() -> AsyncIterator[PushGateway]:
    gateway = PushGateway()
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()
