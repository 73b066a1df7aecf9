"""What goes back: JSON, errors, and the headers that every answer has.

client-server-api#web-browser-clients
"""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Any

import msgspec
from aiohttp import HttpVersion11
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web import BaseRequest, Response, StreamResponse
from multidict import CIMultiDict

from homeserver.errors import MatrixError

COMMON_HEADERS = CIMultiDict(
    {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE, OPTIONS",
        "Access-Control-Allow-Headers": "X-Requested-With, Content-Type, Authorization",
        "Access-Control-Expose-Headers": "Retry-After",
        "Cache-Control": "no-store",
        "Server": "homeserver",
    }
)
JSON_HEADERS = CIMultiDict({"Content-Type": "application/json", **COMMON_HEADERS})

SMALL = 65_536
"""Bytes that are handed to the system without waiting for the client to read them."""
PATIENCE_SECONDS = 60.0
SLOWEST_BYTES_PER_SECOND = 4096

_encode = msgspec.json.Encoder().encode
_HEAD = (
    "HTTP/1.1 200 OK\r\n" + "".join(f"{n}: {v}\r\n" for n, v in JSON_HEADERS.items()) + "Date: "
).encode()


class Request(BaseRequest):
    """A request whose answers all get the common headers, streamed ones and aiohttp's own too."""

    async def _prepare_hook(self, response: StreamResponse) -> None:
        headers = response.headers
        if "Access-Control-Allow-Origin" not in headers:
            for name, value in COMMON_HEADERS.items():
                headers.setdefault(name, value)


class JsonAnswer(StreamResponse):
    """200 with a JSON body, head and body in one write.

    It costs half of aiohttp's `Response`, which builds and serialises its headers each time. And it
    lets its body go: a connection holds its last answer until the next one is there, which may be
    a long poll away.
    """

    def __init__(self, body: bytes) -> None:
        # Not aiohttp's __init__, whose headers and cookies nobody asks for here.
        self._json = body

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter:
        self._req = request
        self._keep_alive = request.keep_alive
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        request = self._req
        if request is None:
            return
        self._req = None
        connection = b""
        if not self._keep_alive:
            connection = b"\r\nConnection: close"
        elif request.version < HttpVersion11:
            connection = b"\r\nConnection: keep-alive"
        body, self._json = self._json, b""
        length = len(body)
        if request.method == "HEAD":
            body = b""
        head = b"%b%b\r\nContent-Length: %d%b\r\n\r\n" % (_HEAD, _date(), length, connection)
        if length < SMALL and not request.protocol.writing_paused:
            await request.writer.write(head + body)
        else:
            await _write_patiently(request, head + body)


class BytesAnswer(Response):
    """aiohttp's answer of a whole body, which it lets go once it is written (see JsonAnswer)."""

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)
        self.body = None


async def _write_patiently(request: BaseRequest, data: bytes) -> None:
    """Write what a client may read slowly; one that reads next to nothing is disconnected.

    Otherwise clients that ask and never read would keep as many answers in memory as they like.
    """
    try:
        async with asyncio.timeout(PATIENCE_SECONDS + len(data) / SLOWEST_BYTES_PER_SECOND):
            await request.writer.write(data)
            await request.writer.drain()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("The client does not read its answer") from None


class _Date:
    """The present time for the header `Date`, formatted once a second."""

    second = 0
    text = b""


def _date() -> bytes:
    now = int(time.time())
    if _Date.second != now:
        _Date.second, _Date.text = now, formatdate(now, usegmt=True).encode()
    return _Date.text


def json_answer(result: Any) -> StreamResponse:
    """The answer for a handler's result: an object, ready JSON bytes, or a response as it is."""
    if isinstance(result, StreamResponse):
        return result
    return JsonAnswer(result if isinstance(result, bytes) else _encode(result))


def error_answer(error: MatrixError) -> Response:
    """The specification's standard error response."""
    headers = CIMultiDict(JSON_HEADERS)
    headers.update(error.headers)
    return Response(body=_encode(error.body()), status=error.status, headers=headers)


def preflight_answer() -> Response:
    """What a browser gets that asks (OPTIONS) whether it may call."""
    return Response(status=204, headers=COMMON_HEADERS)
