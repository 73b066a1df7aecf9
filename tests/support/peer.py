"""Another server, as small as a test wants it: a key, TLS, and the paths that the test gives it.

It signs what it is told to sign, so it can lie; two servers of ours are for everything else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web
from nacl.signing import SigningKey
from yarl import URL

from homeserver.clock import now_ms
from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import encode_lenient
from homeserver.protocol.signatures import Signer, encoded_verify_key, sign_json
from homeserver.protocol.x_matrix import authorization
from tests.support.certificates import Authority

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Peer:
    """A server named `127.0.0.1:PORT` that talks to the homeserver at `url`."""

    def __init__(self, url: str, destination: str) -> None:
        self.url = url
        self.destination = destination
        self.signer = Signer("", "ed25519:peer", SigningKey.generate())
        self.server_name = ""
        self.valid_for_ms = 24 * 3600 * 1000
        self.old_verify_keys: JsonObject = {}
        self.requests: list[tuple[str, str]] = []
        self._answers: list[tuple[str, str, Answer]] = []
        self._runner: web.ServerRunner | None = None
        self._http = aiohttp.ClientSession()

    async def start(self, authority: Authority) -> None:
        self._runner = web.ServerRunner(web.Server(self._serve))
        await self._runner.setup()
        context = authority.server_context("127.0.0.1")
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = self._runner.addresses[0][1]
        self.server_name = f"127.0.0.1:{port}"
        self.signer = Signer(self.server_name, "ed25519:peer", self.signer.key)

    async def stop(self) -> None:
        await self._http.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def answer(
        self, method: str, path: str, result: JsonObject | Answer, status: int = 200
    ) -> None:
        """From now on `path` (a prefix) is answered so; the newest answer wins."""

        async def fixed(request: web.Request) -> web.StreamResponse:
            return web.json_response(result, status=status)

        self._answers.insert(0, (method, path, result if callable(result) else fixed))

    def asked(self, path: str) -> int:
        """How many requests came for paths that begin so."""
        return sum(requested.startswith(path) for _, requested in self.requests)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append((request.method, request.raw_path))
        for method, path, answer in self._answers:
            if method == request.method and request.raw_path.startswith(path):
                return await answer(request)  # type: ignore[arg-type]
        if request.path.startswith("/_matrix/key/v2/server"):
            return web.json_response(self.published_keys())
        return web.json_response({"errcode": "M_UNRECOGNIZED", "error": "?"}, status=404)

    def published_keys(self) -> JsonObject:
        keys = {
            "server_name": self.server_name,
            "verify_keys": {self.signer.key_id: {"key": encoded_verify_key(self.signer.key)}},
            "old_verify_keys": self.old_verify_keys,
            "valid_until_ts": now_ms() + self.valid_for_ms,
        }
        return sign_json(keys, self.server_name, self.signer.key_id, self.signer.key)

    def header(self, method: str, path: str, content: Any = None) -> str:
        return authorization(self.signer, method, path, self.destination, content)

    async def request(
        self, method: str, path: str, content: Any = None, header: str | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of a request signed by this peer."""
        if header is None:
            header = self.header(method, path, content)
        headers = {"Authorization": header} if header else {}
        data = None if content is None else encode_lenient(content)
        url = URL(self.url + path, encoded=True)
        async with (
            asyncio.timeout(30),
            self._http.request(method, url, data=data, headers=headers) as response,
        ):
            return response.status, json.loads(await response.read())
