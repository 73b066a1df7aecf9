"""Serves a content: headers, ranges, conditions; small ones at once, large ones slice by slice.

Rules of this file: once the first byte is sent there is no error answer any more, so a failing
source ends the connection, and the client sees that the file is incomplete.
"""

from __future__ import annotations

import asyncio

import structlog
from aiohttp.web import BaseRequest, Response, StreamResponse

from homeserver.errors import MatrixError
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
        return Response(body=content.whole[start:end], status=status, headers=headers)
    return await _stream(request, content, (status, start, end), headers)


def _range(request: BaseRequest, etag: str | None) -> str | None:
    """The Range header, unless If-Range says that it is about another content."""
    condition = request.headers.get("If-Range")
    if condition is not None and condition != etag:
        return None
    return request.headers.get("Range")


async def _stream(
    request: BaseRequest,
    content: Content,
    part: tuple[int, int, int | None],
    headers: dict[str, str],
) -> StreamResponse:
    status, start, end = part
    response = StreamResponse(status=status, headers=headers)
    if end is not None:
        response.content_length = end - start
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        async for piece in content.source.slices(start, end):
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
