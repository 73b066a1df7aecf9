"""Requests to application services over HTTP, bounded in time and size; redirects aren't followed.

application-service-api#server-admin-style-permissions: their URLs are the admin's choice, so they
may be on this machine.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from homeserver.json_types import BAD_JSON, JsonObject
from homeserver.protocol.app_services import AppService
from homeserver.remote.guarded_client import TooMuch, read_at_most

MAX_ANSWER_BYTES = 1024 * 1024
QUERY_SECONDS = 10.0
TRANSACTION_SECONDS = 60.0
TRIES = 3
BETWEEN_TRIES_SECONDS = 0.2
API = "/_matrix/app/v1"
OLD_API = {"transactions": "", "users": "", "rooms": "", "thirdparty": "/_matrix/app/unstable"}
"""What stood before the paths of these, "in the wild for a significant amount of time"."""
OLD_FOR_SECONDS = 3600.0
UNKNOWN_PATH = (404, 405, 501)

_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError, TooMuch)


class AppServiceFailed(Exception):
    """It can't be reached, or answered with an error (`status`, `body`)."""

    def __init__(self, reason: str, status: int | None = None, body: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.body = body


class _Request(Struct, frozen=True):
    """`seconds`: so long it may take."""

    method: str
    data: bytes | None
    query: JsonObject
    seconds: float

    def with_token(self, service: AppService) -> _Request:
        """As services take it that know no Authorization header."""
        return replace(self, query={**self.query, "access_token": service.hs_token})


class AppServiceClient:
    """`session` has no guard against private addresses."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._old_until: dict[str, float] = {}

    async def send_transaction(self, service: AppService, txn_id: int, body: bytes) -> None:
        """Raises AppServiceFailed unless it took the transaction."""
        path = f"/transactions/{txn_id}"
        await self._request(service, "PUT", path, data=body, seconds=TRANSACTION_SECONDS)

    async def ping(self, service: AppService, transaction_id: str | None) -> None:
        """Raises AppServiceFailed, TimeoutError."""
        body = {} if transaction_id is None else {"transaction_id": transaction_id}
        try:
            async with asyncio.timeout(QUERY_SECONDS):
                await self._request(service, "POST", "/ping", data=msgspec.json.encode(body))
        except AppServiceFailed as failed:
            if isinstance(failed.__cause__, TimeoutError):
                raise failed.__cause__ from failed
            raise

    async def has_user(self, service: AppService, user_id: str) -> bool:
        """Ask whether the user exists, whom it then has registered. Raises AppServiceFailed."""
        return await self._exists(service, f"/users/{quote(user_id, safe='')}")

    async def has_alias(self, service: AppService, alias: str) -> bool:
        """Ask whether the alias exists, which it then has made. Raises AppServiceFailed."""
        return await self._exists(service, f"/rooms/{quote(alias, safe='')}")

    async def third_party(self, service: AppService, path: str, query: JsonObject) -> Any:
        """What `/thirdparty/...` answers; None if there is nothing, or it failed."""
        try:
            return msgspec.json.decode(
                await self._request(service, "GET", f"/thirdparty/{path}", query=query)
            )
        except (AppServiceFailed, *BAD_JSON):
            return None

    async def _exists(self, service: AppService, path: str) -> bool:
        """ "If the homeserver does not receive a response to this request, the homeserver should
        retry several times before timing out." application-service-api#querying"""
        deadline = time.monotonic() + QUERY_SECONDS
        for number in range(1, TRIES + 1):
            try:
                await self._request(
                    service, "GET", path, seconds=max(0.1, deadline - time.monotonic())
                )
            except AppServiceFailed as failed:
                if failed.status is not None:
                    return False
                if number == TRIES or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(BETWEEN_TRIES_SECONDS)
            else:
                return True
        return False

    async def _request(
        self,
        service: AppService,
        method: str,
        path: str,
        *,
        data: bytes | None = None,
        query: JsonObject | None = None,
        seconds: float = QUERY_SECONDS,
    ) -> bytes:
        """At the specified path, or where older services have it.

        application-service-api#legacy-routes
        """
        request = _Request(method, data, query or {}, seconds)
        old_prefix = OLD_API.get(path.split("/")[1])
        if old_prefix is None:
            return await self._ask(service, API + path, request)
        first, second = (API + path, request), (old_prefix + path, request.with_token(service))
        if self._old_until.get(service.id, 0) > time.monotonic():
            first, second = second, first
        try:
            return await self._ask(service, *first)
        except AppServiceFailed as failed:
            if failed.status not in UNKNOWN_PATH:
                raise
            try:
                answer = await self._ask(service, *second)
            except AppServiceFailed:
                raise failed from None
        # "Homeservers should periodically try again for the newer endpoints"
        is_old = not second[0].startswith(API)
        self._old_until[service.id] = time.monotonic() + OLD_FOR_SECONDS if is_old else 0
        return answer

    async def _ask(self, service: AppService, path: str, request: _Request) -> bytes:
        if service.url is None:
            raise AppServiceFailed("it has no URL")
        headers = {"Authorization": f"Bearer {service.hs_token}"}
        if request.data is not None:
            headers["Content-Type"] = "application/json"
        timeout = aiohttp.ClientTimeout(total=request.seconds, sock_connect=QUERY_SECONDS)
        try:
            async with self._session.request(
                request.method,
                f"{service.url}{path}",
                data=request.data,
                params=request.query,
                headers=headers,
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                answer = await read_at_most(response, MAX_ANSWER_BYTES)
        except _FAILURES as error:
            raise AppServiceFailed(str(error) or type(error).__name__) from error
        if response.status != 200:
            text = answer.decode("utf-8", "replace")
            raise AppServiceFailed(f"status {response.status}", response.status, text)
        return answer
