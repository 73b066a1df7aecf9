"""Serves a content: headers, ranges, conditions; small ones at once, large ones slice by slice.

Rules of this file: once the first byte is sent there is no error answer any more, so a failing
source ends the connection, and the client sees that the file is incomplete.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog
from aiohttp.web import BaseRequest, Response, StreamResponse

from homeserver.errors import MatrixError
from homeserver.http.answer import BytesAnswer
from homeserver.http.content_headers import (
    CACHE_PRIVATE,
    CACHE_PUBLIC,
    Unsatisfiable,
    byte_range,
    file_headers,
)
from homeserver.services.media.content import Content

STALL_SECONDS = 60.0

log = structlog.get_logger()


async def content_answer(
    request: BaseRequest, content: Content, file_name: str | None = None
) -> StreamResponse:
    """The answer to a GET or HEAD of `content`; `file_name` overrides the content's own."""
    headers = file_headers(content.content_type, file_name or content.file_name)
    headers["Cache-Control"] = CACHE_PUBLIC if content.is_public else CACHE_PRIVATE
    if content.etag is not None:
        headers["ETag"] = f'"{content.etag}"'
        if headers["ETag"] in request.headers.get("If-None-Match", ""):
            return Response(status=304, headers=headers)
    status, start, end = 200, 0, content.size
    if content.size is not None:
        headers["Accept-Ranges"] = "bytes"
        try:
            part = byte_range(_range(request, headers.get("ETag")), content.size)
        except Unsatisfiable:
            headers["Content-Range"] = f"bytes */{content.size}"
            return Response(status=416, headers=headers)
        if part is not None:
            status, (start, end) = 206, part
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{content.size}"
    if content.whole is not None:
        return BytesAnswer(body=content.whole[start:end], status=status, headers=headers)
    response = StreamResponse(status=status, headers=headers)
    if end is not None:
        response.content_length = end - start
    return await _stream(request, response, content.source.slices(start, end))


async def parts_answer(request: BaseRequest, content: Content, boundary: str) -> StreamResponse:
    """The answer to another server: an empty JSON object and `content`, as multipart/mixed."""
    headers = file_headers(content.content_type, content.file_name)
    head = (
        f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\n"
        f"Content-Type: {headers['Content-Type']}\r\n"
        f"Content-Disposition: {headers['Content-Disposition']}\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/mixed; boundary={boundary}"}
    if content.whole is not None:
        return BytesAnswer(body=head + content.whole + tail, headers=kind)
    assert content.size is not None, "our own media are in the store"
    response = StreamResponse(headers=kind)
    response.content_length = len(head) + content.size + len(tail)

    async def pieces() -> AsyncIterator[bytes]:
        yield head
        async for piece in content.source.slices(0, content.size):
            yield piece
        yield tail

    return await _stream(request, response, pieces())


def thumbnail_name(content: Content) -> str:
    """`thumbnail.png` and the like."""
    return f"thumbnail.{content.content_type.rpartition('/')[2]}"


def _range(request: BaseRequest, etag: str | None) -> str | None:
    """The Range header, unless If-Range says that it is about another content."""
    condition = request.headers.get("If-Range")
    if condition is not None and condition != etag:
        return None
    return request.headers.get("Range")


async def _stream(
    request: BaseRequest, response: StreamResponse, pieces: AsyncIterator[bytes]
) -> StreamResponse:
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        async for piece in pieces:
            async with asyncio.timeout(STALL_SECONDS):
                await response.write(piece)
        await response.write_eof()
    except (MatrixError, OSError) as error:
        # The source failed, or the client is gone or doesn't read: either way this is the end.
        log.debug("serving a file ended early", error=str(error))
        _abort(request)
    return response


def _abort(request: BaseRequest) -> None:
    transport = request.transport
    if transport is not None:
        transport.abort()
