"""Requests to application services over HTTP, bounded in time and size; redirects aren't followed.

application-service-api#server-admin-style-permissions: their URLs are the admin's choice, so they
may be on this machine.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from homeserver.json_types import JsonObject
from homeserver.protocol.app_services import AppService
from homeserver.remote.guarded_client import TooMuch, read_at_most

MAX_ANSWER_BYTES = 1024 * 1024
QUERY_SECONDS = 10.0
TRANSACTION_SECONDS = 60.0
API = "/_matrix/app/v1"

_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError, TooMuch)


class AppServiceFailed(Exception):
    """It can't be reached, or answered with an error (`status`, `body`)."""

    def __init__(self, reason: str, status: int | None = None, body: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.body = body


class AppServiceClient:
    """`session` has no guard against private addresses."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

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
        """Ask whether the user exists, whom it then has registered."""
        return await self._exists(service, f"/users/{quote(user_id, safe='')}")

    async def has_alias(self, service: AppService, alias: str) -> bool:
        """Ask whether the alias exists, which it then has made."""
        return await self._exists(service, f"/rooms/{quote(alias, safe='')}")

    async def third_party(self, service: AppService, path: str, query: JsonObject) -> Any:
        """What `/thirdparty/...` answers; None if there is nothing, or it failed."""
        try:
            return msgspec.json.decode(
                await self._request(service, "GET", f"/thirdparty/{path}", query=query)
            )
        except (AppServiceFailed, msgspec.DecodeError, UnicodeDecodeError):
            return None

    async def _exists(self, service: AppService, path: str) -> bool:
        try:
            await self._request(service, "GET", path)
        except AppServiceFailed:
            return False
        return True

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
        if service.url is None:
            raise AppServiceFailed("it has no URL")
        headers = {"Authorization": f"Bearer {service.hs_token}"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with self._session.request(
                method,
                f"{service.url}{API}{path}",
                data=data,
                params=query,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=QUERY_SECONDS),
            ) as response:
                answer = await read_at_most(response, MAX_ANSWER_BYTES)
        except _FAILURES as error:
            raise AppServiceFailed(str(error) or type(error).__name__) from error
        if response.status != 200:
            text = answer.decode("utf-8", "replace")
            raise AppServiceFailed(f"status {response.status}", response.status, text)
        return answer
