"""An application service as a real server: it keeps what it is sent and answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml
from aiohttp import web

from homeserver.json_types import JsonObject
from tests.support.client import DEADLINE, Client
from tests.support.server import RunningServer

AS_TOKEN, HS_TOKEN = "as token", "hs token"


class AppServiceServer:
    """`transactions` are those that it took, by id; `bodies` in their order."""

    def __init__(self) -> None:
        self.transactions: dict[str, JsonObject] = {}
        self.asked: list[tuple[str, JsonObject]] = []
        self.queries: list[str] = []
        self.status = 200
        self.loses_answers = False
        """It takes transactions also where it answers with an error."""
        self.is_old = False
        """It serves the paths of before the specification; `missed` counts what it doesn't know."""
        self.missed = 0
        self.trouble = ""
        """hangs, huge or redirect: how it mistreats who brings transactions."""
        self._let_go = asyncio.Event()
        self.known: set[str] = set()
        self.on_query: Callable[[str], Any] | None = None
        self.third_party: dict[str, Any] = {}
        self.pings: list[JsonObject] = []
        self.port = 0
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen; at the same port again after a stop."""
        app = web.Application()
        prefix = "" if self.is_old else "/_matrix/app/v1"
        app.router.add_put(f"{prefix}/transactions/{{txn}}", self._transaction)
        app.router.add_get(f"{prefix}/users/{{id}}", self._query)
        app.router.add_get(f"{prefix}/rooms/{{id}}", self._query)
        app.router.add_get("/_matrix/app/v1/thirdparty/{path:.*}", self._third_party)
        app.router.add_post("/_matrix/app/v1/ping", self._ping)
        app.router.add_route("*", "/{path:.*}", self._unknown)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self._let_go.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def registration(self, **more: Any) -> JsonObject:
        """Its registration: users `@_x_…` and aliases `#_x_…` are its own."""
        return {
            "id": "x",
            "url": f"http://127.0.0.1:{self.port}",
            "as_token": AS_TOKEN,
            "hs_token": HS_TOKEN,
            "sender_localpart": "xbot",
            "namespaces": {
                "users": [{"exclusive": True, "regex": "@_x_.*:hs\\.test"}],
                "aliases": [{"exclusive": True, "regex": "#_x_.*:hs\\.test"}],
                "rooms": [],
            },
            **more,
        }

    def write(self, directory: Path, **more: Any) -> str:
        """Write the registration to a file; gives its path."""
        path = directory / "registration.yaml"
        path.write_text(yaml.safe_dump(self.registration(**more)))
        return str(path)

    async def _transaction(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {HS_TOKEN}":
            return web.json_response({}, status=403)
        body, txn = await request.json(), request.match_info["txn"]
        async with self._changed:
            self.asked.append((txn, body))
            if self.loses_answers or (self.status == 200 and not self.trouble):
                self.transactions.setdefault(txn, body)
            self._changed.notify_all()
        if self.trouble == "hangs":
            await self._let_go.wait()
        if self.trouble == "huge":
            return web.Response(body=b" " * 10_000_000)
        if self.trouble == "redirect":
            return web.Response(status=307, headers={"Location": str(request.url)})
        return web.json_response({}, status=self.status)

    async def _unknown(self, request: web.Request) -> web.Response:
        self.missed += 1
        return web.json_response({"errcode": "M_UNRECOGNIZED"}, status=404)

    async def _query(self, request: web.Request) -> web.Response:
        asked = unquote(request.match_info["id"])
        self.queries.append(asked)
        if asked not in self.known:
            return web.json_response({}, status=404)
        if self.on_query is not None:
            await self.on_query(asked)
        return web.json_response({})

    async def _third_party(self, request: web.Request) -> web.Response:
        key = request.match_info["path"]
        if request.query_string:
            key += "?" + request.query_string
        return web.json_response(self.third_party.get(key), status=200)

    async def _ping(self, request: web.Request) -> web.Response:
        self.pings.append(await request.json())
        return web.json_response({}, status=self.status)

    def got(self, kind: str = "events") -> list[JsonObject]:
        """All events (or ephemeral ones, ...) of the transactions, in order."""
        return [e for body in self.transactions.values() for e in body.get(kind, ())]

    def bodies(self) -> list[str]:
        """The texts of the messages that it was sent."""
        return [e["content"]["body"] for e in self.got() if e["type"] == "m.room.message"]

    async def wait_until(self, holds: Callable[[], Any]) -> None:
        """Fails after the deadline."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(holds)


class Ghost(Client):
    """Acts as a user of the application service by its token."""

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, str] | None = None,
        data: bytes | None = None,
    ) -> Any:
        query = {"user_id": self.user_id, **(query or {})} if self.user_id else query
        return await super().request(method, path, body, query=query, data=data)


def as_user(server: RunningServer, user_id: str = "") -> Ghost:
    """The application service as one of its users (or, without a user id, as its own)."""
    anonymous = server.anonymous()
    ghost = Ghost(anonymous.http, anonymous.url)
    ghost.token, ghost.user_id = AS_TOKEN, user_id
    return ghost


async def ghost(server: RunningServer, name: str = "_x_ghost") -> Ghost:
    """A registered user of the application service."""
    await as_user(server).post(
        "/register",
        {"type": "m.login.application_service", "username": name, "inhibit_login": True},
    )
    return as_user(server, f"@{name}:hs.test")
