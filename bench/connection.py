"""A lean HTTP/1.1 client: its own cost must not be measured as the server's latency.

One request at a time on one kept-alive connection; answers with a Content-Length only.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast
from urllib.parse import urlsplit


class Failed(Exception):
    """The server answered with an error."""


class Connection(asyncio.Protocol):
    """One connection to the server, for one user."""

    def __init__(self, host: str, token: str) -> None:
        self._head_end = (
            f" HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            + (f"Authorization: Bearer {token}\r\n" if token else "")
            + "Content-Length: "
        )
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._received = bytearray()
        self._expected = -1
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, url: str, token: str = "") -> Connection:
        where = urlsplit(url)
        _, protocol = await asyncio.get_running_loop().create_connection(
            lambda: cls(where.netloc, token), where.hostname or "", where.port or 80
        )
        return protocol

    async def raw(self, method: str, target: str, body: bytes = b"") -> bytes:
        """The answer's body. Raises Failed unless the status is 200."""
        assert self._transport is not None
        async with self._turn:
            self._answer = asyncio.get_running_loop().create_future()
            self._transport.write(
                f"{method} {target}{self._head_end}{len(body)}\r\n\r\n".encode() + body
            )
            return await self._answer

    async def json(self, method: str, target: str, body: Any = None) -> Any:
        """The decoded answer; `target` is below /_matrix/client/v3."""
        data = b"" if body is None else json.dumps(body).encode()
        return json.loads(await self.raw(method, "/_matrix/client/v3" + target, data))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one but in name

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._expected < 0:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end]).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            self._expected = end + 4 + length
            self._body_at = end + 4
        if len(self._received) >= self._expected:
            self._finish()

    def _finish(self) -> None:
        status = bytes(self._received[9:12])
        body = bytes(self._received[self._body_at : self._expected])
        del self._received[: self._expected]
        self._expected = -1
        if self._answer is None or self._answer.done():
            return
        if status == b"200":
            self._answer.set_result(body)
        else:
            self._answer.set_exception(Failed(f"{status.decode()} {body[:300].decode()}"))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Failed(f"connection lost: {error}"))
