"""The homeserver in this process: real HTTP on a port from the system, a database of its own."""

from __future__ import annotations

import itertools
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp

from homeserver.app import Homeserver, running
from homeserver.config_file import decode_config
from homeserver.json_types import JsonObject
from tests.support.client import Client

SHARED_SECRET = "the tests' shared secret"


def settings(database: str, **more: Any) -> JsonObject:
    """A config for tests: open, without limits, with cheap passwords; sections are merged."""
    values: JsonObject = {
        "server_name": "hs.test",
        "database": database,
        "database_connections": 8,
        "listeners": [{"port": 0, "resources": ["client", "federation", "metrics"]}],
        "registration": {
            "enabled": True,
            "requires_token": False,
            "shared_secret": SHARED_SECRET,
            "guests": True,
        },
        "password": {"bcrypt_rounds": 4},
        "rate_limits": {"enabled": False},
        "outgoing": {"allowed_private_ranges": ["127.0.0.0/8"]},
    }
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            values[key] = {**values[key], **value}
        else:
            values[key] = value
    return values


class RunningServer:
    """A homeserver that a test talks to; `app` is what `app.running` gives."""

    _names = itertools.count(1)

    def __init__(self, values: JsonObject, directory: Path) -> None:
        self.config = decode_config(values, directory, {})
        self._running: AbstractAsyncContextManager[Homeserver] | None = None
        self._http: aiohttp.ClientSession | None = None
        self.app: Homeserver | None = None

    @property
    def url(self) -> str:
        """Where its first listener is."""
        assert self.app is not None
        return self.app.urls[0]

    async def start(self) -> None:
        self._http = self._http or aiohttp.ClientSession()
        self._running = running(self.config)
        self.app = await self._running.__aenter__()

    async def stop(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None
        if self._running is not None:
            ending, self._running, self.app = self._running, None, None
            await ending.__aexit__(None, None, None)

    async def restart(self) -> None:
        """Ends it cleanly and starts it again on the same data, at another port."""
        await self.stop()
        await self.start()

    def moved(self, client: Client) -> Client:
        """`client` (from before a restart) at the server's present address."""
        assert self._http is not None
        client.http, client.url = self._http, self.url
        return client

    def anonymous(self) -> Client:
        """A client without an account."""
        assert self._http is not None
        return Client(self._http, self.url)

    async def user(self, username: str | None = None) -> Client:
        """A client with a new account; without a name, one that nobody has."""
        return await self.anonymous().register(username or f"user{next(self._names)}")
